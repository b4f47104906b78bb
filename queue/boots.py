"""The order of boots: which journals are older than those of this boot, whatever the clocks say.

CLOCK_MONOTONIC begins anew with every boot and the wall clock may be set back, so neither shows
which of two boots came first. But a journal that lies in the directory when another boot makes its
first one there is older. So each journal bears a number, one more than the largest that it found
among journals of other boots; journals of one boot bear the same, or a smaller one where the older
journals had been removed by then. It is synced with the journal's first record.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from livingai.errors import LivingAIError
from livingai.queue.control import Control
from livingai.queue.lock import Boot, boot_id

_LAST: Final = 1 << 62


def this_boot(folder: str) -> Boot:
    """This boot, as a new journal in ``folder`` bears it. Raises OSError."""
    here = boot_id()
    before = 0
    for name in os.listdir(folder):
        if name.startswith("."):
            continue
        with contextlib.suppress(OSError, LivingAIError):  # gone by now, or not to be read
            control = Control(os.path.join(folder, name))
            boot, order = control.boot, control.boot_order
            control.close()
            if boot == here and 0 < order <= _LAST:
                return Boot(here, order)
            if order < _LAST:  # else it is no number that was counted up
                before = max(before, order)
    return Boot(here, before + 1)
