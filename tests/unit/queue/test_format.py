"""``queue/FORMAT.md`` against the code: offsets, sizes, names and numbers of every table.

A change of one without the other fails here. Packing is checked, too: each field is written with a
value of its own and found again where the table says.
"""

import re
import struct
from enum import IntEnum
from pathlib import Path

import pytest
import xxhash

from livingai.failpoint import NAMES
from livingai.node import ErrorInfo, ExecutionNode, NodeType, Status
from livingai.outcome import STATUS_CODES
from livingai.queue import layout
from livingai.queue.cursor import CursorFile, create_cursor
from livingai.queue.index import create_index
from livingai.queue.record import RecordHeader, pack_outcome, pack_record, parse_header
from livingai.queue.segment import segment_name
from tests.support.agents import ROOT

FORMAT = ROOT / "queue" / "FORMAT.md"
Table = list[list[str]]

RECORD = "Record"
SEGMENT = "Segment"
CONTROL = "Control page"
CURSOR = "Cursor page"
INDEX = "Index"
TALLIES = "Tallies"


def tables(section: str) -> list[Table]:
    """The tables below a heading, as rows of cells without backquotes, the head first."""
    text = FORMAT.read_text(encoding="utf-8")
    (body,) = re.findall(rf"^##+ {re.escape(section)}\n(.*?)(?=^##|\Z)", text, re.M | re.S)
    found: list[Table] = [[]]
    for line in body.splitlines():
        if line.startswith("|"):
            cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
            if not set(cells[0]) <= {"-", " "}:
                found[-1].append(cells)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def table(section: str, head: str) -> Table:
    """The rows of the one table below a heading whose first cell is ``head``."""
    (found,) = [rows[1:] for rows in tables(section) if rows[0][0] == head]
    return found


def fields(section: str) -> list[tuple[int, int, str]]:
    """(offset, size, name) of the field table below a heading."""
    return [(int(row[0]), int(row[1]), row[2]) for row in table(section, "offset")]


def of_struct(*parts: struct.Struct) -> list[tuple[int, int]]:
    """(offset, size) of every field of structs that follow each other; padding counts as one."""
    places, offset = [], 0
    for part in parts:
        for code in re.findall(r"\d*[a-zA-Z]", part.format):
            size = struct.calcsize("<" + code)
            places.append((offset, size))
            offset += size
    return places


def test_there_is_a_table_for_all_that_has_a_layout() -> None:
    headings = re.findall(r"^##+ (.*)$", FORMAT.read_text(encoding="utf-8"), re.M)
    more = (TALLIES, "Outcome word", "Service state page")
    for name in (RECORD, SEGMENT, CONTROL, CURSOR, INDEX, *more):
        assert headings.count(name) == 1


# -- headers --


def test_record_header() -> None:
    rows = fields(RECORD)
    names = [*RecordHeader._fields, "header_sum", "outcome"]
    assert [row[2] for row in rows] == names
    places = of_struct(layout.RECORD_FIELDS, layout.RECORD_SUM, layout.OUTCOME_WORD)
    assert [row[:2] for row in rows] == places
    assert rows[-2][0] == layout.RECORD_SUM_OFFSET
    assert rows[-1][0] == layout.OUTCOME_OFFSET
    assert sum(row[1] for row in rows) == layout.RECORD_HEADER_BYTES


def test_record_is_packed_as_the_table_says() -> None:
    node, ext, state = b"n" * 11, b"e" * 7, b"s" * 70
    given = {
        "kind": 1, "flags": 3, "state_kind": 2, "journal_id": 1 << 63 | 5, "segment": 6,
        "length": 256, "lsn": 8, "claim": 9, "epoch": 10, "seq": 11, "mono_ns": 12, "wall_ns": 13,
        "key": 14, "budget_us": 15, "codec": 3, "base_back": 17, "base_place": 18,
    }  # fmt: skip
    raw = pack_record(**given, node=node, ext=ext, state=state)
    assert len(raw) == layout.RECORD_HEADER_BYTES
    body_sum = xxhash.xxh3_64_intdigest(node + ext + state, 8)
    expected: dict[str, int | bytes] = {
        **{name: value for name, value in given.items() if name != "key"},
        "magic": b"LAIr", "version": 2, "execution_hash": 14, "node_len": 11, "ext_len": 7,
        "state_len": 70, "codec": 3, "key_id": 0, "base_back": 17, "base_place": 18,
        "body_sum": body_sum, "header_sum": xxhash.xxh3_64_intdigest(raw[:112]), "outcome": 0,
    }  # fmt: skip
    for offset, size, name in fields(RECORD):
        part = raw[offset : offset + size]
        value = part if isinstance(expected[name], bytes) else int.from_bytes(part, "little")
        assert value == expected.pop(name), name
    assert not expected
    assert parse_header(raw + node + ext + state, 0) is not None


