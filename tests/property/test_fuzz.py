"""The coverage-guided fuzzer (:mod:`tests.fuzz`, ``make fuzz``): it finds what only coverage leads
to, and each reader passes a short run. Repeat a run with ``LIVINGAI_SEED``."""

from __future__ import annotations

import os
import random
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.readers import READERS

pytest.importorskip("atheris", reason="Atheris has no wheel for this machine or Python")

SEED = int(os.environ.get("LIVINGAI_SEED", "0")) % (1 << 31) or secrets.randbits(31) or 1


def fuzzed(kept: Path, *options: str) -> tuple[int, str]:
    """Run it; its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seed", str(SEED), "--kept", str(kept), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(done.stdout[-8000:], done.stderr[-2000:])
    return done.returncode, done.stdout


def test_it_finds_what_only_coverage_leads_to(tmp_path: Path) -> None:
    name = "tests.fuzz.faulty:FAULTY"
    code, told = fuzzed(tmp_path, name, "--seconds", "300")
    assert code == 1
    found = re.search(r"repeat it with: python -m tests.fuzz (\S+) --repeat (\S+)", told)
    assert found
    assert found[1] == name
    assert Path(found[2]).read_bytes()[:4] == b"\x13\x37\xbe\xef"
    code, told = fuzzed(tmp_path, name, "--repeat", found[2])
    assert code == 1
    assert "what no reader raises" in told


def test_nothing_is_found_in_a_moment(tmp_path: Path) -> None:
    names = random.Random(SEED).sample(list(READERS), 3)
    code, told = fuzzed(tmp_path, *names, "--seconds", "1", "--jobs", "1")
    assert code == 0
    counts = [int(runs) for runs in re.findall(r": (\d+) inputs reached", told)]
    assert len(counts) == 3
    assert min(counts) > 0


def test_a_reader_that_there_is_not(tmp_path: Path) -> None:
    code, told = fuzzed(tmp_path, "nothing")
    assert code == 2
    assert "there is no reader nothing" in told
