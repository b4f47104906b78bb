"""One empty store of each kind."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import shared_cluster, shared_server


def _redis(name: str, folder: Path) -> str:
    return f"{shared_server().url}?prefix={name}"


def _cluster(name: str, folder: Path) -> str:
    return f"{shared_cluster().url}?prefix={name}"


def _postgres(name: str, folder: Path) -> str:
    return f"{shared_url()}&schema={name}"


def _tiered(name: str, folder: Path) -> str:
    return f"tiered:{_redis(name, folder)}|{_postgres(name, folder)}"


def _sqlite(name: str, folder: Path) -> str:
    return f"sqlite:///{folder / 'shared.db'}"


URLS: dict[str, Callable[[str, Path], str]] = {
    "sqlite": _sqlite, "redis": _redis, "cluster": _cluster, "postgres": _postgres,
    "tiered": _tiered,
}  # fmt: skip


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("cluster", marks=[pytest.mark.redis, pytest.mark.cluster]),
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("tiered", marks=[pytest.mark.redis, pytest.mark.postgres]),
    ]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store; before the place, which counts what this process has."""
    return URLS[request.param](f"t_{secrets.token_hex(6)}", tmp_path)
