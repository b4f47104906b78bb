"""What every adapter promises, of the OpenAI Agents SDK's."""

from __future__ import annotations

import pytest

pytest.importorskip("agents")
pytest.importorskip("livingai.adapters.openai_agents")

from livingai.testing import AdapterConformance

pytestmark = pytest.mark.conformance


class TestOpenAIAgents(AdapterConformance):
    """With the SDK's own scripted model."""

    harness = "tests.frameworks.openai_agents.harness:OpenAIHarness"
