"""``python -m bench --store``: every store beside SQLite, one command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.agents import ROOT
from tests.support.patience import patience
from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import shared_server

ONE_CELL = ("--tier", "single", "--mode", "closed", "--quick", "--no-peer", "--no-probes")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *ONE_CELL, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=patience(220), check=False
    )


@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.timeout(240)
def test_a_server_that_is_started_for_it_and_one_that_is_there(tmp_path: Path) -> None:
    """The one that is there is left as it was."""
    shared_url()  # skips where there is no PostgreSQL
    server = shared_server()
    server.client().execute_command("ACL", "SETUSER", "bench", "on", ">s3cret", "~*", "+@all")
    file = tmp_path / "figures.json"
    there = f"redis://bench:s3cret@127.0.0.1:{server.port}/3"
    done = bench("--store", "postgres", "--store", there, "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "s3cret" not in done.stdout + done.stderr + file.read_text()
    assert server.client().info("keyspace").get("db3") is None
    results = json.loads(file.read_text())["results"]
    names = ["sqlite", "postgres", f"redis://127.0.0.1:{server.port}/3"]
    assert [each["setting"]["store"] for each in results] == names
    for each in results:
        (run,) = each["runs"]
        assert run["met"] + run["late"] == run["saves"] == 100
        assert run["recovered_store"] == run["recovered_cache"] == 1
    assert done.stdout.count("times SQLite's") == 2


def test_no_such_store() -> None:
    for wrong in ("mysql://user:s3cret@host/db", "tiered:a|b", "valky"):
        done = bench("--store", wrong)
        assert done.returncode == 2
        assert "--store is the URL of" in done.stderr
        assert "s3cret" not in done.stderr
