"""Roles of a store worker in the test's own process, and events between their steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from livingai.queue.directory import StateDirectory
from livingai.workers.store.role import Role


class Asked(Role):
    """A role that may be asked to open its store and for its marks, and no more."""

    def do_open(self) -> None:
        self._open().open()

    def do_marks(self) -> dict[str, str] | None:
        return self._open().marks()


class Meanwhile(StateDirectory):
    """A state directory in which ``deed`` is done just before the manifest is first written."""

    deed: Callable[[], None] | None = None

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.written: list[bool] = []

    def change_manifest(
        self, changes: Mapping[str, str | None], *, over: Mapping[str, Any] | None = None
    ) -> bool:
        if (deed := self.deed) is not None:
            self.deed = None
            deed()
        self.written.append(super().change_manifest(changes, over=over))
        return self.written[-1]
