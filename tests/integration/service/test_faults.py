"""What goes wrong around the service's processes: no descriptors, no start, odd messages, stops."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import psutil
import pytest

from livingai import CheckpointEngine, ExecutionNode
from livingai.inspection.quarantine import list_aside, requeue
from livingai.protocol.frames import LENGTH, PROTOCOL_VERSION, FrameBuffer, Message, frame
from livingai.queue.journal import Journal, JournalLimits
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.lock import owner_alive
from livingai.queue.segment import segment_name
from livingai.queue.tail import JournalTail
from tests.support import acts, peek
from tests.support.agents import environment
from tests.support.fragile import FragileStore
from tests.support.journals import Writer
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.sqlite import refusing
from tests.support.states import LARGE, state_of
from tests.support.waiting import frozen, gone, joined, kill, until


def log_of(place: Place) -> str:
    """What the service has said."""
    return Path(place.directory.log).read_text(errors="replace")


def test_a_requeued_older_state_supersedes_nothing(state_dir: Place) -> None:
    """It comes behind newer states of its claim, and asks for no history as they do."""
    agent = state_dir.agent(history=False)
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    with refusing(state_dir.database, "json_extract(NEW.output, '$.step') = 1"):
        agent.call(acts.save, "run-1", 1)
        assert agent.settled(2).get("quarantined") == 1
    (aside,) = list_aside(state_dir.directory)
    with state_dir.engine() as engine:
        with frozen(state_dir.pids()["writers"]):
            for step in (2, 3, 4):
                agent.call(acts.save, "run-1", step)
            until(lambda: state_dir.ask("status").inflight == 3, what="three on their way")
            again = threading.Thread(target=requeue, args=(engine, aside.path))
            again.start()
            until(lambda: state_dir.ask("status").inflight == 4, what="four on their way")
        joined(again)
    agent.settled(5)
    assert peek.stored_state(state_dir.database, "run-1") == state_of("run-1", 4)


def test_a_requeued_first_record_takes_nothing_over(state_dir: Place) -> None:
    """All that its claim had was quarantined, and another process has gone on since."""
    first, second = state_dir.agent(), state_dir.agent()
    second.call(acts.save, "run-2", 0)
    second.settled(1)
    with refusing(state_dir.database, "json_extract(NEW.output, '$.step') = 1"):
        first.call(acts.save, "run-1", 1)
        assert first.settled(1) == {"quarantined": 1}
    second.call(acts.save, "run-1", 2)
    second.settled(2)
    (aside,) = list_aside(state_dir.directory)
    with state_dir.engine() as engine:
        assert requeue(engine, aside.path).status == "fenced"
    second.call(acts.save, "run-1", 3)
    assert second.settled(3).keys() <= {"met", "late"}
    assert peek.stored_state(state_dir.database, "run-1") == state_of("run-1", 3)


def test_a_requeued_first_record_of_the_owner_is_stored(state_dir: Place) -> None:
    """No process has come since; the one before it does not count."""
    first, second = state_dir.agent(), state_dir.agent()
    first.call(acts.save, "run-1", 0)
    first.settled(1)
    with refusing(state_dir.database):
        second.call(acts.save, "run-1", 1)
        assert second.settled(1) == {"quarantined": 1}
    (aside,) = list_aside(state_dir.directory)
    with state_dir.engine() as engine:
        assert requeue(engine, aside.path).stored
    assert peek.stored_state(state_dir.database, "run-1") == state_of("run-1", 1)


def test_what_is_refused_again_stays_in_quarantine(state_dir: Place) -> None:
    """Its file is the last copy, until the store has it."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    with refusing(state_dir.database):
        agent.call(acts.save, "run-1", 1)
        assert agent.settled(2).get("quarantined") == 1
        (aside,) = list_aside(state_dir.directory)
        before = Path(aside.path).read_bytes()
        with state_dir.engine() as engine:
            assert requeue(engine, aside.path).status == "quarantined"
            assert Path(aside.path).read_bytes() == before
    with state_dir.engine() as engine:
        for each in list_aside(state_dir.directory):
            assert requeue(engine, each.path).stored
    assert peek.stored_steps(state_dir.database, "run-1") == [0, 1]
    assert not list_aside(state_dir.directory)


