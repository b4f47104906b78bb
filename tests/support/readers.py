"""Everything that reads bytes which may come from anywhere, and what it may do with them: read them
as what they are or refuse them with an error of ours, at a memory that is bounded, without calling
anything that they name.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from livingai import codecs, serial
from livingai.archives.lines import ExportedWrite, parsed, read_write, write_line
from livingai.errors import LivingAIError
from livingai.node import ErrorInfo, ExecutionNode
from livingai.protocol.frames import LENGTH, FrameBuffer, frame, parse
from livingai.protocol.history import checked_message, pack_history, unpack_history
from livingai.queue.control import Control
from livingai.queue.cursor import CursorFile, create_cursor
from livingai.queue.index import Index, create_index
from livingai.queue.journal import JournalLimits
from livingai.queue.layout import CURSOR_BYTES, Kind, aligned
from livingai.queue.lock import Boot, boot_id
from livingai.queue.manifest import make_manifest, read_manifest
from livingai.queue.patch import blob_of, is_patch, state_bytes, with_state
from livingai.queue.quarantine import read_aside, set_aside
from livingai.queue.record import (
    execution_hash,
    pack_record,
    parse_header,
    read_outcome,
    read_record,
)
from livingai.queue.segments import Segments
from livingai.queue.tally import ServiceTally, read_tally
from livingai.stores.records import PackedNode
from tests.support import hostile
from tests.support.journals import (
    Writer,
    record_of,
    records,
    scratch_folder,
    state_directory,
)

CORPUS = Path(__file__).parents[1] / "data" / "corpus"
MB = 1 << 20
#: A state may have so many bytes here; decoding takes at most 8 MiB more, twice (parts and whole).
MOST_STATE = MB
#: What reading may take besides this many times its input.
MEMORY = 24 * MB
TIMES = 256
JOURNAL = 0x1234
BASE = b"The base of a state, known to whoever reads it. " * 8
NODE = ExecutionNode(
    "run", input={"args": [1, "é", b"\0"], "kwargs": {"when": datetime(2024, 1, 1, tzinfo=UTC)}},
    output=[2**70, (1,), {2}, 1.5, datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Paris"))],
    error=ErrorInfo("ValueError", "no", "trace", True), parent_id="p", metadata={"name": "n"},
    id="n1", created_at=1.0,
)  # fmt: skip
SECTION = serial.pack(NODE.to_wire())
#: Calls that no reader makes.
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen",
              "pickle.find_class", "socket.connect")  # fmt: skip
_watched: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is not None and event in _FORBIDDEN:
        _watched.append(event)


sys.addaudithook(_hook)


def _record() -> bytes:
    state = b"state"
    header = pack_record(
        kind=Kind.WRITE, flags=1, state_kind=1, journal_id=JOURNAL, segment=1, lsn=1, claim=5,
        epoch=0, seq=1, mono_ns=1, wall_ns=1, key=execution_hash("run"), node=SECTION, ext=b"",
        state=state, budget_us=1, length=aligned(128 + len(SECTION) + len(state)),
    )  # fmt: skip
    return (header + SECTION + state).ljust(aligned(128 + len(SECTION) + len(state)), b"\0")


def _read_record(data: bytes) -> None:
    header = parse_header(data, 0)
    if header is not None:
        read_outcome(data, 0, header.lsn)
    serial.unpack(read_record(data, 0).node)


def _read_blob(data: bytes) -> None:
    with suppress(LivingAIError):
        codecs.base_of(data)
    with suppress(LivingAIError):
        codecs.compress_patch(data)
    state = codecs.decode(data, fetch_base=lambda _: BASE, max_bytes=MOST_STATE)
    assert len(state) <= MOST_STATE


def _read_value(data: bytes) -> None:
    serial.unpack(data)


def _read_node(data: bytes) -> None:
    ExecutionNode.from_wire(serial.unpack(data))  # type: ignore[arg-type]


def _read_frames(data: bytes) -> None:
    for message in FrameBuffer(MOST_STATE).feed(data):
        assert isinstance(message, list)


def _history() -> bytes:
    marked = ExecutionNode("run", output=(1,))
    nodes = [PackedNode(serial.pack(n.to_wire()), 1, 1, True, "success") for n in (NODE, marked)]
    return frame(*pack_history(("n1", 1, 1, None), [2, SECTION], nodes))[LENGTH.size :]


def _read_history(data: bytes) -> None:
    unpack_history(checked_message(parse(data)), None, "run")


def _from_file(name: str, make: Callable[[str], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        made = make(folder)
        path = made if isinstance(made, str) else os.path.join(folder, name)
        return Path(path).read_bytes()


def _in_file(name: str, read: Callable[[str], object]) -> Callable[[bytes], None]:
    def reader(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, name).write_bytes(data)
            read(folder)

    return reader


def _make_cursor(folder: str) -> None:
    create_cursor(folder)
    with closing(CursorFile(folder, JOURNAL, write=True)) as file:
        file.write(5, 1 << 32 | 128)
        file.write(6, 1 << 32 | 256)


def _read_cursor(folder: str) -> None:
    with closing(CursorFile(folder, JOURNAL)) as file:
        file.read()
        file.damaged()


def _make_control(folder: str) -> str:
    path = os.path.join(folder, f"{JOURNAL:016x}")
    os.mkdir(path)
    with closing(Control.create(path, JOURNAL, Boot(boot_id(), 1))) as control:
        control.publish(1 << 32 | 256, 2)
    return os.path.join(path, "control")


def _read_control(folder: str) -> None:
    path = os.path.join(folder, f"{JOURNAL:016x}")
    os.mkdir(path)
    os.rename(os.path.join(folder, "control"), os.path.join(path, "control"))
    with closing(Control(path)) as control:
        assert control.tail >= 0


def _read_index(folder: str) -> None:
    with closing(Index(folder, write=False)) as index:
        index.get(execution_hash("run"))
        index.get_node(execution_hash("n1"))
        assert len([*index.slots(), *index.nodes()]) <= 100


class _Patched:
    """A journal with a whole state and a patch on it, which is read with other bytes."""

    def __init__(self) -> None:
        self._folder = scratch_folder()
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        writer = Writer(state_directory(self._folder), JournalLimits(), patch_from=100)
        for number in range(2):
            writer.save("run", BASE * 8 + b"%d" % number)
        _, found = records(writer.journal.directory)
        self._segments = Segments(writer.journal.directory)
        self._record = record_of(self._segments, found.position)
        assert is_patch(found.header)
        self.valid = bytes(self._record.state)
        writer.close()

    def read(self, data: bytes) -> None:
        header = self._record.header._replace(state_len=len(data))
        patch = self._record._replace(header=header, state=data)
        state_bytes(header, data)
        blob_of(patch)
        assert with_state(self._segments, patch).state == BASE * 8 + b"1"


_PATCHED = _Patched()


class Reader(NamedTuple):
    """What reads bytes, bytes that it takes, what else it may raise, and what puts the checksums in
    changed bytes right."""

    read: Callable[[bytes], None]
    valid: bytes
    also: tuple[type[Exception], ...] = ()
    summed: Callable[[bytes], bytes] = bytes


def _read_line(data: bytes) -> None:
    kind, content = parsed(data)
    if kind == "write":
        read_write(content, "run")


def _line() -> bytes:
    state = serial.pack({"a": [1, "b"], "c": None})
    return write_line(ExportedWrite(1, 1, "claim", 1.5, NODE.to_wire(), 2, state))


def _read_tally(folder: str) -> None:
    path = os.path.join(folder, "service.tally")
    read_tally(path)
    with closing(ServiceTally(path)) as tally:  # what it says is counted on
        tally.passed(JOURNAL, 2, 1, 7)
        tally.waited(JOURNAL, 8)
        tally.write()
    found = read_tally(path)
    assert found.counters[0] >= 1


def _make_tally(folder: str) -> None:
    with closing(ServiceTally(os.path.join(folder, "service.tally"))) as tally:
        for lsn in (1, 2):  # the second one is in the first slot
            tally.passed(JOURNAL + lsn, lsn, 1, 5)
            tally.write()


READERS = {
    "record": Reader(_read_record, _record(), summed=hostile.summed_record),
    **{
        f"blob-{codec}": Reader(
            _read_blob, codecs.encode(BASE + b"and more", codec=codec, base=BASE).blob
        )
        for codec in ("raw", "zlib", "zstd", "delta", "prefix")
    },
    "patch": Reader(_PATCHED.read, _PATCHED.valid),
    "value": Reader(_read_value, SECTION),
    "node": Reader(_read_node, SECTION),
    "frames": Reader(_read_frames, frame(5, 1, "latest", ["run"]) + frame(3), (ValueError,)),
    "history": Reader(_read_history, _history(), (ValueError, TypeError)),
    "quarantine": Reader(
        _in_file("x.record", lambda folder: read_aside(os.path.join(folder, "x.record"))),
        _from_file("", lambda folder: set_aside(folder, JOURNAL, 128, _record(), reason="why")),
    ),
    "export": Reader(_read_line, _line(), (ValueError,)),
    "manifest": Reader(
        _in_file("manifest.json", read_manifest),
        _from_file("manifest.json", lambda folder: make_manifest(folder, "sqlite:///a.db")),
    ),
    "cursor": Reader(
        _in_file("cursor", _read_cursor), _from_file("cursor", _make_cursor)[:128],
        summed=lambda data: hostile.summed_cursor(data, JOURNAL),
    ),
    "tally": Reader(
        _in_file("service.tally", _read_tally), _from_file("service.tally", _make_tally)[:1024],
        summed=hostile.summed_tally,
    ),
    "control": Reader(
        _in_file("control", _read_control), _from_file("", _make_control),
        summed=hostile.summed_control,
    ),
    "index": Reader(
        _in_file("index", _read_index),
        _from_file("index", lambda folder: create_index(folder, JOURNAL, 2, 4, boot_id())),
        (ValueError,), hostile.summed_index,
    ),
}  # fmt: skip
assert len(READERS["cursor"].valid) < CURSOR_BYTES


def check(reader: Reader, data: bytes) -> None:
    """Read ``data``; fails for any error that is not the reader's, and for too much memory."""
    global _watched  # noqa: PLW0603 - an audit hook cannot be taken away again
    _watched = []
    tracemalloc.start()
    try:
        with suppress(LivingAIError, *reader.also):
            reader.read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        called, _watched = _watched, None
    assert called == []
    assert peak <= MEMORY + TIMES * len(data)


def corpus_of(name: str) -> list[Path]:
    """The kept files for a reader."""
    return sorted((CORPUS / name.partition("-")[0]).glob("*.bin"))