def test_segment_header() -> None:
    rows = fields(SEGMENT)
    assert [row[:2] for row in rows[:-1]] == of_struct(layout.SEGMENT_FIELDS, layout.RECORD_SUM)
    assert sum(row[1] for row in rows) == layout.SEGMENT_HEADER_BYTES
    named = [row[2] for row in rows if not row[2].startswith("reserved")]
    assert named == [
        "magic", "version", "journal_id", "number", "size", "first_lsn", "wall_ns", "boot_id",
        "boot_order", "header_sum",
    ]  # fmt: skip


def test_control_header() -> None:
    rows = fields(CONTROL)
    assert [row[:2] for row in rows] == of_struct(layout.CONTROL_FIELDS)
    assert layout.CONTROL_FIELDS.size == 8 * layout.ControlWord.HEADER_SUM


def test_cursor_slots(tmp_path: Path) -> None:
    assert [row[:2] for row in fields(CURSOR)] == of_struct(layout.CURSOR_SLOT)
    slots = table(CURSOR, "slot")
    assert tuple(int(offset) for _, offset in slots) == layout.CURSOR_SLOT_OFFSETS
    create_cursor(str(tmp_path))
    cursor = CursorFile(str(tmp_path), 77, write=True)
    for lsn in (5, 6):
        cursor.write(lsn, lsn << 32)
    cursor.close()
    raw = (tmp_path / "cursor").read_bytes()
    for generation, lsn in ((1, 5), (2, 6)):
        at = layout.CURSOR_SLOT_OFFSETS[generation % 2]
        words = struct.pack("<QQQQ", generation, lsn, lsn << 32, 0)
        assert raw[at : at + 24] == words[:24]
        assert raw[at + 24 : at + 32] == xxhash.xxh3_64_intdigest(words, 77).to_bytes(8, "little")


def test_tally() -> None:
    rows = fields(TALLIES)
    assert [row[:2] for row in rows] == of_struct(layout.TALLY_FIELDS)
    assert [row[2] for row in rows] == ["magic", "generation", "counters", "marks"]
    text, *numbers = rows_of_magic(TALLIES).split(" ")
    assert text.encode() + bytes(int(number, 16) for number in numbers) == layout.TALLY_MAGIC
    body = FORMAT.read_text(encoding="utf-8")
    assert f"Two slots of {layout.TALLY_SLOT_BYTES} bytes" in body
    assert f"{layout.TALLY_MARK.size} bytes each: journal id, lsn, microseconds" in body


def rows_of_magic(section: str) -> str:
    """What a field table says of the magic number."""
    (found,) = [row[3] for row in table(section, "offset") if row[2] == "magic"]
    return found


def test_index_header(tmp_path: Path) -> None:
    rows = fields(INDEX)
    assert [row[:2] for row in rows] == of_struct(layout.INDEX_FIELDS, layout.RECORD_SUM)
    assert sum(row[1] for row in rows) == layout.INDEX_HEADER_BYTES
    create_index(str(tmp_path), 1 << 63, 3, 5, b"b" * 16)
    raw = (tmp_path / "index").read_bytes()
    assert len(raw) == 64 + 8 * (3 * 4 * 6 + 5 * 2 + 256)
    assert raw[56:64] == xxhash.xxh3_64_intdigest(raw[:56]).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("section", "magic"),
    [
        (RECORD, layout.RECORD_MAGIC),
        (SEGMENT, layout.SEGMENT_MAGIC),
        (CONTROL, layout.CONTROL_MAGIC),
        (INDEX, layout.INDEX_MAGIC),
    ],
)
def test_magic_numbers(section: str, magic: bytes) -> None:
    (row,) = [row for row in table(section, "offset") if row[2] == "magic"]
    text, *numbers = row[3].split(" ")
    assert text.encode() + bytes(int(number, 16) for number in numbers) == magic
    assert int(row[0]) == 0
    (version,) = [row for row in table(section, "offset") if row[2] == "version"]
    of_journals = {RECORD: f"{layout.FORMAT_VERSION}; of a patch {layout.JOURNAL_VERSION}",
                   CONTROL: str(layout.JOURNAL_VERSION)}  # fmt: skip
    assert version[3] == of_journals.get(section, str(layout.FORMAT_VERSION))
    assert int(version[0]) == (4 if section == RECORD else 8)


