"""Whether a record has changed since it was read."""

from __future__ import annotations

from dataclasses import replace

from livingai import ExecutionNode, NodeType, Status
from livingai.replay.recording import Recording
from livingai.runs.calls import CALL, ROLE, RUN

LIFE = ExecutionNode("run", NodeType.MEMORY, Status.RUNNING, metadata={ROLE: RUN}, id="life")
STEP = ExecutionNode("run", NodeType.PROMPT, Status.SUCCESS, metadata={CALL: "0"}, id="step")
ENTERED = replace(LIFE, id="other", status=Status.PENDING)


def test_the_fingerprint_is_of_nodes_and_lives() -> None:
    before = Recording("run", [LIFE, STEP]).fingerprint()
    assert Recording("run", [LIFE, STEP]).fingerprint() == before
    for other in (
        [replace(LIFE, status=Status.SUCCESS), STEP],  # the run has ended meanwhile
        [LIFE, replace(STEP, output=1)],
        [LIFE, STEP, replace(LIFE, id="next")],
        [LIFE],
        [STEP],
    ):
        assert Recording("run", other).fingerprint() != before


def test_a_process_that_made_no_call_changes_nothing() -> None:
    before = Recording("run", [LIFE, STEP]).fingerprint()
    assert Recording("run", [LIFE, STEP, ENTERED]).fingerprint() == before
