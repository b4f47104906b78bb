"""A few cells of the kill matrix, chosen by the run's seed (`make faults` goes through all)."""

from __future__ import annotations

import os
from random import Random, SystemRandom

from tests.support.kill_matrix import cells, run
from tests.support.place import Place

SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or SystemRandom().getrandbits(32)


def one_of_each_third(place: Place, third: int) -> None:
    """A cell of one third of the table; the table is in the order of a write's way."""
    table = cells()
    size = -(-len(table) // 3)
    cell = Random(SEED).choice(table[third * size : (third + 1) * size])
    print(f"seed {SEED} (repeat with LIVINGAI_SEED={SEED}): {cell}")
    run(cell, place)


def test_one_cell_of_the_first_third(state_dir: Place) -> None:
    one_of_each_third(state_dir, 0)


def test_one_cell_of_the_second_third(state_dir: Place) -> None:
    one_of_each_third(state_dir, 1)


def test_one_cell_of_the_last_third(state_dir: Place) -> None:
    one_of_each_third(state_dir, 2)
