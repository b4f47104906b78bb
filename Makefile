# Everything runs in .venv, which is made on demand and brought up to date whenever pyproject.toml
# changes. ARGS is passed on: make demo ARGS="--help", make test ARGS="-k journal -x".

PYTHON ?= python3
ARGS ?=
FAULT_SEEDS ?= 50
KILLS ?= 10000
WORLDS ?= 20
SECONDS ?= 20
JOBS ?= 2

VENV := .venv
FRAMEWORKS := .venv-frameworks
BIN := $(VENV)/bin

# One seed for a whole run; printed, so that a failure can be repeated with SEED=...
ifndef SEED
SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif
export LIVINGAI_SEED := $(SEED)

# Long targets raise the limits that pyproject.toml sets for a single test.
LONG := --timeout=7200 -o faulthandler_timeout=3600

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test test-frameworks coverage lint format bench bench-frameworks bench-gate bench-quick \
	docs drawings man faults soak simulate fuzz mutants build clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.dev ## Make .venv with everything needed to develop

demo: $(VENV)/.main ## See it work (installs the main dependencies only)
	$(BIN)/python -m livingai.demo $(ARGS)

test: $(VENV)/.dev ## Run the tests, JOBS=2 at a time; repeat a run with SEED=...
	@echo "seed: $(SEED)   (repeat with: make $@ SEED=$(SEED))"
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --hypothesis-seed=$(SEED) $(ARGS)

# The frameworks exclude each other, so there are two environments; both are tried even if the first
# fails. A test whose framework is in the other one is skipped there.
test-frameworks: $(FRAMEWORKS)-a/.ready $(FRAMEWORKS)-b/.ready ## Test the adapters with their frameworks
	@status=0; for each in a b; do \
		echo "$(FRAMEWORKS)-$$each"; \
		$(FRAMEWORKS)-$$each/bin/python -m pytest -n $(JOBS) --dist worksteal $(or $(ARGS),tests/frameworks) \
			|| status=$$?; \
	done; exit $$status

# Measured in all processes but those that end by SIGKILL, which write nothing. The table comes even
# if a test fails.
coverage: $(VENV)/.dev ## Run the tests (ARGS="tests/unit") and show which lines no process has run
	rm -rf .coverage
	mkdir .coverage
	$(BIN)/python -m coverage run -m pytest --hypothesis-seed=$(SEED) $(ARGS); \
		status=$$?; $(BIN)/python -m tests.covered; exit $$status

lint: $(VENV)/.dev ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code and fix what can be fixed safely
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Run the benchmark
	$(BIN)/python -m bench $(ARGS)

bench-gate: $(VENV)/.dev ## Compare CPU per save with an earlier commit
	$(BIN)/python -m bench.gate $(ARGS)

bench-quick: $(VENV)/.dev ## Run the benchmark once, with a fifth of the steps
	$(BIN)/python -m bench --quick $(ARGS)

# Each environment measures the frameworks that it has.
bench-frameworks: $(FRAMEWORKS)-a/.ready $(FRAMEWORKS)-b/.ready ## Measure livingai in frameworks, beside what they have
	$(FRAMEWORKS)-a/bin/python -m pip install --quiet --requirement bench/frameworks/requirements.txt
	@status=0; for each in a b; do \
		echo "$(FRAMEWORKS)-$$each"; \
		$(FRAMEWORKS)-$$each/bin/python -m bench.frameworks $(ARGS) || status=$$?; \
	done; exit $$status

docs: $(VENV)/.docs ## Build the site of the documentation into site/ (whatever is not right fails)
	$(BIN)/python -m docs.pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

man: $(VENV)/.dev ## Make the manual page, build/man/livingai.1, from the texts of the commands
	$(BIN)/python -m docs.manual

drawings: $(VENV)/.dev ## Make the drawings of docs/ARCHITECTURE.md anew from its tables
	$(BIN)/python -m docs.draw

faults: export LIVINGAI_FAULT_SEEDS := $(FAULT_SEEDS)
faults: export LIVINGAI_TRIES := 200
faults: $(VENV)/.dev ## Run the long fault campaigns (FAULT_SEEDS=50)
	@echo "seed: $(SEED)   (repeat with: make $@ SEED=$(SEED) FAULT_SEEDS=$(FAULT_SEEDS))"
	$(BIN)/python -m pytest -m faults $(LONG) --hypothesis-seed=$(SEED) $(ARGS)

soak: export LIVINGAI_KILLS := $(KILLS)
soak: $(VENV)/.dev ## Kill KILLS=10000 processes under load, and judge what was logged (hours)
	@echo "seed: $(SEED)   (repeat with: make $@ SEED=$(SEED) KILLS=$(KILLS))"
	$(BIN)/python -m pytest -m faults -s $(LONG) tests/integration/service/test_soak.py $(ARGS)

simulate: $(VENV)/.dev ## Interleave agents, service and deaths in one process (WORLDS=20)
	$(BIN)/python -m tests.simulation --seed $(SEED) --worlds $(WORLDS) $(ARGS)

fuzz: $(VENV)/.dev ## Look for bytes that a reader must not take as it does (SECONDS=20 for each)
	$(BIN)/python -m tests.fuzz --seed $(SEED) --seconds $(SECONDS) $(ARGS)

mutants: $(VENV)/.dev ## Put deliberate faults in, and see that the tests notice them
	$(BIN)/python -m tests.mutants $(ARGS)

# The wheel is built from the sdist, so that the sdist is known to be complete.
build: $(VENV)/.dev ## Build the sdist and the wheel into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build -t sdist -d dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist dist/livingai-*.tar.gz
	@ls dist

clean: ## Remove everything that was made here, .venv too
	rm -rf $(VENV) $(FRAMEWORKS)-* build dist site .fuzz .hypothesis .mypy_cache .pytest_cache .ruff_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the virtual environment ------------------------------------------------------------------

# A name can be on PATH and still not run (version managers put stubs there), so each is tried.
define USABLE
import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < $(1))
endef

$(VENV)/.made:
	@for python in "$(PYTHON)" python3.13 python3.12 python3.11; do \
		if "$$python" -c '$(call USABLE,(4,))' >/dev/null 2>&1; then \
			echo "making $(VENV) with $$("$$python" --version)"; \
			"$$python" -m venv --clear $(VENV) && touch $@; exit; \
		fi; \
	done; \
	echo "livingai needs Python 3.11 or newer, with its venv module, and found none:" \
		"name one with 'make PYTHON=/path/to/python3'." >&2; \
	exit 1

$(VENV)/.main: $(VENV)/.made pyproject.toml livingai/_version.py
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml livingai/_version.py
	$(BIN)/python -m pip install --quiet --editable '.[bench,test,test-running,lint]'
	@touch $@ $(VENV)/.main

$(VENV)/.docs: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

# CrewAI has no release for Python 3.14.
$(FRAMEWORKS)-%/.ready: tests/frameworks/requirements-%.txt pyproject.toml livingai/_version.py
	@for python in "$(PYTHON)" python3.13 python3.12 python3.11; do \
		if "$$python" -c '$(call USABLE,(3, 14))' >/dev/null 2>&1; then \
			echo "making $(@D) with $$("$$python" --version)"; \
			"$$python" -m venv --clear $(@D) || exit; \
			$(@D)/bin/python -m pip install --quiet --requirement $< --editable '.[test]' || exit; \
			touch $@; exit; \
		fi; \
	done; \
	echo "the frameworks need Python 3.11 to 3.13, with its venv module, and none was found:" \
		"name one with 'make PYTHON=/path/to/python3.13 $(@D)/.ready'." >&2; \
	exit 1
