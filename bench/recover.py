"""After every process was killed: what a new process can still read."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

from livingai.codecs import content_hash
from livingai.engine.cache import HotCache
from livingai.protocol.sections import Cached
from livingai.queue.directory import StateDirectory
from livingai.stores.base import StoreSpec
from livingai.workers.store.reader import ReaderRole

Saved = dict[str, bytes]  # execution id: content hash of its last state


def from_cache(store: StoreSpec, directory: str, saved: Saved) -> int:
    """How many executions' last states the hot cache has, with no service running."""
    cache = HotCache(StateDirectory(directory), ttl_s=3600)
    right = 0
    for execution_id, expected in saved.items():
        hit = cache.latest(execution_id)
        right += isinstance(hit, Cached) and content_hash(hit.state) == expected
    cache.close()
    return right


def from_store(store: StoreSpec, directory: str, saved: Saved) -> int:
    """How many executions' last states the database has, read without journals."""
    worker = ReaderRole(store.build())
    right = 0
    for execution_id, expected in saved.items():
        _, _, raw = worker.do_latest(execution_id)
        right += raw is not None and content_hash(raw) == expected
    worker.close()
    return right


def _child(what: str, store: StoreSpec, directory: str, saved: Saved, pipe: Connection) -> None:
    pipe.send((from_cache if what == "cache" else from_store)(store, directory, saved))


def in_new_process(what: str, store: StoreSpec, directory: str, saved: Saved) -> int:
    """Run :func:`from_cache` or :func:`from_store` in a fresh process; how many were right."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(what, store, directory, saved, theirs))
    process.start()
    theirs.close()
    try:
        answer: int = ours.recv()
    except EOFError:
        answer = 0
    process.join()
    return answer
