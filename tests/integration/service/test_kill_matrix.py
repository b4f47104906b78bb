"""The whole kill matrix (tests/unit/package/test_failpoints.py: it leaves no failpoint out)."""

from __future__ import annotations

import pytest

from tests.support.kill_matrix import Cell, cells, run
from tests.support.place import Place


@pytest.mark.faults
@pytest.mark.parametrize("cell", cells(), ids=str)
def test_cell(state_dir: Place, cell: Cell) -> None:
    run(cell, state_dir)
