"""What tests of livingai and of your own stores use; needs the ``test`` extra (pytest, hypothesis).

* :class:`StoreConformance`: every rule of :mod:`livingai.stores.base` as a pytest class.
* :func:`store_machine`: a Hypothesis state machine that compares a store with a plain model.
* :class:`AdapterConformance`: what every adapter of a framework promises, with processes that are
  killed; it is given an :class:`AdapterHarness`.
* :func:`make_row`: a row to commit, with defaults for all that a test does not care about.

Nothing of it is imported before it is used.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livingai.testing.adapters import AdapterConformance
    from livingai.testing.conformance import StoreConformance
    from livingai.testing.harness import AdapterHarness
    from livingai.testing.model import StoreModel
    from livingai.testing.rows import make_row
    from livingai.testing.stateful import store_machine

_HOMES = {
    "AdapterConformance": "livingai.testing.adapters",
    "AdapterHarness": "livingai.testing.harness",
    "StoreConformance": "livingai.testing.conformance",
    "StoreModel": "livingai.testing.model",
    "make_row": "livingai.testing.rows",
    "store_machine": "livingai.testing.stateful",
}

#: Modules with asserts of tests.
_ASSERTING = tuple(
    f"livingai.testing.{module}"
    for module in (
        *("adapters", "conformance", "keeping", "reading", "writing"),
        *("owning", "racing", "dropping", "ranging"),
    )
)

__all__ = [
    "AdapterConformance",
    "AdapterHarness",
    "StoreConformance",
    "StoreModel",
    "make_row",
    "store_machine",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("AdapterConformance", "StoreConformance"):
        import pytest  # noqa: PLC0415 - only the test extra has it

        # So that a failing assert in these modules explains itself as one in a test file does.
        # (One that is imported already has to stay as it is; pytest would warn.)
        pytest.register_assert_rewrite(*(each for each in _ASSERTING if each not in sys.modules))
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