def test_requeued_states_build_on_nothing(state_dir: Place) -> None:
    """What they could build on is old: a prune that goes on may have picked it already."""
    text = random.Random(1).randbytes(20_000)
    sizes = (10_000, 12_000, 14_000, 16_000)
    with (
        state_dir.engine() as engine,
        closing(apsw.Connection(str(state_dir.database))) as database,
    ):

        def save(size: int) -> str:
            node = ExecutionNode("run-1", output={"step": size})
            return engine.save_sync(node, state=text[:size]).result(patience(30)).status

        def built_on_another() -> list[bool]:
            rows = database.execute(
                "SELECT base_hash IS NOT NULL FROM checkpoints ORDER BY epoch, seq"
            )
            return [bool(one) for (one,) in rows]

        assert [save(size) for size in (8_000, 9_000)] != ["quarantined"] * 2
        assert built_on_another() == [False, True]
        with refusing(state_dir.database):
            assert {save(size) for size in sizes} == {"quarantined"}
        for aside in list_aside(state_dir.directory):
            assert requeue(engine, aside.path).stored
        assert built_on_another() == [False, True, False, False, False, False]
        assert engine.latest_sync("run-1")[1] == text[: sizes[-1]]


def test_a_writer_that_cannot_be_started_for_now(state_dir: Place) -> None:
    """No descriptors are left when it dies: it is tried again, and its batch goes on."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    pids = state_dir.pids()
    dispatcher = psutil.Process(pids["dispatcher"])
    limits = dispatcher.rlimit(psutil.RLIMIT_NOFILE)
    dispatcher.rlimit(psutil.RLIMIT_NOFILE, (dispatcher.num_fds(), limits[1]))
    kill(*pids["writers"])
    gone(*pids["writers"])
    agent.call(acts.save, "run-1", 1)
    until(lambda: "cannot be started" in log_of(state_dir), what="a start that failed")
    dispatcher.rlimit(psutil.RLIMIT_NOFILE, limits)
    agent.settled(2)
    assert state_dir.pids()["dispatcher"] == pids["dispatcher"]


@pytest.mark.faults  # half a minute
def test_rows_are_not_blamed_for_a_writer_that_does_not_start(tmp_path: Path) -> None:
    """However often it fails to start, nothing is quarantined for that."""
    place = Place(tmp_path)
    store = FragileStore(str(place.database))
    place.tracebacks_allowed = True
    broken = Path(f"{place.database}.broken")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        with CheckpointEngine(store, compressors=1, idle_s=0.2) as engine:
            engine.save_sync(ExecutionNode("run-1"), b"before").result(patience(60))
            broken.touch()
            kill(*place.pids()["writers"])
            receipts = [engine.save_sync(ExecutionNode("run-1"), b"%d" % n) for n in range(3)]
            until(lambda: log_of(place).count("worker ended") > 12, what="13 starts", timeout=60)
            broken.unlink()
            assert all(receipt.result(patience(30)).stored for receipt in receipts)


def test_a_journal_that_its_owner_removes(state_dir: Place) -> None:
    """An owner that leaves while the service looks at its journal does not hurt it."""
    with state_dir.service():
        pids = state_dir.pids()
        path = Path(state_dir.directory.journals)
        with frozen([pids["dispatcher"]]):
            pass
        for _ in range(200):
            Journal(str(path), JournalLimits()).close(remove=True)
        assert state_dir.pids() == pids
    assert "Traceback" not in log_of(state_dir)


def test_sigterm_drains_what_was_not_read_yet(state_dir: Place) -> None:
    """The records and the signal come while the dispatcher is away."""
    service = state_dir.service().start()
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    pids = state_dir.pids()
    with frozen([pids["dispatcher"]]):
        for step in range(1, 30):
            agent.call(acts.save, "run-1", step)
        agent.kill()
        newcomer = Writer(state_dir.directory, JournalLimits())
        newcomer.save("run-2", b"of a journal that the service has not seen")
        newcomer.die()
        os.kill(pids["supervisor"], signal.SIGTERM)
    assert service.wait() == 0
    service.stop()
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(30))
    assert state_dir.journals() == []


def test_requests_that_make_no_sense_are_answered(state_dir: Place) -> None:
    with state_dir.service():
        pids = state_dir.pids()
        with state_dir.directory.connect(10.0) as sock:
            sock.sendall(frame(Message.HELLO, PROTOCOL_VERSION, state_dir.store().url, os.getpid()))
            requests: list[tuple[Any, Any]] = [
                ("latest", None), ("latest", []), ("latest", [3]), ("nodes", ["x", 1, 2]),
                ("delete", [None]), ("claim", 7), ("prune", ["x"]), ("no such verb", []), ({}, {}),
            ]  # fmt: skip
            for number, (verb, arguments) in enumerate(requests):
                sock.sendall(frame(Message.REQUEST, number, verb, arguments))
            answered: set[int] = set()
            buffer = FrameBuffer()
            while len(answered) < len(requests):
                data = sock.recv(1 << 16)
                assert data, f"the connection ended, answered were {sorted(answered)}"
                for message in buffer.feed(data):
                    if message[0] == Message.RESPONSE:
                        assert message[2] is False
                        answered.add(message[1])
        for torn in (b"\xff" * 100, LENGTH.pack(1 << 31), frame(Message.HELLO), b"\x01\0\0\0\xc1",
                     frame(Message.HELLO, PROTOCOL_VERSION, {}, 1), frame({}, 1)):  # fmt: skip
            with state_dir.directory.connect(10.0) as sock:
                sock.sendall(torn)
                sock.shutdown(1)
                while sock.recv(1 << 16):
                    pass
        assert state_dir.pids()["dispatcher"] == pids["dispatcher"]


def test_a_stopped_writer_is_seen(state_dir: Place) -> None:
    """A store that does not answer, or a writer that does not run, is reported as trouble."""
    with CheckpointEngine(state_dir.store(), compressors=1, idle_s=0.2) as engine:
        assert engine.save_sync(ExecutionNode("run-1"), b"before").result(patience(30)).stored
        with frozen(state_dir.pids()["writers"]):
            receipt = engine.save_sync(ExecutionNode("run-1"), b"after")
            until(lambda: "not answered" in engine.sla().trouble, what="trouble", timeout=30)
            assert not receipt.done()
        assert receipt.result(patience(30)).stored
        until(lambda: engine.sla().trouble == "", what="trouble over", timeout=30)


def test_damage_that_is_found_at_the_very_end_is_reported(state_dir: Place) -> None:
    """The owner of the journal and the service end at the same time."""
    service = state_dir.service().start()
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    pids = state_dir.pids()
    (journal,) = state_dir.journals()
    with frozen([pids["dispatcher"]]):
        agent.call(acts.save, "run-1", 1)
        with closing(JournalTail(journal)) as tail:
            last = list(tail.read(alive=True))[-1]
        with open(os.path.join(journal, segment_name(segment_of(last.position))), "r+b") as file:
            file.seek(offset_of(last.position) + 40)
            file.write(b"\xff\xff")
        agent.kill()
        os.kill(pids["supervisor"], signal.SIGTERM)
    assert service.wait() == 0
    service.stop()
    with state_dir.service():
        state_dir.ask("drain")
        until(lambda: list_aside(state_dir.directory), what="the damaged record set aside")


def test_a_journal_that_cannot_be_opened_for_now(state_dir: Place) -> None:
    with state_dir.service():
        dispatcher = psutil.Process(state_dir.pids()["dispatcher"])
        limits = dispatcher.rlimit(psutil.RLIMIT_NOFILE)
        dispatcher.rlimit(psutil.RLIMIT_NOFILE, (dispatcher.num_fds(), limits[1]))
        newcomer = Writer(state_dir.directory, JournalLimits())
        newcomer.save("run-1", b"state")
        newcomer.die()
        until(lambda: "trying again" in log_of(state_dir), what="a journal not opened")
        dispatcher.rlimit(psutil.RLIMIT_NOFILE, limits)
        until(lambda: peek.stored_state(state_dir.database, "run-1"), what="stored", timeout=30)
        assert peek.stored_state(state_dir.database, "run-1") == b"state"
        assert psutil.pid_exists(dispatcher.pid)


def test_an_agent_that_does_not_read_costs_no_memory(state_dir: Place) -> None:
    """It asks for 8 MB again and again and reads no answer."""
    with state_dir.service(), state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), os.urandom(8 << 20)).result(patience(30))
        dispatcher = psutil.Process(state_dir.pids()["dispatcher"])
        before = dispatcher.memory_info().rss
        with state_dir.directory.connect(10.0) as sock:
            sock.sendall(frame(Message.HELLO, PROTOCOL_VERSION, state_dir.store().url, os.getpid()))
            for number in range(40):
                sock.sendall(frame(Message.REQUEST, number, "latest", ["run-1"]))
            for _ in range(40):  # others are answered meanwhile
                state_dir.ask("size")
            assert len(engine.nodes_sync("run-1")) == 1
            assert dispatcher.memory_info().rss - before < 100 << 20
            buffer = FrameBuffer()
            answers = 0
            while answers < 40:
                for message in buffer.feed(sock.recv(1 << 20)):
                    answers += message[0] == Message.RESPONSE


def test_a_compressor_that_stays_stopped(state_dir: Place) -> None:
    """It may hold the lock of the executor's queue; no process waits for it without a deadline."""
    agent = state_dir.agent(compressors=2)
    agent.call(acts.save, "run-1", 0, size=LARGE)
    agent.settled(1)
    stopped = state_dir.compressors()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    for step in range(1, 10):
        agent.call(acts.save, "run-1", step, size=LARGE)
    agent.settled(10)
    gone(*stopped)
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(10))


