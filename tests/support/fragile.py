"""A SQLite store whose writer cannot be started while a file is there."""

from __future__ import annotations

import os
import sys
from typing import Any

from livingai.stores.base import StoreSpec
from livingai.stores.sqlite import SQLiteStore


class FragileStore(SQLiteStore):
    """As its base; building it in a writer fails while ``<path>.broken`` is there."""

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path, **options)
        if sys.argv[1:2] == ["writer"] and os.path.exists(f"{path}.broken"):
            raise RuntimeError("this store cannot be built here")

    def spec(self) -> StoreSpec:
        return StoreSpec("tests.support.fragile:FragileStore", super().spec().kwargs)
