"""Compressor processes that die of certain records."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

from livingai.codecs import Encoded
from livingai.queue.record import Record
from livingai.queue.segment_cache import SegmentCache
from livingai.workers import compressor
from livingai.workers.encoding import encode
from livingai.workers.encoding_task import EncodingTask


def poisoned(poison: set[int]) -> Callable[[int], ProcessPoolExecutor]:
    """As :func:`~livingai.workers.dispatcher.compressor_executors.make_processes`; a process is
    killed while it encodes a record at one of these positions."""

    def make(count: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            count,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(os.getpid(), poison),
        )

    return make


def _start(parent: int, poison: set[int]) -> None:
    compressor.start_compressor(parent)

    def encode_unless(
        segments: SegmentCache, task: EncodingTask, codec: str
    ) -> tuple[Record, Encoded]:
        if task.position in poison:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(segments, task, codec)

    mock.patch.object(compressor, "encode", encode_unless).start()
