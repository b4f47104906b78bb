"""Whatever number a file of a journal holds, with a checksum that fits: no intact record is lost,
nothing is read again and again, and what is wrong is reported.

The production path reads it: the service's intake, the hot cache, and ``livingai check``.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from livingai.engine.cache import ASK, HotCache
from livingai.inspection.check import check_directory
from livingai.queue.cursor import CursorFile
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import JournalLimits
from livingai.queue.layout import Kind, offset_of, segment_of
from livingai.queue.record import RecordHeader, read_record
from livingai.queue.removal import remove_if_stored
from livingai.queue.tail import Damage
from livingai.workers.dispatcher.intake import Intake
from tests.support import hostile
from tests.support.journals import Consumer, Writer, state_directory
from tests.support.odd import ODD, put_odd
from tests.support.patience import Deadline

pytestmark = pytest.mark.timeout(60)
_LIMITS = JournalLimits(
    segment_bytes=4096, journal_bytes=64 << 20, cache_bytes=64 << 20, cache_ttl_s=3600.0,
    index_sets=2, node_slots=4,
)  # fmt: skip
_RECORDS = 24
_values = pytest.mark.parametrize("value", hostile.VALUES.values(), ids=hostile.VALUES)


class Scene:
    """A journal of a dead owner, in some segments: what was written, by lsn."""

    def __init__(self, folder: Path, *, stored: int = 0) -> None:
        self.directory: StateDirectory = state_directory(folder / "state")
        self.states: dict[int, bytes] = {}
        writer = Writer(self.directory, _LIMITS)
        self.journal = writer.journal.directory
        self.id = writer.journal.id
        for number in range(1, _RECORDS + 1):
            state = bytes([number]) * 500
            self.states[writer.save(f"run-{number % 3}", state).lsn] = state
        if stored:
            with closing(Consumer(self.journal)) as consumer:
                consumer.take(stored)
        writer.die()
        self.stored = stored
        self.segments = hostile.files(self.journal)
        assert len(self.segments) >= 4

    def place(self, lsn: int) -> tuple[Path, int, RecordHeader]:
        """Where a record lies."""
        return next(
            (path, at, header)
            for path in self.segments
            for at, header in hostile.places(path)
            if header.lsn == lsn and header.kind == Kind.WRITE
        )

    def deliver(self) -> tuple[list[bytes], list[Damage]]:
        """The states that the service would store, and the damage that it would report."""
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        deadline = Deadline(20)
        intake = Intake(self.directory)
        states = []
        try:
            intake.refresh()
            for _ in range(20):
                for item in intake.take(10_000):
                    assert deadline.left()
                    if item.feed.outcome_of(item) is None:
                        segment = item.feed.tail.segments.get(segment_of(item.at))
                        assert segment is not None
                        states.append(read_record(segment.view, offset_of(item.at)).state)
            assert not intake.waiting(), "something is left for ever"
            damage = [damage for feed in intake.feeds.values() for damage in feed.damage]
        finally:
            intake.close()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000
        assert sum(damage.length for damage in damage) < 1 << 20
        return states, damage

    def delivers_all_but(self, *lsns: int) -> list[Damage]:
        """All records that have no outcome are delivered, in order, but those (which may be), and
        perhaps some that have one."""
        states, damage = self.deliver()
        # With its length and the sum changed, too, the section is another state, correctly written.
        states = [self.states.get(state[10], state) for state in states if len(state) > 10]
        for lsn, state in self.states.items():
            count = states.count(state)
            assert count <= 1, f"record {lsn} came {count} times"
            if lsn > self.stored and lsn not in lsns:
                assert count == 1, f"record {lsn} is lost; {damage}"
        assert set(states) <= set(self.states.values())
        order = [state[10] for state in states]
        assert order == sorted(order)
        for lsn in lsns:
            if self.states[lsn] not in states and lsn > self.stored:
                assert damage, f"nobody says that record {lsn} is missing"
        return damage

    def look(self) -> None:
        """Check and cache may report anything, in time, except a state that was never written."""
        check_directory(self.directory.path)
        with closing(HotCache(self.directory, ttl_s=3600.0)) as cache:
            for number in range(3):
                hit = cache.latest(f"run-{number}")
                if hit is not ASK and isinstance(hit.state, bytes):  # type: ignore[union-attr]
                    assert hit.state[10] in self.states  # type: ignore[union-attr]
                claim = cache.take_over(f"run-{number}", 1, 0)
                assert 0 < claim < 1 << 63


@pytest.fixture(params=[0, 7], ids=["nothing stored", "some stored"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    return Scene(tmp_path, stored=request.param)


def test_an_undamaged_journal_delivers_all(scene: Scene) -> None:
    assert scene.delivers_all_but() == []
    report = check_directory(scene.directory.path)
    assert report.ok, report.errors


@_values
@pytest.mark.parametrize("field", hostile.SEGMENT)
@pytest.mark.parametrize("number", [1, -1])
def test_segment_header(scene: Scene, number: int, field: str, value: Callable[[int], int]) -> None:
    hostile.segment(scene.segments[number], field, value)
    scene.look()
    scene.delivers_all_but()


@_values
@pytest.mark.parametrize("field", hostile.RECORD)
@pytest.mark.parametrize("lsn", [1, 12, _RECORDS])
def test_record_header(scene: Scene, lsn: int, field: str, value: Callable[[int], int]) -> None:
    path, at, _ = scene.place(lsn)
    hostile.record(path, at, field, value)
    scene.look()
    scene.delivers_all_but(lsn)


@_values
def test_first_record_of_a_segment_has_a_made_up_number(
    scene: Scene, value: Callable[[int], int]
) -> None:
    path = scene.segments[2]
    at, header = next(hostile.places(path))
    hostile.record(path, at, "lsn", value)
    scene.look()
    scene.delivers_all_but(header.lsn)


@_values
@pytest.mark.parametrize("field", ["lsn", "kind", "length", "segment", "journal_id", "node_len"])
@pytest.mark.parametrize("number", [0, 1])
def test_seal(scene: Scene, number: int, field: str, value: Callable[[int], int]) -> None:
    hostile.seal(scene.segments[number], field, value)
    scene.look()
    scene.delivers_all_but()


@_values
@pytest.mark.parametrize("field", [*hostile.CONTROL, *hostile.CONTROL_WORDS], ids=str)
def test_control_page(scene: Scene, field: str, value: Callable[[int], int]) -> None:
    hostile.control(scene.journal, field, value)
    scene.look()
    scene.delivers_all_but()


@_values
@pytest.mark.parametrize("field", ["lsn", "position", "generation", "both"])
def test_cursor(
    scene: Scene, field: str, value: Callable[[int], int], caplog: pytest.LogCaptureFixture
) -> None:
    path, at, header = scene.place(scene.stored or 7)
    truth = {
        "generation": 5,
        "lsn": header.lsn,
        "position": int(path.stem) << 32 | (at + header.length),
    }
    for name in ("lsn", "position") if field == "both" else (field,):
        truth[name] = value(truth[name]) & (1 << 64) - 1
    hostile.cursor(scene.journal, scene.id, **truth)
    scene.look()
    with caplog.at_level(logging.ERROR):
        scene.delivers_all_but()
    claimed = truth["lsn"] > scene.stored and truth["generation"]  # 0: never written
    assert not claimed or "which is not so" in caplog.text


def test_cursor_at_the_end_of_what_is_not_stored(scene: Scene) -> None:
    path, at, header = scene.place(_RECORDS)
    hostile.cursor(
        scene.journal, scene.id, generation=(1 << 64) - 1, lsn=_RECORDS,
        position=int(path.stem) << 32 | (at + header.length),
    )  # fmt: skip
    assert not check_directory(scene.directory.path).ok
    assert not remove_if_stored(scene.journal)
    scene.delivers_all_but()
    with closing(CursorFile(scene.journal, scene.id, write=True)) as cursor:
        assert cursor.read().lsn < _RECORDS  # nor does its owner go by it
        cursor.write(3, 4)
        assert cursor.read() == (3, 4)


@_values
@pytest.mark.parametrize("field", hostile.INDEX)
def test_index_header(scene: Scene, field: str, value: Callable[[int], int]) -> None:
    hostile.index(scene.journal, field, value)
    scene.look()
    scene.delivers_all_but()


@_values
@pytest.mark.parametrize("first", range(6))
def test_index_words(scene: Scene, first: int, value: Callable[[int], int]) -> None:
    hostile.index_words(scene.journal, value, every=6, first=first)
    scene.look()
    scene.delivers_all_but()


@pytest.mark.parametrize("first_lsn", [1, 1000, 2**32, 2**60, 2**64 - 1])
@pytest.mark.parametrize("place", ["between", "behind", "far behind"])
def test_foreign_segment(scene: Scene, tmp_path: Path, place: str, first_lsn: int) -> None:
    other = Scene(tmp_path / "other")
    numbers = [int(path.stem) for path in scene.segments]
    number = {"between": numbers[1], "behind": numbers[-1] + 1, "far behind": 2**32 - 1}[place]
    target = Path(scene.journal) / f"{number:010d}.seg"
    lost = sorted({h.lsn for _, h in hostile.places(target)}) if target.exists() else []
    target.write_bytes(other.segments[0].read_bytes())
    hostile.segment(target, "first_lsn", lambda _: first_lsn)
    hostile.segment(target, "number", lambda _: number)
    scene.look()
    damage = scene.delivers_all_but(*lost)
    said = " ".join(damage.reason for damage in damage)
    assert f"of journal {other.id:016x}" in said
    # If the cursor was in what is lost, it is not known any more which of it was stored.
    assert len([n for n in lost if n > scene.stored]) <= sum(d.count for d in damage) <= len(lost)


@pytest.mark.parametrize("to", [1, 5, 2**31, 2**32 - 1 - 100])
def test_last_segment_renamed(scene: Scene, to: int, caplog: pytest.LogCaptureFixture) -> None:
    last = scene.segments[-1]
    last.rename(last.with_name(f"{int(last.stem) + to:010d}.seg"))
    report = check_directory(scene.directory.path)
    assert not report.ok
    scene.delivers_all_but()
    assert "had the name of segment" in caplog.text


def test_last_segment_gone(scene: Scene) -> None:
    lost = [header.lsn for _, header in hostile.places(scene.segments[-1])]
    scene.segments[-1].unlink()
    assert not check_directory(scene.directory.path).ok
    damage = scene.delivers_all_but(*lost)
    assert [(d.first_lsn, d.last_lsn) for d in damage] == [(min(lost), max(lost))]


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["control", "cursor", "index", "owner.lock", "segment", "beside"])
def test_odd_files(scene: Scene, kind: str, name: str) -> None:
    lost: list[int] = []
    path = Path(scene.journal) / name
    if name == "segment":
        path = scene.segments[1]
        lost = [header.lsn for _, header in hostile.places(path)]
    elif name == "beside":
        path = Path(scene.directory.journals) / "odd"
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    put_odd(kind, path)
    scene.look()
    scene.delivers_all_but(*lost)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    if name != "cursor":  # which the service has set aside
        assert check_directory(scene.directory.path).findings


@pytest.mark.parametrize(
    "name", ["²³.seg", "0000000000.seg", "9999999999.seg", "1.seg", "99999999999999999999.seg"]
)
def test_names_that_are_no_numbers_of_segments(scene: Scene, name: str) -> None:
    (Path(scene.journal) / name).write_bytes(scene.segments[0].read_bytes())
    scene.look()
    scene.delivers_all_but()
