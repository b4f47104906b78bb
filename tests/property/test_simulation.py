"""The deterministic simulation (:mod:`tests.simulation`): whatever the interleaving of agents,
dispatcher, writers and their deaths, nothing is lost, doubled, out of order or without an outcome.

A few worlds in ``make test``, many in ``make faults``. Repeat a run with ``LIVINGAI_SEED``.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys

import pytest

#: Worlds in which something was wrong once: seed, interleavings, options.
ONCE_WRONG = [
    (2035748102, 1521, ["--small"]),
    (87315160, 537, ["--small"]),
    (186472894, 185, []),
]
SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or secrets.randbits(31)
#: What has to happen in so many interleavings at least, or the simulation does not look where
#: faults are. About a third of what it is.
FLOORS = {
    "interleavings": 600, "writes": 1200, "reads": 1200, "take-overs": 1000, "fenced": 40,
    "superseded": 20, "refused": 3, "quarantined": 15, "killed in a save": 10,
    "agent died": 15, "service died": 40, "writer died": 15, "store fails": 30,
    "store loses its answer": 30, "at rotate.after_seal": 50, "at journal.after_recycle": 50,
    "at patch.before_base": 20, "at Index.resume": 5, "at compressor.after_encode": 5,
}  # fmt: skip
#: The same for small worlds.
SMALL_FLOORS = {
    "interleavings": 6000, "writes": 6000, "reads": 8000, "take-overs": 6000, "fenced": 30,
    "superseded": 50, "refused": 60, "quarantined": 80, "killed in a save": 8,
    "agent died": 100, "service died": 200, "writer died": 80, "store fails": 200,
    "store loses its answer": 200, "at rotate.after_seal": 600, "at journal.after_recycle": 350,
    "at patch.before_base": 120, "at Index.resume": 200, "at compressor.after_encode": 600,
}  # fmt: skip


def simulated(worlds: int, interleavings: int, *options: str) -> dict[str, int]:
    """Run worlds; what happened in them, and how often."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(SEED % (1 << 31) or 1),
         "--worlds", str(worlds), "--interleavings", str(interleavings), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    lines = re.findall(r"^ *(\d+)  (.+)$", done.stdout, re.MULTILINE)
    return {name: int(count) for count, name in lines}


def check(counts: dict[str, int], floors: dict[str, int]) -> None:
    """Fail if too little happened."""
    low = {
        name: counts.get(name, 0) for name, least in floors.items() if counts.get(name, 0) < least
    }
    assert not low, f"too little happened: {low}"


def test_a_few_worlds() -> None:
    check(simulated(3, 200), FLOORS)


def test_a_few_small_worlds() -> None:
    """Most of what can go wrong needs two agents and one execution only, and these are three times
    as fast."""
    check(simulated(4, 1500, "--small"), SMALL_FLOORS)


@pytest.mark.parametrize("options", [(), ("--small",)])
def test_a_world_can_be_repeated(options: tuple[str, ...]) -> None:
    assert simulated(1, 40, *options) == simulated(1, 40, *options)


@pytest.mark.parametrize(("seed", "interleavings", "options"), ONCE_WRONG)
def test_what_was_once_wrong(seed: int, interleavings: int, options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--here", "--seed", str(seed),
         "--interleavings", str(interleavings), *options],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


@pytest.mark.faults
@pytest.mark.parametrize(("interleavings", "options"), [(1000, ()), (5000, ("--small",))])
def test_many_worlds(interleavings: int, options: tuple[str, ...]) -> None:
    simulated(int(os.environ.get("LIVINGAI_FAULT_SEEDS", "50")), interleavings, *options)
