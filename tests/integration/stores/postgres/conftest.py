"""A PostgreSQL server for the tests of this folder, and a schema for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from livingai.stores.postgres import PostgresStore
from tests.support.postgres_servers import PostgresServer, shared_url


@pytest.fixture(scope="package")
def server() -> Iterator[PostgresServer]:
    """A server that the tests of this folder may mistreat, one after the other."""
    shared_url()  # skips where there is no PostgreSQL
    with PostgresServer(log_statement="none") as server:
        yield server


@pytest.fixture
def admin(server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def schema(request: pytest.FixtureRequest, admin: psycopg.Connection[Any]) -> Iterator[str]:
    name = f"s_{abs(hash(request.node.name)) % 10**12}"
    yield name
    admin.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


@pytest.fixture
def store(server: PostgresServer, schema: str) -> Iterator[PostgresStore]:
    with PostgresStore(server.url(), schema=schema) as store:
        yield store
