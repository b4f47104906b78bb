"""Why a service of an earlier livingai could not be replaced: a small file in the state directory,
for all agents that would try it, so that they try again together and not each by itself.

Whoever has tried it writes it (:mod:`livingai.workers.successor`), whole or not at all. It is a
hint, as :mod:`livingai.service.report` is: one that is missing, old or damaged says nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Final

from livingai.errors import LivingAIError
from livingai.queue.lock import boot_id
from livingai.queue.opening import read_json
from livingai.service.report import write_hint

NAME: Final = "service.succession"


def note_failure(directory: str, predecessor: int, why: str) -> None:
    """The service whose supervisor is that process could not be replaced just now. Where that
    cannot be written (a full disk), each agent waits by itself."""
    noted = {
        "predecessor": predecessor,
        "at": time.monotonic(),
        "boot": boot_id().hex(),
        "trouble": why[:4000],
    }
    write_hint(directory, NAME, noted)


def failure_of(directory: str, predecessor: int, within_s: float) -> str:
    """Why the last attempt to replace that service failed, if it is no longer ago than so many
    seconds; else "". By the clock that does not jump, which begins anew with each boot."""
    try:
        found = read_json(os.path.join(directory, NAME))
    except (OSError, ValueError, LivingAIError):
        return ""
    if not isinstance(found, dict) or found.get("boot") != boot_id().hex():
        return ""
    at, why = found.get("at"), found.get("trouble")
    if found.get("predecessor") != predecessor or not isinstance(at, float):
        return ""
    recent = 0 <= time.monotonic() - at < within_s
    return str(why) if recent else ""


def forget_failure(directory: str) -> None:
    """A service has begun; what was in the way of another one is over."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(directory, NAME))
