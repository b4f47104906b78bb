"""A process with a role whose store opens once and hangs from then on: ``stuck_role DATABASE``.

It says "open", and "hangs" when it does. A line on its standard input lets it go on.
"""

from __future__ import annotations

import sys

from livingai.queue.directory import StateDirectory
from livingai.stores.sqlite import SQLiteStore
from tests.support.roles import Asked


class StuckStore(SQLiteStore):
    """As its base; the second ``open`` waits for standard input."""

    opened = 0

    def open(self) -> None:
        self.opened += 1
        if self.opened == 2:
            print("hangs", flush=True)
            sys.stdin.readline()
        super().open()


def main() -> None:
    store = StuckStore(sys.argv[1])
    role = Asked(store, StateDirectory(store.default_directory()))
    role.handle("open", [])
    print("open", flush=True)
    role.close()


if __name__ == "__main__":
    main()
