"""The dispatcher counts each record once, at whatever step of an outcome it dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from livingai.outcome import STATUS_CODES, OutcomeStatus
from livingai.queue.counters import FIRST_OUTCOME
from livingai.queue.directory import StateDirectory
from livingai.queue.tally import SERVICE_TALLY, open_service_tally, read_tally
from livingai.workers.dispatcher import feed, outcomes
from livingai.workers.dispatcher.feed import Item
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.outcomes import Outcomes
from tests.support.journals import Writer, state_directory

MET, SUPERSEDED = STATUS_CODES[OutcomeStatus.MET], STATUS_CODES[OutcomeStatus.SUPERSEDED]
STEPS = (
    "dispatcher.before_outcome", "dispatcher.after_outcome", "dispatcher.before_cursor",
    "dispatcher.after_cursor", "dispatcher.after_tell",
)  # fmt: skip


class Dead(Exception):
    """The dispatcher was killed."""


class Nobody:
    """No agent and no loop listens."""

    def __getattr__(self, name: str) -> object:
        return lambda *_, **__: None


@contextmanager
def life(directory: StateDirectory) -> Iterator[tuple[Outcomes, list[Item]]]:
    """A life of the service, and the records that have no outcome yet."""
    tally = open_service_tally(directory)
    assert tally is not None
    nobody = Nobody()
    with closing(tally), closing(Intake(directory, tally)) as intake:
        found = Outcomes(directory.quarantine, intake, nobody, nobody)  # type: ignore[arg-type]
        taken = [item for item in intake.take(1000) if not found.known(item)]
        found.tell()
        yield found, taken


def counts(directory: StateDirectory) -> dict[int, int]:
    counters = read_tally(os.path.join(directory.path, SERVICE_TALLY)).counters
    return {code: counters[FIRST_OUTCOME + code - 1] for code in (MET, SUPERSEDED)}


@contextmanager
def dying_at(step: str, time_: int) -> Iterator[None]:
    """The dispatcher dies when it comes to a step for the n-th time."""
    left = time_

    def come(name: str) -> None:
        nonlocal left
        left -= name == step
        if left == 0:
            left = -1
            raise Dead

    patched = [mock.patch.object(module, "failpoint", come) for module in (feed, outcomes)]
    with patched[0], patched[1], suppress(Dead):
        yield


@pytest.mark.parametrize("step", STEPS)
def test_a_death_at_each_step(tmp_path: Path, step: str) -> None:
    directory = state_directory(tmp_path / "state")
    chance = Random(step)
    owners = [Writer(directory), Writer(directory)]
    expected = {MET: 0, SUPERSEDED: 0}
    known: dict[tuple[str, int], int] = {}
    for round_ in range(1, 5):
        for number in range(12):
            owners[number % 2].save(f"run-{number % 2}", b"state")
        with dying_at(step, round_), life(directory) as (found, items):
            for item in items:
                status = chance.choice((MET, SUPERSEDED))
                known.setdefault((item.feed.path, item.header.lsn), status)
                # What the store has decided stays so, whoever asks again.
                status = known[item.feed.path, item.header.lsn]
                found.settle(item, status, item.header.mono_ns + 1)
                if chance.random() < 0.3:
                    found.tell()
            found.tell()
    with life(directory) as (found, items):
        for item in items:
            status = known.setdefault((item.feed.path, item.header.lsn), MET)
            found.settle(item, status, item.header.mono_ns + 1)
        found.tell()
    for status in known.values():
        expected[status] += 1
    assert sum(expected.values()) == 48
    assert counts(directory) == expected
    for owner in owners:
        owner.close()
