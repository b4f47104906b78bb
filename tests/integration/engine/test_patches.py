"""States that an agent writes as patches: wherever they are read, they are what was saved, whatever
becomes of the state that they build on."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from livingai import CheckpointEngine, ExecutionNode, Receipt
from livingai.errors import CorruptRecordError
from livingai.inspection.check import check_directory
from livingai.inspection.quarantine import list_aside, requeue
from livingai.queue.layout import segment_of
from livingai.queue.patch import is_patch
from livingai.queue.tail import Found
from tests.support import acts, peek
from tests.support.journals import flip_in_record, records
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.sqlite import raw, refuse
from tests.support.states import state_of
from tests.support.waiting import frozen, kill, until

SIZE = 100_000
#: A state directory that an earlier livingai has left, whose journal has number 1 and 8 records.
FORMAT_1 = Path(__file__).parents[2] / "support" / "format1.tar.xz"


def state(step: int) -> bytes:
    return state_of("run-1", step, SIZE)


def save(engine: CheckpointEngine, *steps: int, history: bool = True) -> list[Receipt]:
    return [
        engine.save_sync(ExecutionNode("run-1", id=f"n{step}"), state(step), history=history)
        for step in steps
    ]


def written(place: Place) -> list[Found]:
    """The records of the one journal."""
    (journal,) = place.journals()
    return records(journal)


def stored_codecs(place: Place) -> list[int]:
    sql = "SELECT hex(substr(b.blob, 1, 1)) FROM checkpoints JOIN blobs b USING (blob_id)"
    return [int(byte, 16) for (byte,) in raw(place.database, f"{sql} ORDER BY epoch, seq")]


def forget_base(place: Place) -> None:
    """The store has no state any more that a delta could name."""
    with closing(apsw.Connection(str(place.database))) as connection:
        connection.set_busy_timeout(5000)
        connection.execute("UPDATE checkpoints SET content_hash = zeroblob(16)")


def test_patches_are_stored_as_they_are_and_read_everywhere(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        assert all(receipt.result(patience(30)).stored for receipt in save(engine, *range(10)))
        kinds = [is_patch(found.header) for found in written(state_dir)]
        assert kinds == [False] + [True] * 9
        assert sum(found.header.length for found in written(state_dir)[1:]) < 9 * 2500
        assert engine.latest_sync("run-1")[1] == state(9)  # from the own journal
        other = state_dir.agent()
        assert other.call(acts.latest, "run-1")[1] == state(9)  # from another process's
        other.end()
    assert stored_codecs(state_dir)[1:] == [3] * 9
    assert peek.stored_state(state_dir.database, "run-1") == state(9)
    with state_dir.engine(cache_ttl_s=1e-9) as engine:
        for step in range(10):
            assert engine.load_sync(f"n{step}")[1] == state(step)


@pytest.mark.parametrize("kind", [bytearray, dict])
def test_states_of_all_kinds(state_dir: Place, kind: type) -> None:
    with state_dir.engine() as engine:
        for step in range(3):
            made = bytearray(state(step)) if kind is bytearray else {"text": state(step), "n": step}
            assert engine.save_sync(ExecutionNode("run-1"), made).result(patience(30)).stored
            assert engine.latest_sync("run-1")[1] == made
        assert [is_patch(found.header) for found in written(state_dir)] == [False, True, True]
    with state_dir.engine(cache_ttl_s=1e-9) as engine:
        back = engine.latest_sync("run-1")[1]
        assert back == made
        assert type(back) is kind


@pytest.mark.parametrize("codec", ["raw", "zlib", "zstd"])
def test_another_codec_gets_whole_states(state_dir: Place, codec: str) -> None:
    """The service may have been started with it by another process; a patch is no surprise then."""
    with state_dir.engine(codec=codec) as engine:
        assert all(receipt.result(patience(30)).stored for receipt in save(engine, *range(4)))
        assert any(is_patch(found.header) for found in written(state_dir))
    assert 3 not in stored_codecs(state_dir)
    assert peek.stored_state(state_dir.database, "run-1") == state(3)
    sizes = raw(state_dir.database, "SELECT raw_bytes FROM checkpoints ORDER BY epoch, seq")
    assert [size for (size,) in sizes] == [len(state(step)) for step in range(4)]


def test_none_are_written_where_that_is_asked_for(state_dir: Place) -> None:
    with state_dir.engine(patch_from_bytes=0) as engine:
        save(engine, *range(4))
        engine.flush_sync(timeout=patience(30))
        assert not any(is_patch(found.header) for found in written(state_dir))


@pytest.mark.damaged("state-damaged")
def test_a_base_that_the_store_lost(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        assert save(engine, 0)[0].result(patience(30)).stored
        forget_base(state_dir)
        assert all(receipt.result(patience(30)).stored for receipt in save(engine, 1, 2))
        assert [is_patch(found.header) for found in written(state_dir)] == [False, True, True]
    assert stored_codecs(state_dir)[1] != 3
    assert peek.stored_state(state_dir.database, "run-1") == state(2)


def test_a_base_that_the_store_refuses(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("other")).result(patience(30))
        refuse(state_dir.database, "new.node_id = 'n0'")
        with frozen(state_dir.service_processes()):
            receipts = save(engine, 0, 1, 2)
        assert receipts[0].result(patience(30)).status == "quarantined"
        assert all(receipt.result(patience(30)).stored for receipt in receipts[1:])
        assert engine.latest_sync("run-1")[1] == state(2)
        (receipt,) = save(engine, 3)  # nothing more is built on it
        assert receipt.result(patience(30)).stored
        newest = written(state_dir)[-1].header
        assert (newest.seq, is_patch(newest)) == (4, False)
    assert peek.stored_state(state_dir.database, "run-1") == state(3)


def test_a_base_that_is_damaged_before_it_was_stored(state_dir: Place) -> None:
    state_dir.tracebacks_allowed = True
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("other")).result(patience(30))
        with frozen(state_dir.service_processes()):
            receipts = save(engine, 0, 1)
            (journal,) = state_dir.journals()
            flip_in_record(journal, written(state_dir)[1], 5000)
            report = check_directory(state_dir.directory.path)
            assert any("what has changed since" in finding.what for finding in report.findings)
        outcomes = [receipt.result(patience(30)) for receipt in receipts]
        assert [str(outcome.status) for outcome in outcomes] == ["quarantined"] * 2
        assert "what has changed since the state of write 1" in outcomes[1].reason
        (bare,) = [
            a.path for a in list_aside(state_dir.directory) if "what has changed" in a.reason
        ]
        with pytest.raises(CorruptRecordError, match="only what had changed"):
            requeue(engine, bare)
        assert save(engine, 2)[0].result(patience(30)).stored
        assert engine.latest_sync("run-1")[1] == state(2)


def test_a_base_that_was_stored_and_is_damaged_then(state_dir: Place) -> None:
    """The store has it, so the patch is stored; only the cache does not know its state."""
    with state_dir.engine() as engine:
        assert save(engine, 0)[0].result(patience(30)).stored
        with frozen(state_dir.service_processes()):
            (receipt,) = save(engine, 1)
            (journal,) = state_dir.journals()
            flip_in_record(journal, written(state_dir)[0], 5000)
        assert receipt.result(patience(30)).stored
        assert engine.latest_sync("run-1")[1] == state(1)  # asks the service


@pytest.mark.damaged("state-damaged")
def test_a_quarantined_patch_stands_alone(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        assert save(engine, 0)[0].result(patience(30)).stored
        refuse(state_dir.database, "new.node_id = 'n1'")
        assert save(engine, 1)[0].result(patience(30)).status == "quarantined"
        assert save(engine, 2)[0].result(patience(30)).stored
        raw(state_dir.database, "DROP TRIGGER refuse")
    state_dir.empty()
    forget_base(state_dir)
    with state_dir.engine() as engine:  # all that it built on is gone by now
        (aside,) = list_aside(state_dir.directory)
        assert requeue(engine, aside.path).stored
        assert engine.load_sync("n1")[1] == state(1)


def test_states_that_are_overtaken_leave_their_base_behind(state_dir: Place) -> None:
    """Without history only the newest of a batch is stored, and what it builds on."""
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("other")).result(patience(30))
        with frozen(state_dir.service_processes()):
            receipts = save(engine, *range(30), history=False)
        told = Counter(str(receipt.result(patience(30)).status) for receipt in receipts)
        assert told["superseded"] > 15
        assert told["superseded"] + told["met"] + told["late"] == 30
        assert engine.latest_sync("run-1")[1] == state(29)
    assert peek.stored_state(state_dir.database, "run-1") == state(29)


@pytest.mark.parametrize("process", ["dispatcher", "writers", "compressors", "supervisor"])
def test_a_death_in_the_middle(state_dir: Place, process: str) -> None:
    state_dir.service_killed = True
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("other"), os.urandom(30_000)).result(patience(30))
        if process == "compressors":
            until(state_dir.compressors, what="compressors")
        receipts = []
        for number in range(6):
            receipts += save(engine, *range(5 * number, 5 * number + 5))
            found = state_dir.pids()[process]
            kill(*filter(None, found if isinstance(found, list | tuple) else [found]))
        assert all(receipt.result(patience(60)).stored for receipt in receipts)
        assert any(is_patch(found.header) for found in written(state_dir))
    assert peek.stored_state(state_dir.database, "run-1") == state(29)
    with state_dir.store() as store:
        assert len(list(store.checkpoints("run-1", blobs=False))) == 30


def test_no_mapping_holds_a_segment_that_is_gone(state_dir: Place) -> None:
    """Its disk space would be kept by the agent that has deleted it."""
    with state_dir.engine(segment_bytes=262_144, cache_ttl_s=0.01) as engine:
        for step in range(10):
            save(engine, step)
            engine.save_sync(ExecutionNode("other"), os.urandom(200_000))
        engine.flush_sync(timeout=patience(30))
        journal = engine.open_handle().open_journal()
        folder = Path(journal.directory)

        def expired() -> bool:
            journal.expire()
            return len(list(folder.glob("*.seg"))) == 1

        until(expired, what="all but one segment given back")
        maps = Path("/proc/self/maps").read_text().splitlines()
        assert not [line for line in maps if journal.directory in line and "(deleted)" in line]


def test_a_state_whose_base_left_the_cache(state_dir: Place) -> None:
    """Another process finds the patch and not its base: it asks the service."""
    small = {"segment_bytes": 262_144, "journal_bytes": 1 << 20, "cache_bytes": 262_144}
    with state_dir.engine(**small) as engine:
        save(engine, 0)
        engine.save_sync(ExecutionNode("other"), os.urandom(200_000))
        engine.save_sync(ExecutionNode("run-1", id="n1"), state(1))
        engine.flush_sync(timeout=patience(30))
        at = written(state_dir)[-1]
        assert is_patch(at.header)
        (journal,) = state_dir.journals()
        os.unlink(Path(journal, f"{segment_of(at.position) - 1:010d}.seg"))
        other = state_dir.agent()
        assert other.call(acts.latest, "run-1")[1] == state(1)
        other.end()


def test_a_journal_of_an_earlier_livingai_is_stored(state_dir: Place) -> None:
    with tarfile.open(FORMAT_1) as archive:
        archive.extractall(state_dir.directory.path, filter="data")
    path = Path(state_dir.directory.path, "manifest.json")
    manifest = json.loads(path.read_text())
    manifest["store"] = f"sqlite:///{state_dir.database}"
    manifest["directory"] = os.path.realpath(state_dir.directory.path)
    path.write_text(json.dumps(manifest))
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1")).result(patience(30))
        engine.flush_sync(timeout=patience(30))
        for step in range(4):
            assert engine.load_sync(f"small/{step}")[1] == state_of("small", step, 900)
            assert engine.load_sync(f"large/{step}")[1] == state_of("large", step, SIZE)
