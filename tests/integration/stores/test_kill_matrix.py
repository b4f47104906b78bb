"""The cells of the kill matrix in which it matters what the store does, on Redis and PostgreSQL (on
SQLite, and all others: tests/integration/service/test_kill_matrix.py). A few of them, chosen by the
run's seed, are in ``make test``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random, SystemRandom

import pytest

from tests.support.kill_matrix import Cell, run, store_cells
from tests.support.place import Place
from tests.support.processes import TAG

SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or SystemRandom().getrandbits(32)
#: Cells of each store in ``make test``: one of each third of the table, which is in the order of a
#: write's way.
SAMPLE = 3
servers = pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ],
    indirect=True,
)


@pytest.fixture
def place(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A state directory of that store, with nothing left behind at the end."""
    place = Place(tmp_path, url)
    monkeypatch.setenv(TAG, place.tag)
    yield place
    place.finish()


@pytest.mark.faults
@servers
@pytest.mark.parametrize("cell", store_cells(), ids=str)
def test_cell(place: Place, cell: Cell) -> None:
    run(cell, place)


@servers
@pytest.mark.parametrize("part", range(SAMPLE))
def test_a_cell_of_each_part(place: Place, part: int, request: pytest.FixtureRequest) -> None:
    table = store_cells()
    size = -(-len(table) // SAMPLE)
    cell = Random(f"{SEED} {request.node.name}").choice(table[part * size : (part + 1) * size])
    print(f"seed {SEED} (repeat with LIVINGAI_SEED={SEED}): {cell}")
    run(cell, place)
