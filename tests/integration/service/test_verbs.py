"""Each verb waits for the queued writes that the table says, asked of a service whose writer is
stopped while a write is on its way to it."""

from __future__ import annotations

from typing import Any

import pytest

from livingai import ExecutionNode, NodeRange
from livingai.errors import ExecutionNotFoundError, ServiceError, ServiceUnavailableError
from livingai.protocol import verbs
from livingai.protocol.ask import ask_service
from livingai.protocol.verbs import VERBS, Barrier, Verb
from livingai.stores.retention import Retention
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import frozen

#: What each verb is asked with, about the execution whose write is queued.
ARGUMENTS: dict[Verb[Any], list[Any]] = {
    verbs.LATEST: ["run-1"], verbs.NODES: ["run-1"], verbs.HISTORY: ["run-1", None, False],
    verbs.LOAD: ["no such node"], verbs.EXECUTIONS: [None, 10, ""],
    verbs.COSTS: ["execution", ""], verbs.SIZE: [], verbs.DELETE: ["run-1"],
    verbs.NODES_BETWEEN: ["run-1", NodeRange().to_wire()],
    verbs.CHECKPOINTS: ["run-1"],
    verbs.NODE_PAGES: ["run-1", [NodeRange().to_wire()]],
    verbs.STORED_PAGES: ["run-1", [NodeRange().to_wire()]], verbs.DROP_NODES: ["run-1", ["x"]],
    verbs.FORK: ["run-1", "run-9"], verbs.PRUNE: [{"keep_last": 1}, True],
    verbs.CLAIM: ["run-1", "someone"], verbs.DRAIN: [], verbs.READY: [], verbs.STATUS: [],
    verbs.WATCH: [-1, 0.0],
}  # fmt: skip


def test_each_verb_waits_for_the_writes_that_the_table_says(state_dir: Place) -> None:
    assert set(ARGUMENTS) == set(VERBS.values()), "a verb that this test does not ask"

    def ask(verb: Verb[Any], arguments: list[Any], timeout_s: float) -> Any:
        url = state_dir.store().url
        return ask_service(state_dir.directory, url, verb, *arguments, timeout_s=timeout_s)

    with state_dir.service() as service, state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-0"), b"warm").result(patience(30))
        engine.size_sync()
        engine.prune_sync(Retention(keep_last=9), dry_run=True)  # all processes are up
        with frozen([pid for pid in service.status().pids.writers if pid]):
            receipt = engine.save_sync(ExecutionNode("run-1"), b"state")
            for verb, arguments in ARGUMENTS.items():
                if verb.barrier is Barrier.NONE:
                    ask(verb, arguments, 20)
                    continue
                with pytest.raises(ServiceUnavailableError):
                    ask(verb, arguments, 0.3)
            for verb in (verbs.LATEST, verbs.NODES):  # of another execution: nothing is queued
                with pytest.raises(ExecutionNotFoundError):
                    ask(verb, ["run-2"], 20)
        assert receipt.result(patience(30)).stored
        assert engine.latest_sync("run-1")[1] == b"state", "an abandoned delete was done"
        assert [info.execution_id for info in engine.executions_sync()] == ["run-0", "run-1"]


def test_a_verb_of_the_writers_alone_is_refused(state_dir: Place) -> None:
    with state_dir.service():
        for name in ("commit", "elsewhere", "no such verb"):
            verb = verbs.SIZE._replace(name=name)
            with pytest.raises(ServiceError, match=f"does not know the request '{name}'"):
                ask_service(state_dir.directory, state_dir.store().url, verb)
