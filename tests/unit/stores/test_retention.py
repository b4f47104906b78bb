"""What retention may drop: held against every rule at the top of stores/retention.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livingai.errors import ConfigurationError
from livingai.stores.base import StoredCheckpoint
from livingai.stores.retention import Retention, plan_drops, plan_node_drops

NOW = 1_000_000.0


@st.composite
def histories(draw: st.DrawFn) -> list[StoredCheckpoint]:
    """Checkpoints as a store holds them: contents repeat, deltas name a content that was there."""
    checkpoints: list[StoredCheckpoint] = []
    contents: list[bytes] = []
    for seq in range(1, draw(st.integers(1, 25)) + 1):
        content = bytes([draw(st.integers(0, 7))]) * 16
        named = bool(contents) and draw(st.booleans())
        base = draw(st.sampled_from(contents)) if named else None
        age = draw(st.floats(0, 100))
        contents.append(content)
        checkpoints.append(
            StoredCheckpoint(
                [], 1 + seq // 10, seq, b"", 1, f"n{seq}", base, content, 10, 10, NOW - age
            )
        )
    return checkpoints


policies = st.builds(
    Retention,
    keep_last=st.none() | st.integers(1, 10),
    max_age_s=st.none() | st.floats(1, 90),
    expire_s=st.just(1e9),
)


def answer(stored: list[StoredCheckpoint], content: bytes) -> StoredCheckpoint | None:
    """What ``blob_by_hash`` answers: a full one, else the oldest."""
    same = [c for c in stored if c.content_hash == content]
    return min(same, key=lambda c: (c.base_hash is not None, c.epoch, c.seq), default=None)


def readable(stored: list[StoredCheckpoint], checkpoint: StoredCheckpoint) -> bool:
    """Whether a chain of bases ends in a full checkpoint."""
    seen = set()
    while checkpoint.base_hash is not None:
        if (checkpoint.epoch, checkpoint.seq) in seen:
            return False
        seen.add((checkpoint.epoch, checkpoint.seq))
        found = answer(stored, checkpoint.base_hash)
        if found is None:
            return False
        checkpoint = found
    return True


@given(histories(), policies)
def test_what_stays_is_as_readable_as_before(
    stored: list[StoredCheckpoint], policy: Retention
) -> None:
    drops = set(plan_drops(stored, policy, NOW))
    left = [c for c in stored if (c.epoch, c.seq) not in drops]
    assert stored[-1] in left, "the newest checkpoint stays"
    for checkpoint in left:
        if readable(stored, checkpoint):
            assert readable(left, checkpoint)


@given(histories(), policies)
def test_keeps_what_the_policy_names_and_nothing_that_no_one_needs(
    stored: list[StoredCheckpoint], policy: Retention
) -> None:
    drops = set(plan_drops(stored, policy, NOW))
    needed = set()
    for rank, checkpoint in enumerate(reversed(stored)):
        old = policy.max_age_s is not None and NOW - checkpoint.saved_at > policy.max_age_s
        beyond = policy.keep_last is not None and rank >= policy.keep_last
        version = (checkpoint.epoch, checkpoint.seq)
        if rank == 0 or not (old or beyond):
            assert version not in drops
        elif version not in drops:
            needed.add(version)
    for version in needed:  # kept beyond the policy: some kept delta must name its content
        kept = next(c for c in stored if (c.epoch, c.seq) == version)
        left = [c for c in stored if (c.epoch, c.seq) not in drops]
        assert any(c.base_hash == kept.content_hash for c in left)


@given(histories(), policies)
def test_a_second_run_drops_nothing_more(stored: list[StoredCheckpoint], policy: Retention) -> None:
    drops = set(plan_drops(stored, policy, NOW))
    left = [c for c in stored if (c.epoch, c.seq) not in drops]
    again = plan_drops(left, policy, NOW)
    kept_by_chain = {(c.epoch, c.seq) for c in left}
    assert set(again) <= kept_by_chain
    assert stored[-1] in [c for c in left if (c.epoch, c.seq) not in set(again)]


@given(histories(), st.sets(st.integers(0, 5)), st.integers(2, 5), st.integers(0, 5))
def test_removed_nodes_take_nothing_that_is_needed(
    stored: list[StoredCheckpoint], asked: set[int], nodes: int, newest: int
) -> None:
    """A node has several checkpoints; it goes with all of them or with none."""
    stored = [replace(c, node_id=f"n{c.seq % nodes}") for c in stored]
    newest_node = f"n{newest % nodes}"
    wanted = {f"n{number}" for number in asked}
    going, drops = plan_node_drops(stored, wanted, newest_node)
    left = [c for c in stored if c.node_id not in going]
    assert set(going) <= wanted - {newest_node, stored[-1].node_id}
    assert going == sorted(going)
    assert drops == [(c.epoch, c.seq) for c in stored if c.node_id in going]
    assert [c for c in left if readable(stored, c) and not readable(left, c)] == []
    for kept in wanted - set(going) - {newest_node, stored[-1].node_id}:
        mine = {c.content_hash for c in stored if c.node_id == kept}
        needs = {c.base_hash for c in left if c.node_id != kept}
        assert not mine or mine & needs, f"nobody needs {kept}"


def history(*contents: tuple[str, str | None]) -> list[StoredCheckpoint]:
    """Checkpoints of (content, the content that it builds on), seq 1, 2, ..."""
    return [
        StoredCheckpoint(
            [], 1, seq, b"", 1, f"n{seq}", None if base is None else base.encode() * 16,
            content.encode() * 16, 10, 10, NOW,
        )
        for seq, (content, base) in enumerate(contents, 1)
    ]  # fmt: skip


#: An execution's checkpoints, and the numbers of those that are dropped to keep one.
CHAINS: list[tuple[list[tuple[str, str | None]], list[int]]] = [
    ([("a", None), ("b", "a"), ("c", "b"), ("d", "c")], []),
    ([("x", None), ("a", None), ("b", "a"), ("y", None), ("c", "b")], [1, 4]),
    # The base is the full one, though an older delta has the same content.
    ([("x", None), ("a", "x"), ("a", None), ("b", "a")], [1, 2]),
    # It is the oldest of the full ones, and of the deltas where there is no full one.
    ([("a", None), ("a", None), ("b", "a")], [2]),
    ([("x", None), ("a", "x"), ("a", "x"), ("b", "a")], [3]),
]


@pytest.mark.parametrize(("contents", "drops"), CHAINS)
def test_what_the_newest_builds_on(
    contents: list[tuple[str, str | None]], drops: list[int]
) -> None:
    dropped = plan_drops(history(*contents), Retention(keep_last=1), NOW)
    assert dropped == [(1, seq) for seq in drops]


@pytest.mark.parametrize(
    "policy",
    [
        Retention(),
        Retention(keep_last=0),
        Retention(max_age_s=0),
        Retention(expire_s=-1),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policy: Retention) -> None:
    with pytest.raises(ConfigurationError):
        policy.validate()


def test_a_node_that_has_to_stay_keeps_the_bases_of_all_that_it_has() -> None:
    """D needs a state of B; so B stays with its other state, too, and that needs A."""
    stored = history(("a", None), ("b", "a"), ("c", None), ("d", "c"))
    stored = [replace(c, node_id=name) for c, name in zip(stored, "ABBD", strict=True)]
    assert plan_node_drops(stored, {"A", "B"}, "D") == ([], [])
    assert plan_node_drops(stored[:2], {"A", "B"}, "D") == ([], []), "B has the newest state"
    unneeded = [*stored[:3], replace(stored[3], base_hash=None)]
    assert plan_node_drops(unneeded, {"A", "B"}, "D") == (["A", "B"], [(1, 1), (1, 2), (1, 3)])
