"""The real service on a state directory that holds made-up numbers and things that are no files."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from livingai.inspection.check import check_directory
from livingai.queue.lock import owner_alive
from livingai.queue.patch import is_patch
from tests.support import acts, hostile, peek
from tests.support.odd import put_odd
from tests.support.place import Place
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(120)


def left_behind(place: Place, steps: int = 30, patch_from_bytes: int = 0) -> str:
    """A journal of a dead agent, in several segments, that no service has seen."""
    agent = place.agent(segment_bytes=1 << 16, patch_from_bytes=patch_from_bytes)
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    for pid in place.service_processes():
        os.kill(pid, signal.SIGSTOP)  # nothing that follows is stored
    for step in range(1, steps):
        agent.call(acts.save, "run-1", step)
    agent.kill()
    until(lambda: _all_gone(place), what="no process of the service")
    place.service_killed = True
    (journal,) = place.journals()
    return journal


def _all_gone(place: Place) -> bool:
    """Kill what there is, and what that was just starting."""
    found = place.service_processes()
    for pid in reversed(found):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not found and not owner_alive(place.directory.lock)


def drained(place: Place) -> None:
    with place.service():
        place.ask("drain")
        dispatcher = place.pids()["dispatcher"]
        until(lambda: place.ask("status").inflight == 0, what="all is stored")
        assert place.pids()["dispatcher"] == dispatcher, "it has died"


@pytest.mark.parametrize("first_lsn", [1000, 2**60])
def test_foreign_segment(state_dir: Place, first_lsn: int) -> None:
    journal = left_behind(state_dir)
    first, second = hostile.files(journal)[:2]
    number = int(hostile.files(journal)[-1].stem) + 1
    target = Path(journal) / f"{number:010d}.seg"
    target.write_bytes(first.read_bytes())
    hostile.segment(target, "journal_id", lambda _: 77)
    hostile.segment(target, "number", lambda _: number)
    hostile.segment(target, "first_lsn", lambda _: first_lsn)
    hostile.segment(second, "first_lsn", lambda _: first_lsn)
    drained(state_dir)
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(30))


def test_renamed_segment(state_dir: Place) -> None:
    journal = left_behind(state_dir)
    last = hostile.files(journal)[-1]
    last.rename(last.with_name(f"{int(last.stem) + 3:010d}.seg"))
    drained(state_dir)
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(30))
    assert "had the name of segment" in Path(state_dir.directory.log).read_text()


def test_cursor_that_claims_all(state_dir: Place) -> None:
    journal = left_behind(state_dir)
    hostile.cursor(
        journal, int(os.path.basename(journal), 16), generation=2**64 - 1, lsn=2**60,
        position=2**63,
    )  # fmt: skip
    drained(state_dir)
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(30))
    assert "which is not so" in Path(state_dir.directory.log).read_text()


@pytest.mark.parametrize("field", ["claim", "epoch", "seq", "mono_ns", "wall_ns", "node_len"])
def test_record(state_dir: Place, field: str) -> None:
    journal = left_behind(state_dir)
    path = hostile.files(journal)[1]
    at, _ = next(hostile.places(path))
    is_ = (lambda n: n + 1) if field == "node_len" else (lambda _: 2**64 - 1)
    hostile.record(path, at, field, is_)
    drained(state_dir)
    stored = set(peek.stored_steps(state_dir.database, "run-1"))
    if field in ("claim", "epoch"):  # another owner's: which comes first, or is fenced, is open
        assert stored
    else:
        assert len(stored) >= 29


@pytest.mark.parametrize("field", ["base_back", "base_place", "codec", "state_len"])
@pytest.mark.parametrize("number", [0, 1, 200])
def test_patch(state_dir: Place, field: str, number: int) -> None:
    """What it says of its base is wrong: the store knows that by its hash, or the patch is set
    aside, and all others are stored."""
    journal = left_behind(state_dir, patch_from_bytes=256)
    path = hostile.files(journal)[0]
    places = [at for at, header in hostile.places(path) if is_patch(header)]
    hostile.record(path, places[3], field, lambda _: number)
    drained(state_dir)
    assert len(peek.stored_steps(state_dir.database, "run-1")) >= 29


@pytest.mark.damaged("quarantine-damaged")
def test_odd_things_everywhere(state_dir: Place) -> None:
    journal = left_behind(state_dir)
    folder = Path(state_dir.directory.journals)
    (folder / ".gone-x").write_bytes(b"")
    put_odd("fifo", folder / ".new-y")
    put_odd("fifo", folder / "pipe")
    put_odd("deep folder", folder / "deep")
    put_odd("looping link", folder / "loop")
    put_odd("link to a folder", folder / ("a" * 16))
    put_odd("fifo", Path(journal) / "control")
    put_odd("directory", Path(journal) / "index")
    put_odd("fifo", Path(journal) / "cursor")
    put_odd("socket", Path(state_dir.directory.quarantine) / "x.record")
    drained(state_dir)
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(30))
    assert not check_directory(state_dir.directory.path).ok
    for name in (".gone-x", ".new-y", "pipe", "deep", "loop"):
        assert os.path.lexists(folder / name), "it is not ours to remove"
