"""LangGraph's own conformance suite for checkpointers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

pytest.importorskip("langgraph")

from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from livingai.adapters.langgraph import LivingAISaver
from tests.support.place import Place

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("strict", [False, True])
async def test_the_suite_passes_in_full(place: Place, strict: bool) -> None:
    serde = JsonPlusSerializer(allowed_msgpack_modules=None) if strict else None
    async with place.engine() as engine:

        @checkpointer_test(name="LivingAISaver")
        async def factory() -> AsyncIterator[LivingAISaver]:
            yield LivingAISaver(engine, serde=serde)

        report = await validate(factory)
    for capability, result in report.results.items():
        assert result.passed, f"{capability}: {result.failures}"
    assert report.conformance_level() == "FULL"
    assert sum(result.tests_passed for result in report.results.values()) >= 81
