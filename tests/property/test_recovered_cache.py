"""What a dead owner has written and not published gets into the hot cache by the service's own code
(:class:`livingai.workers.dispatcher.feed.Feed`), and never takes it back in time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from random import Random
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from livingai import serial
from livingai.engine.cache import Ask, HotCache
from livingai.node import ExecutionNode
from livingai.queue.directory import StateDirectory
from livingai.queue.index import Index
from livingai.queue.journal import Journal
from livingai.queue.layout import Flag, StateKind
from livingai.queue.record import execution_hash
from livingai.workers.dispatcher.feed import Feed
from tests.support.journals import LIMITS, MET, Writer, scratch_folder, state_directory

RUN = "run-1"


@contextmanager
def dying(writer: Writer, *, indexed: bool = False) -> Iterator[None]:
    """The writer dies in the block's append, behind the write of the record."""
    where = type(writer.journal._control) if indexed else Index
    name = "publish" if indexed else "put_node"
    fail = mock.patch.object(where, name, side_effect=ZeroDivisionError)
    with fail, suppress(ZeroDivisionError):
        yield
    writer.die()


def queue_again(journal: Journal, claim: int, seq: int) -> None:
    """Append an older write once more, as ``livingai requeue`` and a failed fdatasync do."""
    node = ExecutionNode(RUN, id="node", output=f"again {seq}")
    journal.append(
        key=execution_hash(RUN), slot=-1, node_key=0, claim=claim, epoch=0, seq=seq,
        flags=Flag.STATE, state_kind=StateKind.BYTES, node=serial.pack(node.to_wire()), ext=b"",
        state=b"again %d" % seq, budget_us=1,
    )  # fmt: skip


def serve(directory: str, *, remove: bool = False) -> None:
    """The service finds a journal's owner dead, stores all and, perhaps, removes the journal."""
    feed = Feed(directory)
    feed.check_owner()
    assert not feed.alive
    feed.read_ahead()
    while feed.ahead:
        feed.settle(feed.next(), MET, 1)
    feed.advance()
    assert feed.finished
    feed.close(remove=remove)


@contextmanager
def place() -> Iterator[tuple[StateDirectory, HotCache, Callable[[], Writer]]]:
    """A state directory, a reader of its cache, and writers that end with the block."""
    folder = scratch_folder()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        directory = state_directory(folder / "state")
        cache = stack.enter_context(closing(HotCache(directory, ttl_s=3600.0)))

        def writer() -> Writer:
            made = Writer(directory, LIMITS)
            stack.callback(made.die)
            return made

        yield directory, cache, writer


@given(seed=st.integers(0, 2**32), indexed=st.booleans())
def test_second_version_of_a_node(seed: int, indexed: bool) -> None:
    """The service stores it, so neither ``load`` nor ``latest`` may return the one before."""
    random = Random(seed)
    with place() as (_, cache, new_writer):
        writer = new_writer()
        nodes = [f"node-{i}" for i in range(random.randrange(1, 4))]
        count = random.randrange(1, 8)
        for number in range(count):
            writer.save(RUN, b"%d" % number, node_id=random.choice(nodes), output=number)
        node = random.choice(nodes)
        with dying(writer, indexed=indexed):
            writer.save(RUN, b"%d" % count, node_id=node, output=count)
        serve(writer.journal.directory)
        latest = cache.latest(RUN)
        assert not isinstance(latest, Ask)
        assert (latest.node.output, latest.state) == (count, b"%d" % count)
        loaded = cache.node(node)
        assert isinstance(loaded, Ask) or loaded.node.output == count


@given(seed=st.integers(0, 2**32), own=st.booleans(), removed=st.booleans())
def test_older_write_that_is_queued_again(seed: int, own: bool, removed: bool) -> None:
    """In the owner's journal or another one; the owner's may be stored and removed by then."""
    random = Random(seed)
    with place() as (_, cache, new_writer):
        owner = new_writer()
        for number in range(5):
            owner.save(RUN, b"%d" % number, node_id="node", output=number)
        claim = owner.places[RUN].claim
        writer = owner if own else new_writer()
        if not own and random.random() < 0.5:
            writer.save("run-2", b"its own")
        with dying(writer, indexed=True):
            queue_again(writer.journal, claim, random.randrange(1, 5))
        if removed and not own:
            owner.die()
            serve(owner.journal.directory, remove=True)
        serve(writer.journal.directory)
        latest = cache.latest(RUN)
        if removed and not own:
            assert isinstance(latest, Ask), "nobody knows it here any more"
        else:
            assert not isinstance(latest, Ask)
            assert latest.state == b"4"
        loaded = cache.node("node")
        assert isinstance(loaded, Ask) or loaded.node.output == 4
