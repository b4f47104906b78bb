"""The format of an export: JSON lines, one write of a run on each.

Lines, in this order:

======================  ========================================================================
object                  what it is
======================  ========================================================================
``{"livingai": ...}``   the first line: ``format`` (an integer, 1), ``version`` of livingai,
                        ``exported_at``, ``store`` (its URL without credentials)
``{"run": ID}``         a run begins
``{"write": ...}``      a write of that run, in order of epoch and seq, see below
``{"left_out": ...}``   that run cannot be read (``run``, ``why``): what came of it does not count
``{"end": ...}``        the run is complete: ``run``, ``writes`` (how many lines of it)
``{"runs": NUMBER}``    the last line: the export is complete
======================  ========================================================================

A write has ``epoch``, ``seq``, ``claim`` (the owner of that epoch), ``saved_at`` and ``node``: the
fields of an :class:`~livingai.ExecutionNode` by name, without ``execution_id``. If it carried a
state, ``kind`` says how that was given (``StateKind`` of ``queue/FORMAT.md``: 1 bytes, 2 plain
values, 3 bytearray), and ``state`` is the value; times are seconds since the Unix epoch.

Rules:

1. What JSON does not give back exactly (bytes, tuples, sets, dates, NaN, keys that are no texts) is
   kept as what livingai stores for it (:func:`livingai.serial.pack`), in base64: a state as
   ``state_base64``, a field of a node in ``node_base64`` by its name. What is in ``state`` and
   ``node`` has been compared: it gives the same bytes again.
2. Each line ends with ``,"sum":"..."}``: 16 hex digits, XXH3-64 of all bytes of the line before
   that. Who edits a line removes it; a line without it is not compared with anything.
3. Unknown keys are damage. A reader refuses a format that it does not know.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import xxhash

from livingai import serial
from livingai.errors import CorruptRecordError
from livingai.node import ExecutionNode, NodeField, validate_node
from livingai.protocol.sections import decode_state
from livingai.queue.layout import StateKind

FORMAT: Final = 1
#: Fields of a node that a line names; the run's id is on its first line.
_NAMES: Final = {field: field.name.lower() for field in NodeField if field}
_SUM: Final = re.compile(rb',"sum":"([0-9a-f]{16})"}\Z')
#: Seconds since the Unix epoch that every clock has.
_LATEST: Final = 1e12
#: Epochs and seqs are below this: no store gives more, and some readers take it for "never".
_NO_NUMBER: Final = 1 << 62
_KINDS: Final = frozenset(StateKind) - {StateKind.NONE}
_NUMBERS: Final = ("epoch", "seq")


@dataclass(frozen=True, slots=True)
class ExportedWrite:
    """A write of a run: its node as a wire list, and its state as stored bytes (None: it carried
    none)."""

    epoch: int
    seq: int
    claim: str
    saved_at: float
    wire: list[Any]
    kind: int
    state: bytes | None


def line(kind: str, value: Any) -> bytes:
    """A line of plain values."""
    return _summed(f'{{"{kind}":{_json(value)}')


def write_line(write: ExportedWrite) -> bytes:
    """The line of a write."""
    head = {"epoch": write.epoch, "seq": write.seq, "claim": write.claim,
            "saved_at": write.saved_at}  # fmt: skip
    parts = [_json(head)[1:-1]]
    shown, packed = [], []
    for field, name in _NAMES.items():
        value = write.wire[field]
        stored = serial.pack(value)
        text = _exact(value, stored)
        if text is None:
            packed.append(f'"{name}":"{_base64(stored)}"')
        else:
            shown.append(f'"{name}":{text}')
    parts.append(f'"node":{{{",".join(shown)}}}')
    if packed:
        parts.append(f'"node_base64":{{{",".join(packed)}}}')
    if write.state is not None:
        parts.append(f'"kind":{write.kind}')
        text = None
        if write.kind == StateKind.MSGPACK:
            text = _exact(serial.unpack(write.state), write.state)
        if text is None:
            parts.append(f'"state_base64":"{_base64(write.state)}"')
        else:
            parts.append(f'"state":{text}')
    return _summed(f'{{"write":{{{",".join(parts)}}}')


def parsed(raw: bytes) -> tuple[str, Any]:
    """The kind of a line, and its value.

    Raises:
        ValueError: it is damaged; the message says how.
    """
    raw = raw.rstrip(b"\r\n")
    found = _SUM.search(raw)
    if found is not None:
        if xxhash.xxh3_64_hexdigest(raw[: found.start()]).encode() != found[1]:
            raise ValueError(
                'it is not what was written, by its "sum" (take that out where it was edited)'
            )
        raw = raw[: found.start()] + b"}"
    try:
        value = json.loads(raw, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if isinstance(value, dict) and "sum" in value:
        raise ValueError('it was edited: take its "sum" out, and nothing is compared')
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("it is no object with one key")
    ((kind, content),) = value.items()
    return kind, content


def read_write(content: Any, run: str) -> ExportedWrite:
    """The write of a parsed line.

    Raises:
        ValueError: it makes no sense; the message says why.
    """
    needed = {"epoch", "seq", "claim", "saved_at", "node"}
    _check_keys(content, needed, {"node_base64", "kind", "state", "state_base64"}, "a write")
    for name in _NUMBERS:
        if type(content[name]) is not int or not 0 < content[name] < _NO_NUMBER:
            raise ValueError(f"{name} is {content[name]!r:.100}, no number from 1 to 2^62 - 1")
    if not isinstance(content["claim"], str) or not content["claim"]:
        raise ValueError(f"claim is {content['claim']!r:.100}, no text")
    content["claim"].encode()  # a UnicodeEncodeError is a ValueError
    at = content["saved_at"]
    if type(at) not in (int, float) or not abs(at) < _LATEST:
        raise ValueError(f"saved_at is {content['saved_at']!r:.100}, no number")
    kind, state = _read_state(content)
    wire = _read_node(content["node"], content.get("node_base64", {}), run)
    return ExportedWrite(
        content["epoch"], content["seq"], content["claim"], content["saved_at"], wire, kind, state
    )


def _read_state(content: dict[str, Any]) -> tuple[int, bytes | None]:
    given = [name for name in ("state", "state_base64") if name in content]
    if not given and "kind" not in content:
        return StateKind.NONE, None
    kind = content.get("kind")
    if len(given) != 1 or type(kind) is not int:
        raise ValueError("a write with a state has its kind, and either state or state_base64")
    if kind not in _KINDS:
        raise ValueError(f"its state is of kind {kind}, which this livingai does not know")
    if given == ["state"]:
        if kind != StateKind.MSGPACK:
            raise ValueError(f"a state of kind {kind} is given as state_base64")
        return kind, _packed(content["state"])
    raw = _bytes(content["state_base64"])
    decode_state(kind, raw)  # a CorruptRecordError is a ValueError
    return kind, raw


def _read_node(shown: Any, packed: Any, run: str) -> list[Any]:
    names = set(_NAMES.values())
    _check_keys(shown, set(), names, "a node")
    _check_keys(packed, set(), names, "node_base64")
    wire: list[Any] = [run]
    for name in _NAMES.values():
        if (name in shown) == (name in packed):
            raise ValueError(f"its node has {name} twice, or not at all")
        value = shown[name] if name in shown else _unpacked(packed[name])
        _packed(value)
        wire.append(value)
    try:
        validate_node(ExecutionNode.from_wire(wire))  # an InvalidNodeError is a ValueError
    except CorruptRecordError as error:
        raise ValueError(str(error)) from error
    return wire


def _check_keys(value: Any, needed: set[str], others: Iterable[str], what: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {value!r:.100}, no object")
    lacking, unknown = needed - value.keys(), value.keys() - needed - set(others)
    if lacking or unknown:
        raise ValueError(
            f"{what} lacks {', '.join(sorted(lacking))}" if lacking
            else f"{what} has the unknown keys {', '.join(sorted(unknown))!r:.100}"
        )  # fmt: skip


def _exact(value: Any, stored: bytes) -> str | None:
    """``value`` as JSON, if that gives the same stored bytes again."""
    try:
        text = _json(value)
        return text if serial.pack(json.loads(text)) == stored else None
    except (TypeError, ValueError, RecursionError):  # StateEncodingError is a TypeError
        return None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _no_constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _summed(text: str) -> bytes:
    raw = text.encode("ascii")
    return b'%s,"sum":"%s"}\n' % (raw, xxhash.xxh3_64_hexdigest(raw).encode())


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"{text!r:.100} is no base64")
    return base64.b64decode(text, validate=True)


def _packed(value: Any) -> bytes:
    """Raises ValueError: it cannot be stored."""
    try:
        return serial.pack(value)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _unpacked(text: Any) -> Any:
    """Raises ValueError: it is nothing that was packed."""
    return serial.unpack(_bytes(text))  # a CorruptRecordError is a ValueError
