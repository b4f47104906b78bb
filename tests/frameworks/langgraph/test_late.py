"""What the store refuses after a put has returned, and what an event loop does not wait for."""

from __future__ import annotations

import threading
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from livingai.adapters.langgraph import LivingAISaver
from livingai.errors import RecordRefusedError
from tests.frameworks.langgraph.graphs import config_of, named, put
from tests.support.place import Place
from tests.support.sqlite import refuse


def test_every_late_failure_is_told(file_place: Place) -> None:
    with file_place.engine() as engine:
        saver = LivingAISaver(engine)
        put(saver, "t", "1", {"at": 1})
        saver.flush(60)
        refuse(file_place.database, "NEW.node_id LIKE '%/w %'")
        for task in ("one", "two", "three"):
            saver.put_writes(named("t", "1"), [("at", task)], task)
        saver.put_writes(named("other", "1"), [("at", 1)], "task")
        engine.drain_sync()  # all have an outcome now
        with pytest.raises(RecordRefusedError, match="2 more failed") as raised:
            saver.get_tuple(config_of("t"))
        assert str(raised.value).count("langgraph:t/w") == 3
        with pytest.raises(RecordRefusedError, match="langgraph:other/w"):
            saver.flush(60)
        saver.flush(60)
        assert saver.get_tuple(config_of("t")) is not None
        put(saver, "t", "2", {"at": 2})
        saver.put_writes(named("t", "2"), [("at", 1)], "last")
        with pytest.raises(RecordRefusedError, match="langgraph:t/w"):
            saver.flush(60)


class Noting(JsonPlusSerializer):
    """It notes in which threads large values are read."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        if len(data[1]) > 1 << 15:
            self.threads.add(threading.get_ident())
        return super().loads_typed(data)


async def test_large_values_are_read_beside_the_event_loop(file_place: Place) -> None:
    serde = Noting()
    large = {"at": "large " * 50_000}
    async with file_place.engine() as engine:
        saver = LivingAISaver(engine, serde=serde)
        await saver.aput(
            {"configurable": {"thread_id": "t", "checkpoint_ns": ""}},
            {"v": 4, "id": "1", "ts": "", "channel_values": large, "channel_versions": {"at": "1"},
             "versions_seen": {}, "updated_channels": None},
            {"source": "loop", "step": 0, "parents": {}}, {"at": "1"},
        )  # fmt: skip
        found = await saver.aget_tuple(config_of("t"))
        assert found is not None
        assert found.checkpoint["channel_values"] == large
        assert [each.checkpoint["id"] async for each in saver.alist(config_of("t"))] == ["1"]
        assert serde.threads
        assert threading.get_ident() not in serde.threads
