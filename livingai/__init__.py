"""livingai: a multiprocess write-behind persistence service for AI agents.

Everything that is public is here; names are imported when they are first used, so that importing
livingai costs little and no database driver is loaded until its store is.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from livingai._version import __version__

if TYPE_CHECKING:
    from livingai.config import EngineConfig
    from livingai.engine.engine import CheckpointEngine
    from livingai.engine.metrics import EngineMetrics, LatencyHistogram
    from livingai.engine.sla import Sla
    from livingai.errors import LivingAIError
    from livingai.node import ErrorInfo, ExecutionNode, NodeType, Status
    from livingai.outcome import Durability, Outcome, OutcomeStatus, Receipt
    from livingai.protocol.executions import ExecutionPage
    from livingai.protocol.ranges import NodePage, RangedNode
    from livingai.protocol.status import ServiceStatus
    from livingai.replay.compare import ReplayResult
    from livingai.replay.mode import ReplayMode
    from livingai.replay.session import ReplaySession
    from livingai.runs.base import current_run
    from livingai.runs.calls import CallOptions
    from livingai.runs.decorators import step, tool
    from livingai.runs.exceptions.hooks import register_exception
    from livingai.runs.policy import Resolution, RunSettings
    from livingai.runs.recovery import RecoveryEngine, RecoveryPlan
    from livingai.runs.run import Run, SyncRun
    from livingai.service.service import Service
    from livingai.settings import FileSettings, load_settings
    from livingai.stores.opening import open_store
    from livingai.stores.postgres import PostgresStore
    from livingai.stores.ranges import NodeRange
    from livingai.stores.records import ExecutionFilter, ExecutionInfo
    from livingai.stores.redis import RedisStore
    from livingai.stores.retention import Retention
    from livingai.stores.sqlite import SQLiteStore
    from livingai.stores.tiered import TieredStore

_HOMES = {
    "CallOptions": "livingai.runs.calls",
    "CheckpointEngine": "livingai.engine.engine",
    "Durability": "livingai.outcome",
    "EngineConfig": "livingai.config",
    "EngineMetrics": "livingai.engine.metrics",
    "ErrorInfo": "livingai.node",
    "ExecutionFilter": "livingai.stores.records",
    "ExecutionInfo": "livingai.stores.records",
    "ExecutionNode": "livingai.node",
    "ExecutionPage": "livingai.protocol.executions",
    "FileSettings": "livingai.settings",
    "LatencyHistogram": "livingai.engine.metrics",
    "LivingAIError": "livingai.errors",
    "NodePage": "livingai.protocol.ranges",
    "NodeRange": "livingai.stores.ranges",
    "NodeType": "livingai.node",
    "Outcome": "livingai.outcome",
    "OutcomeStatus": "livingai.outcome",
    "PostgresStore": "livingai.stores.postgres.store",
    "Receipt": "livingai.outcome",
    "RangedNode": "livingai.protocol.ranges",
    "RecoveryEngine": "livingai.runs.recovery",
    "RecoveryPlan": "livingai.runs.recovery",
    "RedisStore": "livingai.stores.redis.store",
    "ReplayMode": "livingai.replay.mode",
    "ReplayResult": "livingai.replay.compare",
    "ReplaySession": "livingai.replay.session",
    "Resolution": "livingai.runs.policy",
    "Retention": "livingai.stores.retention",
    "Run": "livingai.runs.run",
    "RunSettings": "livingai.runs.policy",
    "SQLiteStore": "livingai.stores.sqlite.store",
    "Service": "livingai.service.service",
    "ServiceStatus": "livingai.protocol.status",
    "Sla": "livingai.engine.sla",
    "Status": "livingai.node",
    "SyncRun": "livingai.runs.run",
    "TieredStore": "livingai.stores.tiered",
    "current_run": "livingai.runs.base",
    "load_settings": "livingai.settings",
    "open_store": "livingai.stores.opening",
    "register_exception": "livingai.runs.exceptions.hooks",
    "step": "livingai.runs.decorators",
    "tool": "livingai.runs.decorators",
}

#: What needs no Linux.
_ANYWHERE = ("livingai.errors", "livingai.node")

__all__ = [
    "CallOptions",
    "CheckpointEngine",
    "Durability",
    "EngineConfig",
    "EngineMetrics",
    "ErrorInfo",
    "ExecutionFilter",
    "ExecutionInfo",
    "ExecutionNode",
    "ExecutionPage",
    "FileSettings",
    "LatencyHistogram",
    "LivingAIError",
    "NodePage",
    "NodeRange",
    "NodeType",
    "Outcome",
    "OutcomeStatus",
    "PostgresStore",
    "RangedNode",
    "Receipt",
    "RecoveryEngine",
    "RecoveryPlan",
    "RedisStore",
    "ReplayMode",
    "ReplayResult",
    "ReplaySession",
    "Resolution",
    "Retention",
    "Run",
    "RunSettings",
    "SQLiteStore",
    "Service",
    "ServiceStatus",
    "Sla",
    "Status",
    "SyncRun",
    "TieredStore",
    "__version__",
    "current_run",
    "load_settings",
    "open_store",
    "register_exception",
    "step",
    "tool",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        names_04 = importlib.import_module("livingai.names_04")
        names_04.refuse_old_name(name)
        raise AttributeError(f"module 'livingai' has no attribute {name!r}")
    if sys.platform != "linux" and home not in _ANYWHERE:
        importlib.import_module("livingai._linux")  # raises what says so
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
