"""The judge of histories notices each kind of violation, and nothing else
(tests/support/history.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.history import Entry, History, Read, Stored, Write, violations


def write(number: int, **fields: object) -> Write:
    """The ``number``-th write of the first agent's claim; it was accepted and met."""
    at = number * 10
    made = Write(f"w{number}", "run", b"%d" % number, "one", "host", True, at, at + 5,
                 owner="one-1", claim=1, seq=number, told=[(at + 9, "met")])  # fmt: skip
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def stored(made: Write, epoch: int = 1) -> Stored:
    return Stored(made.execution, made.owner, (epoch, made.seq), made.state)


def sound() -> History:
    """Two writes of an agent, two of its successor, of which the first is superseded, and reads."""
    first, second = write(1), write(2)
    third = write(3, agent="two", owner="two-2", claim=2, seq=1, history=False,
                  told=[(60, "superseded")])  # fmt: skip
    fourth = write(4, agent="two", owner="two-2", claim=2, seq=2)
    return History(
        [first, second, third, fourth],
        [Entry("run", "one", "host", 1, 10, 15), Entry("run", "two", "host", 2, 30, 35)],
        [Read("run", "two", "host", 26, 28, "w2"), Read("run", "one", "host", 46, 50, "w4"),
         Read("run", "one", "host", 1, 3, None)],
        [stored(first), stored(second), stored(fourth, 2)],
        {"one", "two"},
    )  # fmt: skip


def lost(history: History) -> None:
    del history.stored[1]


def lost_without_an_outcome(history: History) -> None:
    del history.stored[1]
    history.writes[1].told.clear()
    history.living.clear()


def fenced_before_anybody_else_came(history: History) -> None:
    del history.stored[1]
    history.writes[1].told[:] = [(29, "fenced")]


def no_outcome(history: History) -> None:
    history.writes[1].told.clear()


def two_outcomes(history: History) -> None:
    history.writes[1].told.append((70, "late"))


def outcome_of_what_was_refused(history: History) -> None:
    history.writes.append(write(9, refused=True))


def refused_and_stored(history: History) -> None:
    history.writes.append(write(9, refused=True, told=[]))
    history.stored.append(stored(history.writes[-1]))


def fenced_and_stored(history: History) -> None:
    history.writes[1].told[:] = [(70, "fenced")]


def superseded_by_nothing(history: History) -> None:
    del history.stored[2]
    history.writes[3].told[:] = [(70, "fenced")]


def superseded_with_history(history: History) -> None:
    history.writes[2].history = True


def quarantined(history: History) -> None:
    history.writes[1].told[:] = [(70, "quarantined")]


def poison_and_stored(history: History) -> None:
    history.writes[1].poison = True


def never_written(history: History) -> None:
    history.stored[1].state = b"other"


def not_to_be_decoded(history: History) -> None:
    history.stored[1].state = None


def stored_twice(history: History) -> None:
    history.stored.append(replace(history.stored[1], version=(1, 7)))


def stored_for_another(history: History) -> None:
    history.stored[1].owner = "two-2"


def stored_under_another_number(history: History) -> None:
    history.stored[1].version = (1, 9)


def stored_in_another_order(history: History) -> None:
    history.stored[2].version = (0, 2)


def nobody_saved_it(history: History) -> None:
    history.stored.append(Stored("other", "one-1", (1, 1), b"1"))


def went_back(history: History) -> None:
    history.commits = [("run", (1, 1)), ("other", (1, 1)), ("run", (2, 1)), ("run", (1, 2))]


def read_older(history: History) -> None:
    history.reads[1].seen = "w2"


def read_older_of_the_same_claim(history: History) -> None:
    history.reads[0].seen = "w1"


def read_nothing(history: History) -> None:
    history.reads[0].seen = None


def read_wrong_bytes(history: History) -> None:
    history.reads[0].sound = False


def read_what_nobody_wrote(history: History) -> None:
    history.reads[0].seen = "w99"


def read_the_future(history: History) -> None:
    history.reads[2].seen = "w1"


def read_what_was_refused(history: History) -> None:
    history.writes.append(write(9, refused=True, told=[], began=20, returned=22, claim=3))
    history.reads[0].seen = "w9"


def read_what_was_fenced_by_what_it_should_see(history: History) -> None:
    """A late write of the first agent, after its successor's was accepted."""
    late = write(5, seq=3, told=[(80, "fenced")])
    history.writes.append(late)
    history.reads.append(Read("run", "one", "host", 60, 62, "w5"))


@pytest.mark.parametrize("break_", [
    lost, lost_without_an_outcome, fenced_before_anybody_else_came, no_outcome, two_outcomes,
    outcome_of_what_was_refused, refused_and_stored, fenced_and_stored, superseded_by_nothing,
    superseded_with_history, quarantined, poison_and_stored, never_written, not_to_be_decoded,
    stored_twice, stored_for_another, stored_under_another_number, stored_in_another_order,
    nobody_saved_it, went_back,
    read_older, read_older_of_the_same_claim, read_nothing, read_wrong_bytes,
    read_what_nobody_wrote, read_the_future, read_what_was_refused,
    read_what_was_fenced_by_what_it_should_see,
])  # fmt: skip
def test_a_violation_is_noticed(break_: object) -> None:
    history = sound()
    assert callable(break_)
    break_(history)
    assert violations(history)


def fenced_by_a_successor(history: History) -> None:
    """It was accepted while the other one took over."""
    history.writes.append(write(5, seq=3, began=31, returned=33, told=[(80, "fenced")]))


def poison(history: History) -> None:
    history.writes.append(write(9, poison=True, told=[(99, "quarantined")]))


def fenced_by_another_host(history: History) -> None:
    history.writes.append(write(5, seq=3, began=21, returned=23, told=[(80, "fenced")]))
    history.entries[1].host = "other"
    for late in history.writes[2:4]:
        late.host = "other"
    history.reads.clear()


def died_in_a_save(history: History) -> None:
    history.writes.append(write(9, returned=None, told=[], seq=0, claim=0, owner=""))


def died_in_a_save_that_was_stored(history: History) -> None:
    died = write(9, returned=None, told=[], seq=0, claim=0, owner="")
    history.writes.append(died)
    history.stored.append(Stored("run", "two-2", (2, 9), died.state))


def superseded_by_what_died_in_its_save(history: History) -> None:
    """Its agent did not live to know the number of the later one."""
    history.writes.append(write(5, seq=3, history=False, told=[], began=26, returned=27))
    died = write(6, returned=None, told=[], seq=0, claim=0, owner="", began=28)
    history.writes.append(died)
    history.stored.append(Stored("run", "one-1", (1, 4), died.state))
    history.living.discard("one")
    history.reads.clear()


def died_before_it_was_told(history: History) -> None:
    history.writes[1].told.clear()
    history.living.discard("one")


def read_at_the_same_time(history: History) -> None:
    history.reads.append(Read("run", "one", "host", 33, 60, "w2"))


@pytest.mark.parametrize("allow", [
    fenced_by_a_successor, poison, fenced_by_another_host, died_in_a_save,
    died_in_a_save_that_was_stored, superseded_by_what_died_in_its_save, died_before_it_was_told,
    read_at_the_same_time,
])  # fmt: skip
def test_what_may_happen_is_none(allow: object) -> None:
    history = sound()
    assert violations(history) == []
    assert callable(allow)
    allow(history)
    assert violations(history) == []
