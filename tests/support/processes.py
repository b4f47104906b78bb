"""Processes of a test: they carry its tag in their environment, and so do those that they start."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

#: The variable with the tag.
TAG = "LIVINGAI_TEST_PLACE"


def tagged(tag: str) -> list[psutil.Process]:
    """Every process with that tag, but this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(TAG) == tag:
                found.append(process)
    return found
