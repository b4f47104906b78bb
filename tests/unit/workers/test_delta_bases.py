"""Delta bases: a state builds on one of its own claim, and on the newest one that is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from livingai.queue.journal import JournalLimits
from livingai.queue.layout import Flag
from livingai.queue.patch import is_patch
from livingai.workers.dispatcher.delta_bases import Bases
from livingai.workers.dispatcher.feed import Feed, Item
from tests.support.journals import Writer, state_directory


class Owner:
    """A process, and the service's view of its journal."""

    def __init__(self, folder: Path, patch_from: int = 1 << 62) -> None:
        self.writer = Writer(state_directory(folder), JournalLimits(), patch_from=patch_from)
        self.feed = Feed(self.writer.journal.directory)

    def save(self, claim: int, *, history: bool = True) -> Item:
        """Save the one execution's next state; the record, as it was taken."""
        place = self.writer.places.get("run-1") or self.writer.enter("run-1")
        if place.claim != claim:
            place.claim, place.seq = claim, 0
            self.writer.journal.index.begin(place.slot, claim)
        self.writer.save("run-1", b"x" * 2000, history=history)
        self.feed.read_ahead()
        item = self.feed.next()
        item.by_writer = True
        return item

    def close(self) -> None:
        self.feed.close()
        self.writer.close()


@pytest.fixture
def owners(tmp_path: Path) -> Iterator[list[Owner]]:
    with closing(Owner(tmp_path)) as one, closing(Owner(tmp_path)) as other:
        yield [one, other]


def test_a_state_builds_on_none_of_another_claim(owners: list[Owner]) -> None:
    """Between the two another process may have had the execution."""
    bases = Bases()
    items = [owners[0].save(claim) for claim in (5, 5, 6, 6)]
    for item in items:
        bases.choose(item)
    assert [item.base_at for item in items] == [0, items[0].at, 0, items[2].at]
    assert [item.chain for item in items] == [0, 1, 0, 1]


def test_a_state_builds_on_none_of_another_journal(owners: list[Owner]) -> None:
    """Its place means another record there, though the claim has the same number."""
    bases = Bases()
    items = [owners[number].save(5) for number in (0, 1, 1, 0)]
    for item in items:
        bases.choose(item)
    assert items[0].at == items[1].at
    assert [item.base_at for item in items] == [0, 0, items[1].at, 0]


def test_what_was_sent_is_a_base_until_something_newer_is_sent(owners: list[Owner]) -> None:
    bases = Bases()
    items = [owners[0].save(5, history=False) for _ in range(6)]
    for item in items[:3]:
        bases.choose(item)
    assert [item.firm for item in items[:3]] == [True, False, False]
    assert [item.base_at for item in items[:3]] == [0, items[0].at, items[0].at]
    bases.sent(items[2])
    bases.choose(items[3])
    assert items[3].base_at == items[2].at
    bases.sent(items[1])  # its batch has to be written again
    bases.sent(items[0])
    bases.choose(items[4])
    assert items[4].base_at == items[2].at
    bases.sent(items[4])
    bases.choose(items[5])
    assert items[5].base_at == items[4].at


def test_a_later_claims_base_stays_when_an_older_record_is_sent(owners: list[Owner]) -> None:
    bases = Bases()
    old, new, following = owners[0].save(5), owners[1].save(6), owners[1].save(6)
    bases.choose(old)
    bases.choose(new)
    bases.sent(old)
    bases.choose(following)
    assert following.base_at == new.at


def test_how_far_a_patch_is_from_a_whole_state(tmp_path: Path) -> None:
    """All patches on one state are one step from it. After a restart it is not known how far that
    one is, however many patches have come since: the next state is stored whole."""
    with closing(Owner(tmp_path, patch_from=1000)) as owner:
        whole, *patches = (owner.save(5) for _ in range(4))
        assert [is_patch(item.header) for item in (whole, *patches)] == [False, True, True, True]
        before, after = Bases(longest=20), Bases(longest=20)
        before.choose(whole)
        for bases, steps in ((before, 1), (after, 20)):
            for item in patches:
                bases.choose_patch(item)
                assert (item.patch, item.chain) == (True, steps)
        owner.writer.patch_from = 1 << 62
        following = owner.save(5)
        before.choose(following)
        assert (following.base_at, following.chain) == (patches[-1].at, 2)
        after.choose(following := owner.save(5))
        assert (following.base_at, following.chain) == (0, 0)


def test_a_state_that_patches_may_build_on_is_firm(tmp_path: Path) -> None:
    """Whether or not it has a base itself, and though its caller asked for no history."""
    bases = Bases()
    with closing(Owner(tmp_path, patch_from=1000)) as owner:
        bases.choose(owner.save(5, history=False))
        owner.writer.places["run-1"].lineage = None  # the next one is written whole
        item = owner.save(5, history=False)
    assert item.header.flags & Flag.BASE
    assert item.header.flags & Flag.LATEST_ONLY
    assert not is_patch(item.header)
    bases.choose(item)
    assert item.base_at
    assert item.firm
