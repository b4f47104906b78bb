"""The benchmark's states: deterministic, growing, and as compressible as real chats."""

import hashlib
import itertools
import json
import subprocess
import sys

import pytest
import zstandard

from bench.tiers import TIERS
from bench.workload import Growth, Workload
from tests.support.agents import ROOT

_SMALL = Growth(6, 1_000, 20_000)
#: Figures of different machines can be compared as long as this holds.
_KNOWN = "0d3a77325f1d855e1e7e330e7d4df8d6c70d7283ee294ee39201ed4da313d036"

_DIGEST = """
import hashlib
import itertools
from bench.workload import Growth, Workload
states = Workload("generated", 7).states(3, Growth(6, 1_000, 20_000))
print(hashlib.sha256(b"".join(states)).hexdigest())
"""


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload("generated", 7)


def test_same_seed_same_bytes(workload: Workload) -> None:
    again = Workload("generated", 7)
    assert workload.states(3, _SMALL) == again.states(3, _SMALL)
    assert workload.states(3, _SMALL) != workload.states(4, _SMALL)
    assert workload.states(3, _SMALL) != Workload("generated", 8).states(3, _SMALL)


def test_same_bytes_in_every_process(workload: Workload) -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            cwd=ROOT, env={"PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    here = hashlib.sha256(b"".join(workload.states(3, _SMALL))).hexdigest()
    assert found == {here} == {_KNOWN}


def test_states_grow_by_messages(workload: Workload) -> None:
    states = workload.states(0, _SMALL)
    assert len(states) == _SMALL.steps
    for before, after in itertools.pairwise(states):
        assert after.startswith(before[:-1])
        assert len(json.loads(after)) > len(json.loads(before))


def test_a_window_slides_by_messages(workload: Workload) -> None:
    """Each state has something new at its end, and begins later in what was said."""
    states = [json.loads(state) for state in workload.states(0, Growth(50, 9_000, 9_000, True))]
    said = states[0].copy()
    for before, after in itertools.pairwise(states):
        new = next(
            n
            for n in range(1, len(after) + 1)
            if after[:-n] == before[len(before) + n - len(after) :]
        )
        said += after[-new:]
        assert after == said[-len(after) :]
    assert states[-1][0] not in states[0]


@pytest.mark.parametrize("name", TIERS)
def test_sizes_are_the_tiers(workload: Workload, name: str) -> None:
    growth = TIERS[name].growth
    states = workload.states(0, growth)
    assert len(states[0]) == pytest.approx(growth.first_bytes, abs=4_000)
    if growth.window:
        assert all(0 <= len(state) - growth.last_bytes < 4_000 for state in states)
    else:
        assert len(states[-1]) == pytest.approx(growth.last_bytes, rel=0.06)


@pytest.mark.parametrize(("size", "least", "most"), [(5_000, 2.0, 2.8), (800_000, 2.5, 3.2)])
def test_shrinks_like_real_chats(workload: Workload, size: int, least: float, most: float) -> None:
    (state,) = workload.states(1, Growth(1, size, size))
    ratio = len(state) / len(zstandard.ZstdCompressor(level=1).compress(state))
    assert least < ratio < most
