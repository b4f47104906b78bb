"""``livingai import --from langgraph-sqlite``: databases that real graphs have made."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph.checkpoint.sqlite")

from langgraph.checkpoint.serde.types import ERROR, RESUME
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from livingai.adapters.langgraph import LivingAISaver
from livingai.importing.kinds import ImportOptions, ImportSummary, load
from livingai.importing.langgraph_sqlite import _opened
from tests.frameworks.importing import graphs
from tests.frameworks.importing.commands import imported, run_import
from tests.frameworks.importing.graphs import (
    DELETED,
    DONE,
    INTERRUPTED,
    LONG,
    chat_graph,
    config_of,
    contents,
)
from tests.support.place import Place

KIND = "langgraph-sqlite"


def theirs(path: Path, thread_id: str) -> list[Any]:
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        return contents(SqliteSaver(connection), thread_id)


def test_all_that_the_saver_showed_is_shown(place: Place, tmp_path: Path) -> None:
    path = graphs.made_sqlite(tmp_path / "checkpoints.db")
    before = path.read_bytes()
    summary = imported(place, KIND, path)
    assert summary["threads"] == 3
    assert summary["added_checkpoints"] == summary["verified_checkpoints"] == 46
    assert summary["added_writes"] == summary["writes"] > 100
    assert summary["types"] == [f"{graphs.__name__}.Verdict"]
    assert path.read_bytes() == before
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for thread_id in (INTERRUPTED, DONE, LONG):
            expected = theirs(path, thread_id)
            assert contents(saver, thread_id) == expected
            assert any(each[1]["channel_values"] for each in expected)
        assert contents(saver, DELETED) == []
    again = imported(place, KIND, path)
    assert (again["added_checkpoints"], again["added_writes"]) == (0, 0)
    assert again["verified_checkpoints"] == 46


def test_an_interrupted_graph_goes_on_after_the_move(place: Place, tmp_path: Path) -> None:
    path = graphs.made_sqlite(tmp_path / "checkpoints.db")
    imported(place, KIND, path)
    command: Any = Command(resume="go")
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        stays = chat_graph(SqliteSaver(connection))
        expected = stays.invoke(command, config_of(INTERRUPTED))
        with place.engine() as engine:
            moved = chat_graph(LivingAISaver(engine))
            assert moved.get_state(config_of(INTERRUPTED)).next == ("inner",)
            assert moved.invoke(command, config_of(INTERRUPTED)) == expected
            assert len(moved.get_state(config_of(INTERRUPTED)).values["messages"]) == 7
    assert "go" in expected["notes"]
    # What went on here is left alone by another import of what stayed as it was.
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM checkpoints WHERE thread_id = ?", (INTERRUPTED,))
    again = imported(place, KIND, path)
    assert again["added_checkpoints"] == 0


def test_a_thread_that_went_on_in_the_store_is_left_alone(
    file_place: Place, tmp_path: Path
) -> None:
    path = graphs.made_sqlite(tmp_path / "checkpoints.db")
    imported(file_place, KIND, path)
    command: Any = Command(resume="go")
    with file_place.engine() as engine:
        chat_graph(LivingAISaver(engine)).invoke(command, config_of(INTERRUPTED))
        went_on = contents(LivingAISaver(engine), INTERRUPTED)
    again = imported(file_place, KIND, path)
    assert (again["added_checkpoints"], again["added_writes"]) == (0, 0)
    with file_place.engine() as engine:
        assert contents(LivingAISaver(engine), INTERRUPTED) == went_on


def test_an_import_that_is_killed_is_done_again(place: Place, tmp_path: Path) -> None:
    path = graphs.many_checkpoints(tmp_path / "checkpoints.db", 60, 4000)
    for killed_at in (1, 2, 37, 60):
        env = {"LIVINGAI_FAILPOINTS": f"journal.after_publish@command=kill*{killed_at}"}
        assert run_import(place, KIND, path, env=env).returncode == -9
    last = imported(place, KIND, path)
    assert 0 < last["added_checkpoints"] < 60
    assert last["verified_checkpoints"] == 60
    with place.engine() as engine:
        assert contents(LivingAISaver(engine), "many") == theirs(path, "many")
        info = engine.executions_sync().executions
        assert sum(each.nodes for each in info) == 120, "nothing is there twice"


def test_one_moment_of_a_database_in_use(file_place: Place, tmp_path: Path) -> None:
    path = graphs.many_checkpoints(tmp_path / "checkpoints.db", 150, 800)
    new: dict[str, Any] = {"source": "loop", "step": 0}

    async def use(thread_id: str) -> None:
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
            await saver.aput(config, _checkpoint("00000200"), new, {})

    seen: list[ImportSummary] = []

    def progress(summary: ImportSummary) -> None:
        if not seen:
            asyncio.run(use("many"))
            asyncio.run(use("late"))
        seen.append(summary)

    with closing(sqlite3.connect(path)) as writer, file_place.engine() as engine:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE checkpoints SET metadata = '{}'")  # never committed
        writer.rollback()
        writer.execute('UPDATE checkpoints SET metadata = \'{"in": "the log"}\'')
        writer.commit()  # in the write-ahead log, as `writer` is still open
        summary = load(KIND)(str(path), engine, ImportOptions(), progress)
        saver = LivingAISaver(engine)
        assert (summary.threads, summary.checkpoints) == (1, 150)
        assert len(seen) > 1
        assert all(each[2] == {"in": "the log"} for each in contents(saver, "many"))
        assert contents(saver, "late") == []
        summary = load(KIND)(str(path), engine, ImportOptions(), progress)
        assert (summary.threads, summary.added_checkpoints) == (2, 2)


def test_a_saver_cannot_end_that_moment(tmp_path: Path) -> None:
    path = graphs.many_checkpoints(tmp_path / "checkpoints.db", 2, 80)
    with _opened(str(path)) as connection:
        connection.commit()
        assert connection.in_transaction
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM writes")


def _checkpoint(checkpoint_id: str, values: dict[str, Any] | None = None) -> Any:
    return {
        "v": 4, "id": checkpoint_id, "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values or {}, "channel_versions": {}, "versions_seen": {},
    }  # fmt: skip


def test_a_dry_run_writes_nothing(file_place: Place, tmp_path: Path) -> None:
    path = graphs.made_sqlite(tmp_path / "checkpoints.db")
    target = tmp_path / "not there.db"
    told = run_import(file_place, KIND, path, "--dry-run", store=target)
    assert "would import 46 checkpoints" in told.stdout
    assert not target.exists()
    summary = imported(file_place, KIND, path, "--thread", DONE)
    assert (summary["threads"], summary["checkpoints"]) == (1, 24)
    told = run_import(file_place, KIND, path, "--dry-run")
    assert "would import 22 checkpoints" in told.stdout
    with file_place.engine() as engine:
        assert contents(LivingAISaver(engine), INTERRUPTED) == []
        assert len(contents(LivingAISaver(engine), DONE)) == 24
    told = run_import(file_place, KIND, path, "--thread", "nobody")
    assert (told.returncode, "no thread 'nobody'" in told.stderr) == (4, True)


def test_parents_come_before_children_whatever_their_ids(file_place: Place, tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.db"
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        saver = SqliteSaver(connection)
        for checkpoint_id, parent in (
            ("5", None),
            ("9", "5"),
            ("1", "9"),
            ("0", "gone"),
            ("4", "1"),
        ):
            config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
            if parent:
                config["configurable"]["checkpoint_id"] = parent
            saver.put(config, _checkpoint(checkpoint_id), {"source": "loop", "step": 0}, {})
        config["configurable"]["checkpoint_id"] = "nowhere"
        saver.put_writes(config, [("a", 1), ("b", 2)], "task")
    summary = imported(file_place, KIND, path)
    assert summary["writes_without_checkpoint"] == 2
    with file_place.engine() as engine:
        stored = [
            node.metadata["checkpoint"]
            for node in engine.nodes_sync("langgraph:t")
            if node.metadata["name"] == "checkpoint"
        ]
        assert contents(LivingAISaver(engine), "t") == theirs(path, "t")
    assert stored == ["0", "5", "9", "1", "4"]


def test_a_task_that_failed_again_has_its_newest_error(file_place: Place, tmp_path: Path) -> None:
    path = graphs.many_checkpoints(tmp_path / "checkpoints.db", 2, 80)
    place: Any = {"thread_id": "many", "checkpoint_ns": "", "checkpoint_id": "00000001"}
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        saver = SqliteSaver(connection)
        for number, error in enumerate(("first", "second")):
            saver.put_writes({"configurable": place}, [(ERROR, error)], "task-1", "~path")
            saver.put_writes({"configurable": place}, [("late", number)], f"late-{number}")
            imported(file_place, KIND, path)
            with file_place.engine() as engine:
                found = contents(LivingAISaver(engine), "many")
                assert found == contents(saver, "many")
                assert ("task-1", ERROR, error) in found[0][4]
        with file_place.engine() as engine:  # the program goes on here
            LivingAISaver(engine).put_writes({"configurable": place}, [(RESUME, ["yes"])], "task-1")
        saver.put_writes({"configurable": place}, [(ERROR, "third")], "task-1", "~path")
    told = run_import(file_place, KIND, path)
    assert (told.returncode, "pending writes" in told.stderr) == (4, True)
    with file_place.engine() as engine:
        found = contents(LivingAISaver(engine), "many")
        assert ("task-1", ERROR, "second") in found[0][4]


def test_what_differs_in_the_store_is_named(file_place: Place, tmp_path: Path) -> None:
    path = graphs.many_checkpoints(tmp_path / "checkpoints.db", 3, 80)
    with file_place.engine() as engine:
        config: Any = {"configurable": {"thread_id": "many", "checkpoint_ns": ""}}
        LivingAISaver(engine).put(
            config, _checkpoint("00000001", {"text": "other"}), {"source": "loop"}, {}
        )
    told = run_import(file_place, KIND, path, "--json")
    assert told.returncode == 4
    assert json.loads(told.stdout)["error"] == "ImportMismatchError"
    assert "checkpoint 00000001 of thread 'many'" in told.stderr
    assert "channel 'text'" in told.stderr


def _changed(path: Path, *statements: str) -> Path:
    graphs.many_checkpoints(path, 2, 80)
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return path


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        (("DROP TABLE writes",), "no database of LangGraph's SQLite saver"),
        (("ALTER TABLE checkpoints DROP COLUMN metadata",), "older saver"),
        (("UPDATE checkpoints SET type = 'pickle' WHERE checkpoint_id LIKE '%1'",), "'pickle'"),
        (("UPDATE writes SET type = 'msgpack+aes'",), "serializer of the source"),
        (("UPDATE writes SET value = x'c1'",), "damaged"),
        (("UPDATE checkpoints SET checkpoint = x'81a3'",), "damaged"),
    ],
)
def test_what_cannot_be_imported_is_said(
    file_place: Place, tmp_path: Path, statements: tuple[str, ...], sentence: str
) -> None:
    path = _changed(tmp_path / "checkpoints.db", *statements)
    told = run_import(file_place, KIND, path)
    assert (told.returncode, "Traceback" in told.stderr) == (4, False)
    assert sentence in " ".join(told.stderr.split())


def test_other_files_are_refused(file_place: Place, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no database " * 100)
    for path, sentence in ((text, "not a database"), (tmp_path / "none.db", "there is no file")):
        told = run_import(file_place, KIND, path)
        assert (told.returncode, sentence in told.stderr) == (4, True)


def test_a_database_from_before_task_paths_is_read_as_it_is(
    file_place: Place, tmp_path: Path
) -> None:
    path = _changed(tmp_path / "checkpoints.db", "ALTER TABLE writes DROP COLUMN task_path")
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    assert imported(file_place, KIND, path)["added_writes"] == 2
    with closing(sqlite3.connect(path)) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(writes)")}
    assert "task_path" not in columns
    with file_place.engine() as engine:
        assert contents(LivingAISaver(engine), "many") == theirs(copy, "many")


def _as_json(path: Path, *id_of_class: str) -> Path:
    """A checkpoint as the savers of the first releases wrote it, with an object of that class."""
    value = {"lc": 2, "type": "constructor", "id": id_of_class, "kwargs": {"content": "hello"}}
    text = json.dumps(_checkpoint("00000001", {"text": [value, 1]}))
    graphs.many_checkpoints(path, 2, 80)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE checkpoints SET type = 'json', checkpoint = ? WHERE checkpoint_id = '00000001'",
            (text.encode(),),
        )
    return path


def test_what_the_first_savers_wrote_is_read(file_place: Place, tmp_path: Path) -> None:
    message = ("langchain_core", "messages", "human", "HumanMessage")
    path = _as_json(tmp_path / "checkpoints.db", *message)
    assert imported(file_place, KIND, path)["verified_checkpoints"] == 2
    with file_place.engine() as engine:
        found = contents(LivingAISaver(engine), "many")
    assert found == theirs(path, "many")
    assert found[0][1]["channel_values"]["text"][0].content == "hello"
    path = _as_json(tmp_path / "other.db", "app", "models", "Order")
    told = run_import(file_place, KIND, path)
    assert (told.returncode, "app.models.Order" in told.stderr) == (4, True)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE checkpoints SET metadata = 'no JSON'",
        "UPDATE checkpoints SET checkpoint = NULL",
        "UPDATE checkpoints SET checkpoint = x'01', type = 'msgpack'",
    ],
)
def test_a_damaged_row_is_named(file_place: Place, tmp_path: Path, damage: str) -> None:
    path = _changed(tmp_path / "checkpoints.db", damage)
    told = run_import(file_place, KIND, path)
    assert (told.returncode, "Traceback" in told.stderr) == (4, False), told.stderr
    assert "checkpoint 00000000 of thread 'many'" in told.stderr


def test_strict_refuses_a_type_that_strict_deserialization_would_not_make(
    file_place: Place, tmp_path: Path
) -> None:
    path = graphs.made_sqlite(tmp_path / "checkpoints.db")
    told = run_import(file_place, KIND, path, "--strict")
    assert told.returncode == 4
    assert f"{graphs.__name__}.Verdict" in told.stderr
    assert "UnreadableValueError" in told.stderr
    env = {"LANGGRAPH_STRICT_MSGPACK": "true"}
    assert run_import(file_place, KIND, path, env=env).returncode == 4


def test_memory_holds_a_few_checkpoints(file_place: Place, tmp_path: Path) -> None:
    path = graphs.many_checkpoints(tmp_path / "checkpoints.db", 1000, 40_000)
    with file_place.engine() as engine:
        tracemalloc.start()
        load(KIND)(str(path), engine, ImportOptions(), lambda _: None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20e6, "of 40 MB"
