"""Records of several processes and several boots come out of the journals in the order of their
acceptance, whatever the wall clock has done meanwhile, and whichever process looks."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from unittest import mock

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from livingai.errors import JournalError
from livingai.queue import journal
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import JournalLimits
from livingai.workers.dispatcher import intake
from tests.support.clocks import Clocks
from tests.support.journals import Writer, scratch_folder, state_directory

LIMITS = JournalLimits(
    segment_bytes=4096, journal_bytes=64 * 4096, cache_bytes=4096, cache_ttl_s=0.0,
    index_sets=16, node_slots=16,
)  # fmt: skip


@given(seed=st.integers(0, 2**32), number=st.integers(1, 4), alive=st.booleans())
def test_order_of_acceptance(seed: int, number: int, alive: bool) -> None:
    """``alive``: they are read in the boot that wrote the last ones, else in a later one."""
    random = Random(seed)
    clocks = Clocks(random)
    folder = scratch_folder()
    directory = state_directory(folder / "state")
    values = itertools.count()
    expected: list[int] = []
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        for _ in range(number):
            clocks.power_loss()
            with clocks.shown():
                expected += write(random, directory, values)
        if not alive:
            clocks.power_loss()
        with clocks.shown(), closing(intake.Intake(directory)) as merged:
            seen: list[int] = []
            while batch := list(merged.take(random.choice((1, 7, 1000)))):
                seen += [item.header.budget_us for item in batch]
    note(f"expected {expected}")
    assert seen == expected


def write(random: Random, directory: StateDirectory, values: Iterator[int]) -> list[int]:
    """Some processes of one boot write in turns, then all die; what they wrote, in order."""
    owners = [Writer(directory, LIMITS) for _ in range(random.randrange(1, 4))]
    written = []
    for value in itertools.islice(values, random.randrange(1, 30)):
        random.choice(owners).save(f"run-{random.randrange(3)}", b"x", budget_us=value)
        written.append(value)
    for owner in owners:
        owner.die()
    return written


@pytest.mark.parametrize("where", ["before_append", "after_append", "before_publish"])
def test_a_process_that_is_overtaken_while_it_saves_comes_last(tmp_path: Path, where: str) -> None:
    """Its successor's writes were accepted before, so they are stored first."""
    directory = state_directory(tmp_path)
    owner, intruder = Writer(directory, LIMITS), Writer(directory, LIMITS)
    hits: list[str] = []

    def failpoint(name: str) -> None:
        if name == f"journal.{where}" and not hits:
            hits.append(name)
            for value in range(3):
                intruder.save("run-1", b"x", budget_us=value)

    with mock.patch.object(journal, "failpoint", failpoint):
        owner.save("run-1", b"x", budget_us=3)
    owner.save("run-1", b"x", budget_us=4)
    with closing(intake.Intake(directory)) as merged:
        assert [item.header.budget_us for item in merged.take(100)] == [0, 1, 2, 3, 4]
    owner.close()
    intruder.close()


def test_an_overtaken_process_that_cannot_mark_takes_over_with_its_next_save(
    tmp_path: Path,
) -> None:
    """The other journals cannot be marked a second time: nothing was appended, and the next save is
    the claim's first record, with all that belongs to it."""
    directory = state_directory(tmp_path)
    owner, intruder = Writer(directory, LIMITS), Writer(directory, LIMITS)
    marked: list[int] = []

    def supersede(key: int) -> None:
        marked.append(key)
        if len(marked) == 1:
            owner._supersede(key)
            intruder.save("run-1", b"intruder", budget_us=0)
        elif len(marked) == 2:
            raise JournalError("no descriptors")
        else:
            owner._supersede(key)

    owner.journal.supersede = supersede
    with pytest.raises(JournalError, match="no descriptors"):
        owner.save("run-1", b"owner", budget_us=1)
    owner.save("run-1", b"owner", budget_us=2)
    assert len(marked) >= 3, "the next save marks them"
    with closing(intake.Intake(directory)) as merged:
        assert [item.header.budget_us for item in merged.take(100)] == [0, 2]
    owner.close()
    intruder.close()
