"""Where LangGraph's threads are killed: by operation, each failpoint and at which hit."""

from __future__ import annotations

from typing import Final

#: The operation of tests/frameworks/langgraph/test_killed.py in whose middle a process dies there.
POINTS: Final[dict[str, tuple[tuple[str, int], ...]]] = {
    "delete": (
        ("thread.before_delete", 1), ("thread.delete_marked", 1), ("thread.dropped", 1),
        ("thread.dropped", 2), ("thread.source_collected", 1), ("thread.delete_removed", 1),
    ),
    "copy": (("thread.copy_begun", 1), ("thread.copy_named", 1), ("thread.copy_done", 1)),
    "prune": (
        ("thread.prune_begun", 1), ("thread.prune_marked", 1), ("thread.dropped", 1),
        ("thread.dropped", 3), ("thread.prune_unmarked", 1),
    ),
    "runs": (("thread.prune_begun", 1), ("thread.prune_marked", 1), ("thread.dropped", 2)),
}  # fmt: skip
