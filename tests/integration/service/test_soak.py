"""A soak: agents write, read and take executions over while any process is killed, and the log of
all calls is judged (tests/support/soak.py). A short one with every run; ``make faults`` kills a
thousand processes, ``make soak`` as many as KILLS says. Repeat one with ``LIVINGAI_SEED``."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.support import postgres_servers, redis_servers
from tests.support.soak import Soak

SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or secrets.randbits(31)
KILLS = int(os.environ.get("LIVINGAI_KILLS", "1000"))


def soaked(store: str, folder: Path, kills: int, *, hosts: int = 1) -> None:
    soak = Soak(store, folder, SEED, hosts=hosts)
    if hosts == 1:
        soak.directories = [f"{folder}/agent.db-livingai"]
    counts = soak.run(kills)
    print(f"seed {SEED}:", *(f"{count} {name}," for name, count in sorted(counts.items())))
    assert counts["kills"] >= kills
    assert counts["writes"] > kills
    assert counts["agents killed"]
    assert counts["service's processes killed"]
    assert counts["met"] + counts["late"]


def test_a_short_soak(tmp_path: Path) -> None:
    soaked(f"sqlite:///{tmp_path}/agent.db", tmp_path, 12)


@pytest.mark.faults
def test_a_long_soak(tmp_path: Path) -> None:
    soaked(f"sqlite:///{tmp_path}/agent.db", tmp_path, KILLS)


@pytest.mark.faults
@pytest.mark.redis
def test_two_hosts_on_redis(tmp_path: Path) -> None:
    url = f"{redis_servers.shared_server().url}?prefix=soak_{secrets.token_hex(6)}"
    soaked(url, tmp_path, KILLS // 4, hosts=2)


@pytest.mark.faults
@pytest.mark.postgres
def test_two_hosts_on_postgres(tmp_path: Path) -> None:
    url = f"{postgres_servers.shared_url()}&schema=soak_{secrets.token_hex(6)}"
    soaked(url, tmp_path, KILLS // 4, hosts=2)
