"""Rows for the tests of Redis stores, and a server that recovers."""

from __future__ import annotations

from typing import Any

from livingai.errors import (
    StoreUnavailableError,
)
from livingai.stores.base import Store
from livingai.testing import make_row
from livingai.testing.rows import commit, state
from tests.support.waiting import until


def rows(seq: int = 0, runs: str = "abc") -> list[Any]:
    return [make_row(name, seq, blob=state(f"{name} {seq}")) for name in runs]


def until_taken(store: Store, batch: list[Any]) -> None:
    def look() -> bool:
        try:
            commit(store, batch)
        except StoreUnavailableError:
            return False
        return True

    until(look, what="a batch that is taken")
