"""Moves the wall clock of a Python process, and of nothing else, by as many seconds as the file
says that LIVINGAI_TEST_CLOCK names, at any moment. Python imports this module at its start if its
folder is on PYTHONPATH; the service inherits that from its agent."""

import os
import time
from pathlib import Path

if name := os.environ.get("LIVINGAI_TEST_CLOCK"):
    _time_ns, _file = time.time_ns, Path(name)

    def _moved_ns() -> int:
        return _time_ns() + int(_file.read_text()) * 1_000_000_000

    time.time_ns = _moved_ns
    time.time = lambda: _moved_ns() / 1e9
