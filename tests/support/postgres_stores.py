"""Rows for the tests of PostgreSQL stores."""

from __future__ import annotations

from typing import Any

from livingai.testing import make_row
from livingai.testing.rows import state


def rows(count: int = 5, execution_id: str = "run", **more: Any) -> list[Any]:
    return [
        make_row(execution_id, seq, blob=state(f"{execution_id} {seq}"), **more)
        for seq in range(count)
    ]