# -- enums and words --


def members(section: str, head: str) -> dict[str, int | str]:
    """Name and number of an enum's table."""
    rows = table(section, head)
    return {row[1]: int(row[0]) if row[0].isdigit() else row[0] for row in rows}


@pytest.mark.parametrize(
    ("section", "head", "enum"),
    [
        (RECORD, "kind", layout.Kind),
        (RECORD, "flag", layout.Flag),
        (RECORD, "state kind", layout.StateKind),
        ("Extension section", "key", layout.ExtensionKey),
        (CONTROL, "word", layout.ControlWord),
        (INDEX, "word", layout.SlotWord),
        ("Service state page", "word", layout.ServiceWord),
    ],
)
def test_enums(section: str, head: str, enum: type[IntEnum]) -> None:
    found = enum.__members__.items()
    assert members(section, head) == {name: member.value for name, member in found}


def test_slot_is_made_of_its_words() -> None:
    assert len(layout.SlotWord) == layout.SLOT_WORDS
    assert [int(word) for word in layout.SlotWord] == list(range(layout.SLOT_WORDS))
    text = FORMAT.read_text(encoding="utf-8")
    assert f"in one of {layout.INDEX_WAYS} slots of {layout.SLOT_WORDS} words" in text
    assert f"{layout.TOUCH_WORDS} touch words" in text


def test_reserved_extension_keys_begin_with_an_underscore() -> None:
    assert all(key.startswith("_") for key in layout.ExtensionKey)


def test_outcome_word() -> None:
    assert members("Outcome word", "status") == {
        str(status): code for status, code in STATUS_CODES.items()
    }
    lsn, status, latency_us = 12345, 5, (1 << 36) - 2
    word = pack_outcome(lsn, status, latency_us)
    values = {}
    for bits, name, _ in table("Outcome word", "bits"):
        low, high = map(int, bits.split("–"))
        values[name] = word >> low & (1 << high - low + 1) - 1
    body = word & (1 << 40) - 1
    check = xxhash.xxh3_64_intdigest(body.to_bytes(8, "little"), lsn) & (1 << 24) - 1
    assert values == {"status": status, "latency_us": latency_us, "check": check}


def test_node_section() -> None:
    error = ErrorInfo("KeyError", "'x'", "Traceback", retryable=True)
    node = ExecutionNode(
        "run", NodeType.TOOL, Status.FAILED, "in", "out", error, "parent", 3, 4.5, {"a": 1}, "id",
        6.0, 7.0,
    )  # fmt: skip
    wire = node.to_wire()
    rows = table("Node section", "index")
    assert [int(row[0]) for row in rows] == list(range(len(wire)))
    for number, name, _ in rows:
        value = getattr(node, name)
        if name == "error":
            value = [error.type, error.message, error.traceback, error.retryable]
        assert wire[int(number)] == value, name
    assert ExecutionNode.from_wire([*wire, "a later version's field"]) == node
    types = {name: kind for _, name, kind in rows}
    assert types["type"] == "str: " + ", ".join(NodeType)
    assert types["status"] == "str: " + ", ".join(Status)


# -- files --


def test_sizes_and_names() -> None:
    text = FORMAT.read_text(encoding="utf-8")
    assert layout.CONTROL_BYTES == layout.CURSOR_BYTES == layout.SERVICE_STATE_BYTES == 4096
    assert f"multiples of {layout.ALIGNMENT}" in text
    assert segment_name(7) == "0000000007.seg"
    assert layout.position(3, 128) == 3 << 32 | 128


def test_every_step_of_the_journal_that_can_be_made_to_crash_is_in_the_table() -> None:
    steps = " ".join(row[0] for row in table("What a crash leaves behind", "step"))
    for name in NAMES:
        family, _, where = name.partition(".")
        if family == "journal":
            word = {"publish": "published", "fsync": "sync", "rename": "renamed"}
            _, _, what = where.partition("_")
            assert word.get(what, what) in steps, name


def test_the_newest_version_is_this_one() -> None:
    versions = [int(row[0]) for row in table("Versions", "version")]
    assert versions == sorted(versions)
    assert versions[-1] == layout.JOURNAL_VERSION