def test_the_log_does_not_grow_for_ever(state_dir: Place) -> None:
    log = Path(state_dir.directory.log)
    with state_dir.service():
        with log.open("ab") as file:
            file.write(b"x" * (3 << 20) + b"the end\n")
        until(lambda: log.stat().st_size < 1 << 20, what="a short log")
        assert log.with_name("service.log.1").read_bytes().endswith(b"the end\n")
        pids = state_dir.pids()
        kill(*pids["writers"])
        until(lambda: "writer worker ended" in log.read_text(), what="the next line")
        assert log.stat().st_size < 1 << 20


def test_owner_and_service_go_at_the_same_time(state_dir: Place) -> None:
    """The service ends while the owner syncs its journal for the last time: nothing is left."""
    pause = {"LIVINGAI_FAILPOINTS": "journal.before_fsync=pause:4*2"}
    agent = state_dir.agent(idle_s=0.0, env=pause)
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    until(lambda: agent.call(acts.sla)["unsynced_bytes"] == 0, what="the first sync")
    agent.send(acts.close)
    until(lambda: not owner_alive(state_dir.directory.lock), what="the service's end")
    assert len(state_dir.journals()) == 1, "the owner was not slow enough"
    agent.receive()
    assert agent.leave() == 0
    state_dir.empty()
    assert state_dir.journals() == []


def removed(path: str) -> bool:
    """Remove the directory; the service may be making or removing what is its own meanwhile."""
    shutil.rmtree(path, ignore_errors=True)
    return not os.path.exists(path)


def test_a_service_whose_directory_was_removed_goes(state_dir: Place) -> None:
    """No agent can find it any more, so none could ever end it; it drops what it has under way."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    with frozen(state_dir.pids()["writers"]):
        agent.call(acts.save, "run-1", 1)
        agent.kill()
        until(lambda: removed(state_dir.directory.path), what="the directory's end")
        state_dir.empty(timeout=30)
