"""Fixtures of the tests of adapters with real processes."""

import secrets

import pytest

from tests.integration.stores.conftest import url
from tests.support.redis_servers import shared_server

__all__ = ["redis_url", "url"]


@pytest.fixture
def redis_url() -> str:
    """An empty Redis store; before the place, which counts what this process has."""
    return f"{shared_server().url}?prefix=t_{secrets.token_hex(6)}"
