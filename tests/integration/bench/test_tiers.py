"""What only some tiers have (bursts, quarters, outages, several processes), and the cold start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.outage import STOPS, Stop
from bench.run import run_once
from bench.setting import Setting
from bench.stores import SQLITE, Target
from bench.tiers import TIERS, Mode, Tier
from bench.workload import Growth
from tests.support.agents import ROOT
from tests.support.patience import patience


def setting(tier: Tier, mode: Mode, directory: Path, peer: str = "") -> Setting:
    return Setting(tier, mode, peer, 1, "generated", 1, str(directory), Target(SQLITE))


def run(tier: Tier, mode: Mode, directory: Path, peer: str = "") -> Any:
    return run_once(setting(tier, mode, directory, peer)).figures


@pytest.mark.parametrize("stop", STOPS)
def test_an_outage(stop: Stop, tmp_path: Path) -> None:
    """Agents go on saving, and nothing is lost."""
    tier = Tier("outage", 2, Growth(12, 5_000, 20_000), modes=("paced",), outage=True)
    figures, curves = run_once(setting(tier, "paced", tmp_path).stopped(stop))
    begin_s, end_s = curves["outage_s"]
    assert end_s - begin_s == pytest.approx(figures["outage_s"])
    assert curves["accepted"][-1] == curves["stored"][-1] == 24
    assert figures["outage_s"] >= tier.paced_s * 2 / 3
    assert 0 < figures["outage_saves"] < figures["saves"] == 24
    assert figures["met"] + figures["late"] == 24
    assert figures["late"] > 0  # those whose store was stopped for longer than the budget
    assert figures["drained_s"] > 0
    assert figures["recovered_cache"] == figures["recovered_store"] == 2


@pytest.mark.parametrize("mode", ["closed", "paced"])
def test_a_peer(mode: Mode, tmp_path: Path) -> None:
    tier = Tier("few", 3, Growth(4, 1_000, 5_000), interval_ms=10)
    figures = run(tier, mode, tmp_path, "sqlite3")
    assert figures["met"] + figures["late"] == figures["saves"] == 12
    assert figures["stored_bytes"] > figures["raw_bytes"]
    assert figures["stored_ratio"] < 1
    assert figures["save_cpu_ms"] == figures["agents_save_cpu_ms"] > 0


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
    """A tier with several numbers of processes, the cold start, and the report of them."""
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", "--quick", "--no-peer", "--json", str(file)]
    command += ["--tier", "fleet", "--tier", "cold", "--mode", "closed", "--mode", "burst"]
    command += ["--report", str(tmp_path / "report")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=patience(220), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text())
    assert document["command"] == (
        'make bench ARGS="--quick --no-peer --tier fleet --tier cold --mode closed --mode burst"'
    )
    assert json.loads((tmp_path / "report" / "figures.json").read_text()) == document
    assert (tmp_path / "report" / "fleet-closed-throughput.png").exists()
    assert (tmp_path / "report" / "report.html").exists()
    found = [
        (each["setting"]["mode"], each["setting"]["processes"]) for each in document["results"]
    ]
    assert found == [("closed", number) for number in TIERS["fleet"].processes]
    assert document["cold"]["processes"]["median"] == 3
    assert document["cold"]["first_outcome_ms"]["median"] > 0
    assert "accepted per second" not in done.stdout  # no row that nothing is in
