"""What one process reads of its own writes, and when it has to ask the store."""

from __future__ import annotations

import errno
import time
from unittest import mock

import pytest

from livingai import CheckpointEngine, ExecutionNode, codecs
from livingai.engine import cache as cache_module
from livingai.errors import DiskFullError
from livingai.testing.rows import commit, make_row
from tests.support.journals import failing, records
from tests.support.place import Place

RUN = "run-1"


@pytest.mark.parametrize("hours", [0.9, 1.1])
def test_another_hosts_write_is_seen_once_the_own_one_is_old(
    state_dir: Place, hours: float
) -> None:
    """Another host marks nothing here; what this process wrote last is given for ``cache_ttl_s``,
    from its own journal, too."""
    theirs = make_row(
        RUN, 1, claim="another host", blob=b"\0theirs", content_hash=codecs.content_hash(b"theirs")
    )
    theirs.raw_bytes = len(b"theirs")
    with CheckpointEngine(state_dir.store(), cache_ttl_s=3600.0) as engine:
        engine.save_sync(ExecutionNode(RUN), b"own")
        engine.flush_sync(timeout=30)
        with state_dir.store() as store:
            commit(store, [theirs])
        clock = mock.Mock(
            wraps=time, monotonic_ns=lambda: time.monotonic_ns() + int(hours * 3600e9)
        )
        with mock.patch.object(cache_module, "time", clock):
            assert engine.latest_sync(RUN)[1] == (b"own" if hours < 1 else b"theirs")


def test_a_node_that_was_saved_again_without_its_state(state_dir: Place) -> None:
    """Its newest version is in the cache; its state is known to the store alone."""
    with CheckpointEngine(state_dir.store()) as engine:
        node = ExecutionNode(RUN)
        engine.save_sync(node, b"state")
        assert engine.load_sync(node.id)[1] == b"state"
        node.output = "done"
        engine.save_sync(node)
        found, state = engine.load_sync(node.id)
        assert (found.output, state) == ("done", b"state")


def test_a_save_that_failed_uses_no_number_up(state_dir: Place) -> None:
    """The first record of a claim has number 1, by which all others know that it takes over."""
    with CheckpointEngine(state_dir.store()) as engine:
        engine.save_sync(ExecutionNode("another"), b"state")
        for _ in range(2):
            with failing("pwritev", errno.ENOSPC, times=1), pytest.raises(DiskFullError):
                engine.save_sync(ExecutionNode(RUN), b"lost")
        for number in range(2):
            engine.save_sync(ExecutionNode(RUN), b"%d" % number)
        (journal,) = state_dir.directory.journal_paths()
        assert [found.header.seq for found in records(journal)] == [1, 1, 2]
        engine.flush_sync(timeout=30)
