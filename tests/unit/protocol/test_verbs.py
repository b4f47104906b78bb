"""The table of verbs and the functions that answer them name the same ones."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from livingai.errors import ServiceError
from livingai.protocol import verbs
from livingai.protocol.verbs import INTERNAL, VERBS, Answerer, Barrier, Verb, verb_named
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.dispatcher.requests import Requests
from livingai.workers.store.housekeeper import HousekeeperRole
from livingai.workers.store.reader import ReaderRole
from livingai.workers.store.role import Role
from livingai.workers.store.writer import WriterRole

ANSWERERS: dict[Answerer, type[Any]] = {
    Answerer.READER: ReaderRole,
    Answerer.HOUSEKEEPER: HousekeeperRole,
    Answerer.WRITER: WriterRole,
    Answerer.DISPATCHER: Requests,
}
ROLES = {by: cls for by, cls in ANSWERERS.items() if issubclass(cls, Role)}


def functions(cls: type[Any]) -> dict[str, Any]:
    found = inspect.getmembers(cls, inspect.isfunction)
    return {name.removeprefix("do_"): each for name, each in found if name.startswith("do_")}


@pytest.mark.parametrize("by", Answerer)
def test_each_verb_has_its_function_and_each_function_its_verb(by: Answerer) -> None:
    table = [*VERBS.values(), *INTERNAL.values()]
    assert set(functions(ANSWERERS[by])) == {verb.name for verb in table if verb.by is by}


def test_each_verb_of_the_module_is_in_the_table() -> None:
    constants = {name: v for name, v in vars(verbs).items() if isinstance(v, Verb)}
    assert {name.lower(): verb for name, verb in constants.items()} == VERBS
    assert set(VERBS) >= {
        "latest", "load", "nodes", "history", "executions", "costs", "size", "delete", "fork",
        "prune", "claim", "drain", "ready", "status",
    }, "engines of earlier versions ask these"  # fmt: skip


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_barrier_of_one_execution_finds_its_id(verb: Verb[Any]) -> None:
    """It is the first argument; a writer is chosen by it, too."""
    parameters = [*inspect.signature(functions(ANSWERERS[verb.by])[verb.name]).parameters]
    assert (verb.barrier is Barrier.ONE) == (parameters[1:2] == ["execution_id"])
    if verb.by is Answerer.WRITER:
        assert verb.barrier is Barrier.ONE


@pytest.mark.parametrize("name", ["", "no such", "commit", "examine", 7, None, [[]], {"a": 1}])
def test_an_unknown_verb_is_refused(name: object) -> None:
    with pytest.raises(ServiceError, match="does not know the request"):
        verb_named(name)


@pytest.mark.parametrize("role", ROLES.values())
def test_a_role_refuses_a_verb_of_another(role: type[Role], tmp_path: Path) -> None:
    worker = role(SQLiteStore(tmp_path / "agent.db"))
    for name in ("no such", "status"):
        with pytest.raises(ServiceError, match=f"{role.__name__} does not know the request"):
            worker.handle(name, [])
    worker.close()


@pytest.mark.parametrize("answer", [7, [1], "text", None])
def test_an_answer_of_another_kind_is_an_error_of_the_service(answer: object) -> None:
    for verb in (verbs.EXECUTIONS, verbs.COSTS, verbs.FORK, verbs.PRUNE, verbs.STATUS):
        with pytest.raises(ServiceError, match="the service's"):
            verb.read(answer)
