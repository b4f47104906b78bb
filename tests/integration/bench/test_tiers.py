"""What only some tiers have (bursts, windows, quarters, several processes), and the cold start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.run import Setting, run_once
from bench.stores import SQLITE, Target
from bench.tiers import TIERS, Mode, Peer, Tier
from bench.workload import Growth
from tests.support.agents import ROOT


def run(
    tier: Tier, mode: Mode, directory: Path, processes: int = 1, peer: Peer = "livingai"
) -> Any:
    where = str(directory)
    return run_once(
        Setting(tier, mode, peer, processes, "generated", 1, where, Target(SQLITE), probes=False)
    )


def test_a_burst(tmp_path: Path) -> None:
    figures = run(Tier("tiny", 4, Growth(50, 1_000, 1_000, window=True)), "burst", tmp_path)
    assert figures["met"] + figures["late"] == figures["saves"] == 200
    assert figures["accepted_per_s"] > figures["stored_per_s"] > 0
    assert figures["recovered_cache"] == figures["recovered_store"] == 4
    assert figures["written_bytes"] >= 0
    assert 10 << 20 < figures["service_memory_bytes"] < 1 << 30


def test_quarters(tmp_path: Path) -> None:
    tier = Tier("long", 1, Growth(40, 1_000, 40_000), by_quarter=True)
    figures = run(tier, "closed", tmp_path)
    cpu = [figures[f"save_cpu_q{number}_ms"] for number in range(1, 5)]
    assert all(cpu)
    assert 0.3 < sum(cpu) / 4 / figures["save_cpu_ms"] < 3  # of 40 saves only
    stored = [figures[f"stored_q{number}_bytes"] for number in range(1, 5)]
    assert sum(stored) * 10 == pytest.approx(figures["stored_bytes"], rel=0.05)
    peer = run(tier, "closed", tmp_path, peer="sqlite")
    assert all(peer[f"save_cpu_q{number}_ms"] for number in range(1, 5))
    assert "stored_q1_bytes" not in peer


@pytest.mark.timeout(240)
def test_one_command(tmp_path: Path) -> None:
    """A tier with several numbers of processes, and the cold start."""
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", "--quick", "--no-peer", "--json", str(file)]
    command += ["--tier", "fleet", "--tier", "cold", "--mode", "closed", "--mode", "burst"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=220, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text())
    found = [
        (each["setting"]["mode"], each["setting"]["processes"]) for each in document["results"]
    ]
    assert found == [("closed", number) for number in TIERS["fleet"].processes]
    assert document["cold"]["processes"]["median"] == 3
    assert document["cold"]["first_outcome_ms"]["median"] > 0
    assert "accepted per second" not in done.stdout  # no row that nothing is in
