"""OpenAI Agents SDK: sessions, paused runs, tools that run once, and a record of each run.

=========================  =========================================================================
:class:`LivingAISession`   the SDK's ``Session``: the history of a conversation
:func:`save_run_state`,    a paused run (``RunState``), which one process resumes once
:func:`load_run_state`
:class:`ToolLedger`,       function tools that are called at most once, whatever dies
:func:`durable_tool`
:class:`LivingAIHooks`     ``RunHooks`` that record model calls, tools, handoffs and errors as nodes
=========================  =========================================================================

``docs/frameworks/openai_agents.md`` says what is guaranteed and what is not.
"""

from __future__ import annotations

from livingai.adapters.versions import require

require("openai-agents", at_least="0.24", below="0.25", extra="openai-agents")

from livingai.adapters.openai_agents.hooks import LivingAIHooks  # noqa: E402 - after the check
from livingai.adapters.openai_agents.ledger import ToolLedger  # noqa: E402
from livingai.adapters.openai_agents.session import LivingAISession  # noqa: E402
from livingai.adapters.openai_agents.states import load_run_state, save_run_state  # noqa: E402
from livingai.adapters.openai_agents.tools import durable_tool  # noqa: E402

__all__ = [
    "LivingAIHooks",
    "LivingAISession",
    "ToolLedger",
    "durable_tool",
    "load_run_state",
    "save_run_state",
]
