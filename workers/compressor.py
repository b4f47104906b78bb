"""Compression, in the processes of a ProcessPoolExecutor.

A task names records by journal, segment and offset; the bytes are read from the mapped journal,
never sent. What comes back is the encoded checkpoint.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading

from livingai import codecs
from livingai.errors import CorruptRecordError
from livingai.failpoint import enter_process, failpoint
from livingai.queue.record import sections_sum
from livingai.queue.segment_cache import SegmentCache
from livingai.workers.encoding import encode
from livingai.workers.encoding_task import EncodingResult, EncodingTask
from livingai.workers.process import die_with_parent, leave_signals_to_parent, yield_to_agents

_cache = SegmentCache()


def start_compressor(parent: int) -> None:
    """Initializer of a pool process."""
    enter_process("compressor")
    die_with_parent(parent)
    leave_signals_to_parent()
    # The executor ends the rest of a broken pool with SIGTERM and then waits for them.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield_to_agents()
    watched = multiprocessing.parent_process()
    if watched is not None:
        threading.Thread(target=_watch, args=(watched.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    """End with the parent: holding both ends of its queue, this process would wait for ever."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def warm_up() -> int:
    """Does nothing, in a pool process that is up by then; its pid."""
    return os.getpid()


def forget_segments() -> None:
    """Unmap everything: this process or thread encodes no more."""
    _cache.close()


def encode_tasks(tasks: list[EncodingTask], codec: str) -> list[EncodingResult]:
    """Encode the states of ``tasks``, in order."""
    return [_encode(task, codec) for task in tasks]


def _encode(task: EncodingTask, codec: str) -> EncodingResult:
    failpoint("compressor.before_encode")
    try:
        record, encoded = encode(_cache, task, codec)
    except CorruptRecordError as error:
        return EncodingResult(b"", b"", None, 0, str(error))
    failpoint("compressor.after_encode")
    return EncodingResult(
        encoded.blob,
        codecs.content_hash(record.state),
        encoded.base_hash,
        sections_sum(record.header, record.node, record.ext),
    )
