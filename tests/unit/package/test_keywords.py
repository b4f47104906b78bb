"""What type checkers allow as keywords is what the dataclass of the settings takes."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import pytest

from livingai import CallOptions, EngineConfig, RunSettings
from livingai.config import EngineKeywords
from livingai.replay.mode import ReplayKeywords, Request
from livingai.runs.calls import CallKeywords
from livingai.runs.policy import RunKeywords

PAIRS = [
    (RunKeywords, RunSettings),
    (CallKeywords, CallOptions),
    (EngineKeywords, EngineConfig),
]


@pytest.mark.parametrize(("keywords", "settings"), PAIRS)
def test_keywords_are_the_fields_with_their_types(keywords: Any, settings: Any) -> None:
    types = get_type_hints(settings)
    fields = {field.name: types[field.name] for field in dataclasses.fields(settings)}
    assert get_type_hints(keywords) == fields
    assert not keywords.__required_keys__


def test_replay_keywords_have_the_fields_of_a_request() -> None:
    assert set(ReplayKeywords.__annotations__) == {
        each.name for each in dataclasses.fields(Request)
    }
