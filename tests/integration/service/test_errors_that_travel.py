"""Damage of the store reaches an agent as damage, whatever livingai it is of."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from livingai import ExecutionNode
from livingai.errors import CorruptBlobError, CorruptRecordError, CorruptRowError, StoreError
from livingai.protocol.frames import PROTOCOL_VERSION, REVISION, FrameBuffer, Message, frame
from livingai.protocol.verbs import LATEST
from tests.support.patience import patience
from tests.support.place import Place


def answered(place: Place, *revision: int) -> list[Any]:
    """The error that the service answers to a process that has greeted like this."""
    with closing(place.directory.connect(30.0)) as sock:
        greeting = PROTOCOL_VERSION, place.store().url, os.getpid(), *revision
        sock.sendall(frame(Message.HELLO, *greeting))
        sock.sendall(frame(Message.REQUEST, 1, LATEST.name, ["run"]))
        buffer = FrameBuffer()
        while data := sock.recv(1 << 16):
            for message in buffer.feed(data):
                if message[0] == Message.RESPONSE:
                    assert message[1:3] == [1, False]
                    return list(message[3])
    raise AssertionError("no answer")


def damage(place: Place, statement: str) -> None:
    with closing(sqlite3.connect(place.database)) as database, database:
        assert database.execute(statement).rowcount == 1


@pytest.mark.damaged("node-damaged")
def test_a_damaged_row_is_damage_to_agents_of_all_versions(state_dir: Place) -> None:
    with state_dir.service():
        with state_dir.engine() as engine:
            assert engine.save_sync(ExecutionNode("run"), b"state").result(patience(60)).stored
            damage(state_dir, "UPDATE nodes SET wire_sum = x'00'")
        name, text, above = answered(state_dir, REVISION)
        assert (name, above) == ("CorruptRowError", ["CorruptRecordError", "StoreError"])
        assert answered(state_dir) == ["CorruptRecordError", text]
        assert answered(state_dir, 0) == ["CorruptRecordError", text]
        with state_dir.engine(cache_ttl_s=1e-9) as engine:
            for read in (engine.latest_sync, engine.nodes_sync, engine.history_sync):
                with pytest.raises(CorruptRowError, match="run") as caught:
                    read("run")
                assert isinstance(caught.value, StoreError)


def test_what_the_agent_finds_in_a_row_is_damage_of_the_store(state_dir: Place) -> None:
    """A state of a kind that no version writes: only who has to understand it finds that out."""
    with state_dir.service(), state_dir.engine(cache_ttl_s=1e-9) as engine:
        node = ExecutionNode("run")
        assert engine.save_sync(node, b"state").result(patience(60)).stored
        damage(state_dir, "UPDATE checkpoints SET state_kind = 77")
        for read, name in (
            (engine.latest_sync, "run"), (engine.history_sync, "run"), (engine.load_sync, node.id),
        ):  # fmt: skip
            with pytest.raises(CorruptBlobError, match=f"state of node {node.id} of execution run"):
                read(name)
            with pytest.raises(StoreError) as caught:
                read(name)
            assert isinstance(caught.value, CorruptRecordError)
