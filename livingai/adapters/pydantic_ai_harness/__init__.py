"""Pydantic AI's harness: a ``StepStore`` on a livingai engine.

``StepPersistence(store=LivingAIStepStore(engine))`` records each run of an agent: what it did, the
message histories from which it can be continued, and which tool calls were begun and not ended. See
``docs/frameworks/pydantic-ai-harness.md``.

Raises:
    FrameworkVersionError: pydantic-ai-harness is not installed, or not in a supported version.
"""

from livingai.adapters.versions import require

require("pydantic-ai-harness", at_least="0.62", below="0.63", extra="pydantic-ai-harness")

from livingai.adapters.pydantic_ai_harness.step_store import LivingAIStepStore  # noqa: E402

__all__ = ["LivingAIStepStore"]
