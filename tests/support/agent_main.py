"""An agent process: calls functions for the test, one JSON line in, one JSON line out.

A request is ``[module, function, arguments, keywords]``; the function gets the :class:`AgentSide`
first. The answer is ``{"value": ...}``, or ``{"error": pickled exception}``. The end of standard
input is the end of the process, without ``close()``.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import pickle
import sys
import threading
from typing import Any

from livingai import CheckpointEngine, Outcome, Receipt
from livingai.stores.opening import open_store


class AgentSide:
    """An engine and the outcomes of its writes."""

    def __init__(self, database: str, settings: dict[str, Any]) -> None:
        self.database = database
        self.settings = settings
        self.engine = self.new_engine()
        self.changed = threading.Condition()
        self.receipts: list[Receipt] = []
        #: Outcomes by receipt, in the order in which its callback was called.
        self.told: dict[int, list[Outcome]] = {}
        self.runner: Any = None

    def new_engine(self, **settings: Any) -> CheckpointEngine:
        """Another engine on the same store."""
        return CheckpointEngine(open_store(self.database), **{**self.settings, **settings})

    def keep(self, receipt: Receipt) -> Receipt:
        """Watch for the receipt's outcome."""
        with self.changed:
            number = len(self.receipts)
            self.receipts.append(receipt)
            self.told[number] = []
            self.changed.notify_all()
        receipt.add_callback(lambda receipt: self._tell(number, receipt))
        return receipt

    def _tell(self, number: int, receipt: Receipt) -> None:
        assert receipt.outcome is not None
        with self.changed:
            self.told[number].append(receipt.outcome)
            self.changed.notify_all()


def to_json(value: Any) -> Any:
    """What JSON lacks: bytes."""
    if isinstance(value, bytes):
        return {"__bytes__": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} is not for a line of JSON")


def from_json(found: dict[str, Any]) -> Any:
    """Inverse of :func:`to_json`."""
    return base64.b64decode(found["__bytes__"]) if "__bytes__" in found else found


def main() -> None:
    """``agent_main DATABASE SETTINGS``."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print() does not end up among the answers
    agent = AgentSide(sys.argv[1], json.loads(sys.argv[2]))
    for line in sys.stdin.buffer:
        module, name, arguments, keywords = json.loads(line, object_hook=from_json)
        try:
            function = getattr(importlib.import_module(module), name)
            answer = {"value": function(agent, *arguments, **keywords)}
        except Exception as error:
            answer = {"error": base64.b64encode(pickle.dumps(error)).decode()}
        out.write(json.dumps(answer, default=to_json).encode() + b"\n")
        out.flush()
    out.close()


if __name__ == "__main__":
    main()
