"""Damage done to a real database and its state directory, and what has to be found of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from livingai import SQLiteStore
from livingai.inspection.check import check_directory
from livingai.inspection.report import Code, Report
from livingai.queue.directory import StateDirectory
from tests.support import acts
from tests.support.place import Place
from tests.support.sqlite import raw
from tests.support.waiting import frozen, gone, kill

#: The last execution was deleted, the one before is superseded in parts.
EXECUTIONS = ("run-1", "run-2", "overtaken", "deleted")
STEPS = 6
OVERTAKEN = 30


class Stored:
    """A database with its state directory, which no process uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "agent.db"
        self.directory = StateDirectory(f"{self.database}-livingai")
        #: The database as it was before the last steps were saved.
        self.older = folder / "older.db"

    @classmethod
    def make(cls, place: Place) -> Stored:
        """Have an agent and its service write all of it, and kill both."""
        stored = cls(place.folder)
        agent = place.agent(idle_s=60.0)
        for step in range(STEPS):
            agent.call(acts.save, "run-1", step)
            agent.call(acts.save, "run-2", step, size=None)
            if step == 3:
                agent.call(acts.drain)
                with closing(apsw.Connection(str(stored.database))) as connection:
                    connection.execute("VACUUM INTO ?", (str(stored.older),))
        with frozen(place.service_processes()):
            agent.call(acts.save_many, "overtaken", OVERTAKEN, history=False)
        agent.call(acts.save, "deleted", 0)
        agent.call(acts.drain)
        statuses = agent.call(acts.statuses)
        assert set(statuses) <= {"met", "late", "superseded"}
        assert "superseded" in statuses
        assert agent.call(acts.delete, "deleted") == 1
        service = place.service_processes()
        agent.kill()
        kill(*service)
        gone(*service)
        place.service_killed = True
        (journal,) = place.journals()
        assert os.path.isdir(journal)
        return stored

    def copy(self, folder: Path) -> Stored:
        """All of it at another place, as it is."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("*.sock"))
        return Stored(folder)

    def store(self) -> SQLiteStore:
        """The database."""
        return SQLiteStore(self.database)

    def check(self) -> Report:
        """The directory with its store."""
        return check_directory(self.directory.path, self.store())

    def sql(self, statement: str, *bindings: Any) -> list[Any]:
        """Run SQL past the store."""
        return raw(self.database, statement, *bindings)


class Case(NamedTuple):
    """Damage, what it is found as, and words of that."""

    name: str
    act: Callable[[Stored], object]
    code: Code
    what: str


def _update(table: str, change: str, where: str = "execution_id = 'run-1'") -> Any:
    return lambda stored: stored.sql(f"UPDATE {table} SET {change} WHERE {where}")


_NEWEST = f"execution_id = 'run-1' AND seq = {STEPS}"
_BLOB_OF = "blob_id = (SELECT blob_id FROM checkpoints WHERE execution_id = 'run-1' AND seq = {})"


def _flip_blob(stored: Stored) -> None:
    """In the middle of a state; its sum is that of the damaged bytes, as a program writes them."""
    import xxhash

    where = _BLOB_OF.format(STEPS)
    ((blob,),) = stored.sql(f"SELECT blob FROM blobs WHERE {where}")
    wrong = bytearray(blob)
    wrong[len(wrong) // 2] ^= 4
    stored.sql(f"UPDATE blobs SET blob = ? WHERE {where}", bytes(wrong))
    change = f"UPDATE checkpoints SET blob_sum = ? WHERE {_NEWEST}"
    stored.sql(change, xxhash.xxh3_64_digest(bytes(wrong)))


def _drop_base(stored: Stored) -> None:
    found = stored.sql(
        "SELECT content_hash FROM checkpoints WHERE execution_id = 'run-1' AND content_hash IN "
        "(SELECT base_hash FROM checkpoints WHERE execution_id = 'run-1')"
    )
    assert found, "no delta was stored"
    stored.sql("DELETE FROM checkpoints WHERE content_hash = ?", found[0][0])


def restore(stored: Stored) -> None:
    """Put the older copy in the place of the database."""
    for suffix in ("-wal", "-shm", ""):
        Path(f"{stored.database}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(stored.older, stored.database)


def _lose_a_node(stored: Stored) -> None:
    stored.sql("DELETE FROM nodes WHERE execution_id = 'run-2' AND seq = 2")
    stored.sql("UPDATE executions SET nodes = nodes - 1 WHERE execution_id = 'run-2'")


def _lose_the_newest_state(stored: Stored) -> None:
    stored.sql(f"DELETE FROM checkpoints WHERE {_NEWEST}")
    stored.sql("UPDATE executions SET checkpoints = checkpoints - 1 WHERE execution_id = 'run-1'")


def _forget(stored: Stored) -> None:
    _empty(stored)
    stored.sql("DELETE FROM owners WHERE execution_id = 'overtaken'")


def _empty(stored: Stored) -> None:
    """All but the owners, which say that it was there."""
    for table in ("executions", "nodes", "checkpoints"):
        stored.sql(f"DELETE FROM {table} WHERE execution_id = 'overtaken'")


CASES: list[Case] = [
    Case("a line of words", _update("executions", "nodes = 'x'"), Code.EXECUTION_DAMAGED, "nodes"),
    Case("an owner of words", _update("owners", "epoch = 'x'"), Code.EXECUTION_DAMAGED, "epoch"),
    Case(
        "a line that is older", _update("executions", "seq = seq - 1"),
        Code.EXECUTION_BEHIND, f"write 1.{STEPS} is there, but its line names 1.{STEPS - 1}",
    ),
    Case(
        "an owner that is older", _update("owners", "epoch = 0"),
        Code.EXECUTION_BEHIND, "the newest owner has epoch 0",
    ),
    Case(
        "counts of nodes", _update("executions", "nodes = nodes + 1"),
        Code.EXECUTION_COUNTS, f"its line counts {STEPS + 1} nodes",
    ),
    Case(
        "counts of states", _update("executions", "checkpoints = checkpoints + 1"),
        Code.EXECUTION_COUNTS, f"{STEPS + 1} states",
    ),
    Case(
        "a node's sum", _update("nodes", "wire_sum = x'00'", "execution_id = 'run-2' AND seq = 3"),
        Code.NODE_DAMAGED, "does not match its checksum",
    ),
    Case(
        "a state's sum", _update("checkpoints", "blob_sum = x'00'", _NEWEST),
        Code.STATE_DAMAGED, "does not match its checksum",
    ),
    Case("a state's bytes", _flip_blob, Code.STATE_DAMAGED, f"state 1.{STEPS} of node"),
    Case(
        "a state's hash",
        _update("checkpoints", "content_hash = randomblob(16)", _NEWEST),
        Code.STATE_DAMAGED, "does not match its content hash",
    ),
    Case("a base that is gone", _drop_base, Code.STATE_BASE, "is not in the store"),
    Case(
        "a huge state", _update("checkpoints", f"raw_bytes = {1 << 40}", _NEWEST),
        Code.STATE_TOO_LARGE, "raise the limit",
    ),
    Case("an older copy", restore, Code.NOT_STORED, "and the store does not have it"),
    Case("a node that is gone", _lose_a_node, Code.NOT_STORED, "execution run-2"),
    Case("the newest state is gone", _lose_the_newest_state, Code.NOT_STORED, "execution run-1"),
    Case("all is gone", _forget, Code.NOT_STORED, "(30) of execution overtaken"),
    Case(
        "all but the owners is gone", _empty,
        Code.NOT_STORED, "(30) of execution overtaken",
    ),
]  # fmt: skip
