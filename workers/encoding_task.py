"""What goes to a compressor and what comes back: places in journals, never states themselves.

These two are pickled: a service that was started from another livingai than its compressors knows
them by the name of this module.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: A position that there is not: the store takes the patch as the record has it.
AS_IT_IS: Final = -1


class EncodingTask(NamedTuple):
    """A record to encode: its journal's folder, its position, and the position in the same journal
    of the previous state of the execution (0: none; :data:`AS_IT_IS`: the record is a patch, and
    the store has its base)."""

    journal: str
    position: int
    base_position: int = 0


class EncodingResult(NamedTuple):
    """A checkpoint, encoded; ``error`` is set instead where the record is damaged. ``sections`` is
    the :func:`~livingai.queue.record.sections_sum` of what the writer still has to read: it needs
    neither the state nor its checksum again."""

    blob: bytes
    content_hash: bytes
    base_hash: bytes | None
    sections: int
    error: str = ""
