"""Conformance: what two connections do at the same time, and what a process leaves that is killed
in the midst of a commit (rules 2, 4 and 6). Part of :class:`~livingai.testing.StoreConformance`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from livingai.errors import FencedError, StoreUnavailableError
from livingai.node import NodeField
from livingai.stores.base import Row, RowResult, Store, StoreSpec
from livingai.stores.retention import Retention, prune
from livingai.testing.rows import FENCED, STORED, commit, contents, make_row, state

#: A store that is in another one's way says so, and is asked again for so long.
_PATIENCE_S = 60.0


class RacingTests:
    """Two connections, each in a thread of its own, and a process that is killed."""

    def make_store(self, tmp_path: Path) -> Store:
        """See :class:`~livingai.testing.StoreConformance`."""
        raise NotImplementedError

    @pytest.fixture
    def other(self, store: Store, tmp_path: Path) -> Iterator[Store]:
        """Another connection to the store."""
        with self.make_store(tmp_path) as other:
            yield other

    def test_racing_claims_get_epochs_of_their_own(self, store: Store, other: Store) -> None:
        def claims(which: Store, name: str) -> list[tuple[int, str]]:
            tokens = [f"{name}-{number}" for number in range(12)]
            return [(patiently(lambda t=t: which.claim("run", t)), t) for t in tokens]  # type: ignore[misc]

        given = sorted(at_once(lambda: claims(store, "a"), lambda: claims(other, "b")))
        assert [epoch for epoch, _ in given] == list(range(1, 25))
        *overtaken, (_, newest) = given
        for _, token in overtaken:
            with pytest.raises(FencedError):
                store.claim("run", token)
        rows = [make_row(seq=0, claim=token) for _, token in given]
        assert [r.status for r in taken(other, rows)] == [FENCED] * 23 + [STORED]
        assert commit(store, [make_row(seq=1, claim=newest)]) == [24]

    def test_racing_commits_of_one_batch_store_it_once(self, store: Store, other: Store) -> None:
        """As when the answer to a batch was lost, and it is sent again while it is still worked
        on."""
        batches = [
            [make_row(f"run-{n}", seq, blob=state(f"{n} {seq}")) for n in range(4)]
            for seq in range(12)
        ]

        def commits(which: Store) -> set[int]:
            return {r.status for batch in batches for r in taken(which, batch)}

        assert at_once(lambda: list(commits(store)), lambda: list(commits(other))) == [STORED] * 2
        found = contents(store)
        assert contents(other) == found
        for n in range(4):
            assert [node.seq for node in store.nodes(f"run-{n}")] == list(range(12))
            assert found["list"][f"run-{n}"][:4] == (1, 11, 12, 12)

    def test_racing_owners_do_not_mix(self, store: Store, other: Store) -> None:
        """From the first row of the newer claim on, none of the older one is stored."""
        commit(store, [make_row(seq=0, claim="old", blob=state("old 0"))])
        begun = threading.Event()

        def writes(which: Store, claim: str, first: int) -> list[tuple[str, int, int]]:
            if claim == "new":
                begun.wait(_PATIENCE_S)
            told = []
            for seq in range(first, 30):
                (result,) = taken(which, [make_row(
                    seq=seq, node_id=f"{claim}/{seq}", claim=claim, blob=state(f"{claim} {seq}"),
                )])  # fmt: skip
                told.append((claim, seq, int(result.status)))
                if seq == 5:
                    begun.set()
            return told

        told = at_once(lambda: writes(store, "old", 1), lambda: writes(other, "new", 0))
        for claim, expected in (("old", [STORED, FENCED]), ("new", [STORED])):
            seen = [status for who, _, status in told if who == claim]
            assert seen == sorted(seen, key=expected.index), f"{claim}: {seen}"
        stored = {f"{who}/{seq}" for who, seq, status in told if status == STORED} | {"run/0"}
        assert {node.wire[NodeField.ID] for node in store.nodes("run")} == stored
        versions = [(c.epoch, c.seq) for c in store.checkpoints("run", blobs=False)]
        assert versions == sorted(versions)
        latest = other.latest_checkpoint("run")
        assert latest is not None
        assert latest.blob == state("new 29")

    def test_pruning_under_writes_takes_nothing_that_is_needed(
        self, store: Store, other: Store
    ) -> None:
        """Deltas on the state before, and a policy that keeps the last two."""
        hashes = [b"%16d" % seq for seq in range(40)]
        done = threading.Event()

        def writes() -> list[int]:
            told = []
            for seq in range(40):
                base = hashes[seq - 1] if seq % 8 else None
                row = make_row(
                    seq=seq, blob=state(f"{seq}"), content_hash=hashes[seq], base_hash=base
                )
                told += [int(r.status) for r in taken(store, [row])]
            done.set()
            return told

        def prunes() -> list[int]:
            while True:
                last = done.is_set()
                patiently(lambda: prune(other, Retention(keep_last=2)))
                if last:
                    return []

        assert at_once(writes, prunes) == [STORED] * 40
        left = list(store.checkpoints("run", blobs=False))
        assert [c.seq for c in left] == list(range(32, 40)), "39 builds on all of these"
        assert [node.seq for node in store.nodes("run")] == list(range(40))
        for c in left:
            needed = c.base_hash
            assert needed is None or store.blob_by_hash("run", needed) is not None

    @pytest.mark.parametrize("after", [1, 4, 11])
    def test_killed_in_the_midst_of_a_commit(self, store: Store, after: int) -> None:
        """What it was told is stored is there; the batch that was under way can be sent again."""
        spec = store.spec()
        command = [
            sys.executable,
            "-m",
            "livingai.testing.racing",
            spec.path,
            json.dumps(spec.kwargs),
        ]
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
        ) as child:
            assert child.stdout is not None
            try:
                for _ in range(after):
                    assert child.stdout.readline(), "it ended by itself"
            finally:
                child.kill()
            told = after + len(child.stdout.read().splitlines())
        for name in "ab":
            found = [node.seq for node in store.nodes(name)]
            assert found[: told * _ROWS] == list(range(told * _ROWS)), "lost"
        batches = [batch(number) for number in range(told + 2)]
        for rows in batches:
            assert {r.status for r in taken(store, rows)} == {STORED}
        for name in "ab":
            assert [node.seq for node in store.nodes(name)] == list(range((told + 2) * _ROWS))
            line = contents(store)["list"][name]
            assert line[:4] == (1, (told + 2) * _ROWS - 1, *[(told + 2) * _ROWS] * 2)


def at_once(*works: Callable[[], Sequence[Any]]) -> list[Any]:
    """What they return, one after the other; they begin together, each in its thread."""
    start = threading.Barrier(len(works))

    def begin(work: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        start.wait(_PATIENCE_S)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [one for found in pool.map(begin, works) for one in found]


def patiently(work: Callable[[], Any]) -> Any:
    """The result of ``work``, once the store does it: another connection may be in its way."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return work()
        except StoreUnavailableError:
            if time.monotonic() > deadline:
                raise


def taken(store: Store, rows: Sequence[Row]) -> list[RowResult]:
    """The answers to a batch, as :func:`patiently`."""
    found: list[RowResult] = patiently(lambda: store.commit(rows))
    return found


#: Rows of each execution in a batch of the process that is killed.
_ROWS = 6


def batch(number: int) -> list[Row]:
    """The batch of that number, of two executions."""
    seqs = range(number * _ROWS, (number + 1) * _ROWS)
    return [make_row(name, seq, blob=state(f"{name} {seq}" * 500)) for name in "ab" for seq in seqs]


def main() -> None:
    """Commit batch after batch to the store of a spec, with a line for each, until killed."""
    with StoreSpec(sys.argv[1], json.loads(sys.argv[2])).build() as store:
        for number in count():
            assert {r.status for r in taken(store, batch(number))} == {STORED}
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
