"""A plugin of coverage.py (``make coverage``): compressors save what they have run while they live.

A process writes what it has run at its end, and the end of a compressor is always SIGKILL: its pool
waits for none of them (``end_processes`` of
:mod:`livingai.workers.dispatcher.compressor_executors`). So a thread there saves now and then, and
what is lost is what was run since.
"""

from __future__ import annotations

import sys
import threading

import coverage
from coverage.plugin_support import Plugins

_EVERY_S = 0.25


def coverage_init(reg: Plugins, options: dict[str, str]) -> None:
    """Called by coverage.py in each process that it measures."""
    if "--multiprocessing-fork" in sys.orig_argv:
        threading.Thread(target=_save_now_and_then, name="coverage", daemon=True).start()


def _save_now_and_then() -> None:
    never = threading.Event()
    while not never.wait(_EVERY_S):
        measured = coverage.Coverage.current()
        if measured is not None:
            measured.save()
