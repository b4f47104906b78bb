"""Why a store did not take a row, in words that are the same in every store."""

from __future__ import annotations

from typing import Final

BASE_MISSING: Final = "its base is not stored"


def fenced(newest: int, epoch: int, *, deleted: bool) -> str:
    """Why a write with ``epoch`` is fenced: the execution was deleted or taken over with the epoch
    ``newest``."""
    what = "deleted" if deleted else "taken over"
    return f"the execution was {what} with epoch {newest}, this write has {epoch}"
