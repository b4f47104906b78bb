"""What the tests with real frameworks share: the fixtures of the tests with real processes, and
which warnings fail.

Frameworks and what they import warn of each other's changes, and their next release will do so in
other words. Here a warning fails a test only if it comes from a line of livingai or of its tests;
everywhere else in ``tests/`` every warning does.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import (
    checked_at_the_end,
    served,
    served_dir,
    shared_dir,
    state_dir,
    tries,
)

__all__ = ["checked_at_the_end", "served", "served_dir", "shared_dir", "state_dir", "tries"]

HERE = Path(__file__).parent
#: Later ones win. The interpreter may find that a framework forgot to close something while a line
#: of ours runs, so that category does not count.
FILTERS = (
    "default",
    r"error:::livingai(\.|$)",
    r"error:::tests\.",
    "error::pytest.PytestUnhandledThreadExceptionWarning",
    "default::ResourceWarning",
)

# Frameworks report what they do to their makers unless they are told not to; tests need no network.
for name in (
    "CREWAI_DISABLE_TELEMETRY",
    "CREWAI_DISABLE_TRACKING",
    "CREWAI_TESTING",
    "OPENAI_AGENTS_DISABLE_TRACING",
    "OTEL_SDK_DISABLED",
):
    os.environ[name] = "1" if name.startswith("OPENAI") else "true"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Importing a test module imports its framework."""
    with warnings.catch_warnings():
        for each in FILTERS[:2]:
            action, _, module = each.partition(":::")
            warnings.filterwarnings(action, module=module)  # type: ignore[arg-type]
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Called with all tests of the run, so those of other folders are left out."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings(*FILTERS))
