"""The public names, and that importing them costs no driver, web library or framework."""

from __future__ import annotations

import subprocess
import sys

import livingai

FIXED = {
    "CheckpointEngine", "ExecutionNode", "NodeType", "Status", "ErrorInfo",
    "SQLiteStore", "RedisStore", "PostgresStore", "TieredStore",
    "RecoveryEngine", "RecoveryPlan", "ReplaySession", "ReplayMode", "ReplayResult",
    "Durability", "Outcome", "Receipt", "Service",
}  # fmt: skip


def test_the_fixed_names_are_there() -> None:
    assert set(livingai.__all__) >= FIXED
    for name in livingai.__all__:
        assert getattr(livingai, name) is not None


def test_every_public_name_says_what_it_is() -> None:
    for name in set(livingai.__all__) - {"__version__"}:
        value = getattr(livingai, name)
        assert (value.__doc__ or "").strip(), f"{name} has no docstring"


def test_importing_the_engine_loads_no_driver() -> None:
    code = (
        "import sys, livingai; livingai.CheckpointEngine; livingai.SQLiteStore; "
        "livingai.TieredStore; print([m for m in sys.modules if m.split('.')[0] in "
        "('apsw', 'redis', 'psycopg', 'uvloop', 'rich', 'click', 'aiohttp', 'langgraph')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
