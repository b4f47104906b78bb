"""Replay of recorded executions; see ``docs/REPLAY.md``."""

from livingai.replay.compare import Change, How, NodeComparison, ReplayResult
from livingai.replay.handlers import ReplayInputs
from livingai.replay.mode import Override, ReplayMode
from livingai.replay.session import ReplaySession
from livingai.runs.diff import Difference

__all__ = [
    "Change",
    "Difference",
    "How",
    "NodeComparison",
    "Override",
    "ReplayInputs",
    "ReplayMode",
    "ReplayResult",
    "ReplaySession",
]
