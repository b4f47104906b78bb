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


def simulated(worlds: int, interleavings: int) -> dict[str, int]:
    """Run worlds; what happened in them, and how often."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(SEED % (1 << 31) or 1),
         "--worlds", str(worlds), "--interleavings", str(interleavings)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    lines = re.findall(r"^ *(\d+)  (.+)$", done.stdout, re.MULTILINE)
    return {name: int(count) for count, name in lines}


def test_a_few_worlds() -> None:
    counts = simulated(3, 200)
    low = {
        name: counts.get(name, 0) for name, least in FLOORS.items() if counts.get(name, 0) < least
    }
    assert not low, f"too little happened: {low}"


def test_a_world_can_be_repeated() -> None:
    assert simulated(1, 40) == simulated(1, 40)


@pytest.mark.faults
def test_many_worlds() -> None:
    simulated(int(os.environ.get("LIVINGAI_FAULT_SEEDS", "50")), 1000)
