"""An execution's nodes on their way from the store to an agent, ten thousand at a time.

The store keeps each node packed. So the reader process sends what it read, joined to one msgpack
array, and the agent decodes that in one pass: nothing is decoded and packed again on the way.

A message is ``[checkpoint, state, array, marked, versions]``:

* *checkpoint*: ``[node id, epoch, seq, owner]`` of the newest write with a state; None without one;
* *state*: ``[kind, bytes]``; None if there is none, or if the agent has it already;
* *array*: a msgpack array of node sections; null where the section holds marks
  (:mod:`livingai.serial`), since such a section cannot be part of another msgpack value;
* *marked*: ``[index, section]`` of these;
* *versions*: u32 epoch, u64 seq, u8 "carries a state" of each node, little-endian.
"""

from __future__ import annotations

import contextlib
import gc
import struct
from collections.abc import Generator, Iterable
from typing import Any, Final, NamedTuple

from msgpack import ExtType, Unpacker

from livingai import serial
from livingai.errors import CorruptBlobError, CorruptRecordError, CorruptRowError
from livingai.node import ExecutionNode
from livingai.protocol.sections import Cached, decode_stored_state
from livingai.queue.layout import owner_token
from livingai.serial.scalars import MARKED_PREFIX
from livingai.stores.base import PackedNode

_VERSION: Final = struct.Struct("<IQB")
_ARRAY: Final = struct.Struct(">BI")
_ARRAY32: Final = 0xDD
_EPOCHS: Final = 1 << 32
_NULL: Final = b"\xc0"
#: (node id, epoch, seq, claim of the owner) of a checkpoint.
Place = tuple[str, int, int, str | None]


class Recorded(NamedTuple):
    """A node in its newest version. ``(epoch, seq)`` of that write; ``has_state``: it carried a
    state."""

    node: ExecutionNode
    epoch: int
    seq: int
    has_state: bool


class History(NamedTuple):
    """What the store has of an execution: the place of its newest checkpoint (None: none) and the
    state there, and nodes in the order of their first save."""

    checkpoint: Place | None
    state: Any
    nodes: list[Recorded]


def pack_history(
    checkpoint: Place | None, state: list[Any] | None, nodes: Iterable[PackedNode]
) -> list[Any]:
    """The message; see above."""
    parts: list[bytes] = []
    marked: list[list[Any]] = []
    versions = bytearray()
    for wire, epoch, seq, has_state, _ in nodes:
        if epoch >= _EPOCHS:  # no store gives such an epoch: livingai has not written this row
            raise CorruptRowError(f"a node has the epoch {epoch}; its row is damaged")
        if wire[0] == MARKED_PREFIX[0]:
            marked.append([len(parts), wire])
            wire = _NULL  # noqa: PLW2901 - its place in the array
        parts.append(wire)
        versions += _VERSION.pack(epoch, seq, has_state)
    array = _ARRAY.pack(_ARRAY32, len(parts)) + b"".join(parts)
    place = None if checkpoint is None else list(checkpoint)  # as it is behind a connection
    return [place, state, array, marked, bytes(versions)]


def unpack_history(message: list[Any], cached: Cached | None, execution_id: str = "") -> History:
    """Inverse of :func:`pack_history`; the state is that of ``cached`` where it was not sent.

    All of it comes from rows of the store.

    Raises:
        CorruptRowError: the sections do not decode to nodes (of ``execution_id``, if it is given);
            it names the first one that does not.
        CorruptBlobError: the state does not decode.
    """
    with without_collector():
        try:
            return _unpack(message, cached, execution_id)
        except CorruptBlobError:
            raise
        except CorruptRecordError as error:
            if execution_id and execution_id in str(error):
                raise CorruptRowError(str(error)) from error
            why: Exception = error
        except (ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
            why = error
    raise CorruptRowError(f"execution {execution_id}: {_first_bad(message)}: {why}") from why


def checked_message(answer: Any) -> list[Any]:
    """``answer``, if it has the form of a message; what its sections hold is not looked at.

    Raises:
        TypeError, ValueError: it has another form.
    """
    checkpoint, state, array, marked, versions = answer
    if (
        type(array) is not bytes
        or type(versions) is not bytes
        or len(versions) % _VERSION.size
        or not _has_form(checkpoint, str, int, int, object)
        or not _has_form(state, int, bytes)
        or type(marked) is not list
        or not all(each is not None and _has_form(each, int, bytes) for each in marked)
    ):
        raise TypeError("it is no message of nodes")
    return [checkpoint, state, array, marked, versions]


def _has_form(values: Any, *types: type) -> bool:
    """Whether it is a list of values of these types, or None."""
    return values is None or (
        isinstance(values, list)
        and len(values) == len(types)
        and all(map(isinstance, values, types))
    )


def _first_bad(message: list[Any]) -> str:
    """Which section spoils the array of nodes, for a message; slow."""
    array = message[2]
    sections = Unpacker(
        strict_map_key=False, unicode_errors="surrogatepass", ext_hook=ExtType,
        max_buffer_size=len(array),
    )  # fmt: skip
    sections.feed(array[_ARRAY.size :])
    marked = dict(message[3])
    before = "none"
    for index in range(len(message[4]) // _VERSION.size):
        try:
            section = sections.unpack()
            section = serial.unpack(marked[index]) if index in marked else section
            before = ExecutionNode.from_wire(section).id  # type: ignore[arg-type]
        except Exception:  # whatever is wrong with it
            return f"its node {index + 1} (by its first save; before it comes {before}) is damaged"
    return "what its rows hold besides its nodes is damaged"


@contextlib.contextmanager
def without_collector() -> Generator[None]:
    """Make thousands of objects that all stay: the garbage collector would look through them again
    and again, and free nothing."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _unpack(message: list[Any], cached: Cached | None, execution_id: str) -> History:
    checkpoint, state, array, marked, versions = message
    wires: Any = serial.unpack(array)
    for index, wire in marked:
        wires[index] = serial.unpack(wire)
    nodes = [
        Recorded(ExecutionNode.from_wire(wire), epoch, seq, bool(has_state))
        for wire, (epoch, seq, has_state) in zip(wires, _VERSION.iter_unpack(versions), strict=True)
    ]
    for recorded in nodes:
        if execution_id and recorded.node.execution_id != execution_id:
            raise CorruptRowError(
                f"execution {execution_id} has a row with node {recorded.node.id} of another one"
            )
    if checkpoint is None:
        return History(None, None, nodes)
    if state is None:
        value = cached.state if cached is not None else None
    else:
        kind, raw = state
        value = decode_stored_state(kind, raw, str(checkpoint[0]), execution_id)
    return History(tuple(checkpoint), value, nodes)


def place_of(cached: Cached | None) -> list[Any] | None:
    """Where a cached state was saved, as far as its record says: node id, seq, owner's claim."""
    if cached is None:
        return None
    header = cached.record.header
    return [cached.node.id, header.seq, owner_token(header.journal_id, header.claim)]
