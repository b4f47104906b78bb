"""A state directory under repair: what is done there, and the list of it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

from livingai.failpoint import failpoint
from livingai.queue.directory import StateDirectory
from livingai.queue.names import put_aside


@dataclass(slots=True)
class Repaired:
    """What a repair has done: each line a path relative to the state directory, and what was done
    there. ``lost``: accepted records are lost by what was found."""

    path: str
    done: list[tuple[str, str]] = field(default_factory=list)
    lost: bool = False

    def lines(self) -> list[str]:
        """For people."""
        return [f"repaired: {where}: {what}" for where, what in self.done]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "lost": self.lost,
            "done": [{"where": where, "what": what} for where, what in self.done],
        }


class Workbench:
    """A state directory under repair, and the three things that are done there."""

    def __init__(self, directory: StateDirectory, repaired: Repaired) -> None:
        self.directory = directory
        self._repaired = repaired

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return bool(self._repaired.done)

    def where(self, path: str) -> str:
        """A path, relative to the state directory."""
        return os.path.relpath(path, self.directory.path)

    def note(self, path: str, what: str, *, lost: bool = False) -> None:
        """Something was done there."""
        self._repaired.done.append((self.where(path), what))
        self._repaired.lost |= lost

    def move_aside(self, path: str, why: str) -> None:
        """Move what is under a path to the quarantine, if anything is."""
        if not os.path.lexists(path):
            return
        failpoint("repair.before_move")
        there = put_aside(path, self.directory.quarantine)
        failpoint("repair.after_move")
        self.note(path, f"moved to {self.where(there)}: {why}")

    def made(self, path: str) -> None:
        """Something was made in the place of what was damaged or missing."""
        failpoint("repair.after_make")
        self.note(path, "made anew")

    def make_folders(self) -> None:
        """The two folders of the directory, where one is missing."""
        for folder in (self.directory.quarantine, self.directory.journals):
            if os.path.islink(folder) or not os.path.isdir(folder):
                if os.path.lexists(folder):
                    there = f"{folder}.odd-{time.time_ns():x}"
                    os.rename(folder, there)
                    self.note(folder, f"was no folder, and is {self.where(there)} now")
                    what = "made anew, empty"
                else:
                    what = "made anew; what was in it is gone"
                os.mkdir(folder, 0o700)
                self.note(folder, what, lost=True)
