"""Copying between stores: what is copied, gone on with, brought up to date, and refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livingai import codecs
from livingai.errors import ConfigurationError, CopyConflictError, CorruptRecordError, StoreError
from livingai.stores import copying
from livingai.stores.base import Row, Store
from livingai.stores.copying import copy_execution, copy_store
from livingai.stores.opening import open_store
from livingai.stores.postgres import PostgresStore
from livingai.stores.redis import RedisStore
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit, make_row, state
from livingai.testing.rows import contents as all_of
from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import prefix_for, shared_server

KINDS = [
    "sqlite",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("postgres", marks=pytest.mark.postgres),
]


def make_store(kind: str, folder: Path, name: str) -> Store:
    if kind == "redis":
        return RedisStore(shared_server().url, prefix=prefix_for(folder / name))
    if kind == "postgres":
        schema = f"copy{abs(hash((str(folder), name))):x}"
        return PostgresStore(shared_url(), schema=schema)
    return SQLiteStore(folder / f"{name}.db", synchronous="normal")


@pytest.fixture(params=KINDS)
def source(request: Any, tmp_path: Path) -> Iterator[Store]:
    with make_store(request.param, tmp_path, "source") as store:
        yield store


@pytest.fixture(params=KINDS)
def target(request: Any, tmp_path: Path) -> Iterator[Store]:
    with make_store(request.param, tmp_path, "target") as store:
        yield store


def contents(store: Store) -> dict[str, Any]:
    """All that it has, but for times of writes that had no state: nobody keeps those."""
    told = all_of(store)
    told["list"] = {name: (*line[:5], line[7]) for name, line in told["list"].items()}
    return told


def encoded(seq: int, raw: bytes, base: bytes | None = None, **fields: Any) -> Row:
    """A row with a state as the service encodes it."""
    made = codecs.encode(raw, base=base)
    row = make_row(seq=seq, blob=made.blob, base_hash=made.base_hash,
                   content_hash=codecs.content_hash(raw), **fields)  # fmt: skip
    row.raw_bytes = len(raw)
    return row


def chat(seq: int) -> bytes:
    return b"".join(b"message %d of a chat that grows and grows\n" % n for n in range(60 * seq))


def history(*, claim: str = "mine", until: int = 6) -> list[Row]:
    """A run with deltas, a tool in two versions, a node without a state, and two owners."""
    rows = [
        encoded(1, chat(1), claim=claim),
        encoded(2, chat(2), chat(1), claim=claim),
        make_row(seq=3, node_id="tool", claim=claim, input="ask"),
        make_row(seq=4, node_id="tool", claim=claim, input="ask", output="answer"),
        encoded(1, chat(3), claim=f"{claim}-2", node_id="later"),
        encoded(2, chat(4), chat(3), claim=f"{claim}-2"),
    ]
    rows[5].node_id = rows[5].wire[1] = "last"
    return rows[:until]


# --- what may be copied --------------------------------------------------------------------------


@pytest.mark.parametrize("there", range(7))
def test_an_earlier_state_of_the_same_run_is_gone_on_with(
    source: Store, target: Store, there: int
) -> None:
    """Nothing, a part (as a copy that was cut short leaves it), and all; then once more."""
    commit(source, [*history(), *(make_row("other", seq, blob=state("o")) for seq in range(3))])
    commit(target, history(until=there))
    copied = copy_store(source, target)
    assert (copied.executions, copied.nodes, copied.checkpoints) == (2, 8, 7)
    assert contents(target) == contents(source)
    assert copy_store(source, target) == copied
    assert contents(target) == contents(source)


def test_an_older_copy_is_brought_up_to_date(source: Store, target: Store) -> None:
    for until in range(1, 7):
        commit(source, history(until=until)[until - 1 :])
        copy_store(source, target)
        assert contents(target) == contents(source)


def test_what_retention_drops_is_no_difference(source: Store, target: Store) -> None:
    """On either side: the target keeps what it has, and is not filled again behind its back."""
    commit(source, history())
    copy_store(source, target)
    source.drop_checkpoints("run", [(1, 2)])
    target.drop_checkpoints("run", [(1, 1), (1, 2)])
    copied = copy_store(source, target)
    assert (copied.checkpoints, copied.left_out) == (2, 1)
    assert [(c.epoch, c.seq) for c in target.checkpoints("run")] == [(2, 1), (2, 2)]
    commit(source, [make_row(seq=3, claim="mine-2", blob=state("new"))])
    assert copy_store(source, target).left_out == 1
    assert target.latest_checkpoint("run") == source.latest_checkpoint("run")


def test_a_state_encoded_otherwise_is_the_same(tmp_path: Path) -> None:
    raw = chat(3)
    ways = {"zstd": 1, "zlib": 6, "raw": 1}
    rows = []
    for codec, level in ways.items():
        row = make_row(seq=1, claim="c", blob=codecs.encode(raw, codec=codec, level=level).blob)
        row.raw_bytes, row.content_hash = len(raw), codecs.content_hash(raw)
        rows.append(row)
    for number, row in enumerate(rows):
        with (
            SQLiteStore(tmp_path / f"a{number}.db") as source,
            SQLiteStore(tmp_path / f"b{number}.db") as target,
        ):
            commit(source, [row])
            commit(target, [rows[number - 1]])
            assert copy_store(source, target).checkpoints == 1


# --- what is refused -----------------------------------------------------------------------------

Deed = Callable[[Store], None]


def _other_claim(store: Store) -> None:
    commit(store, history(claim="theirs"))


def _other_state(store: Store) -> None:
    rows = history(until=2)
    rows[1] = encoded(2, chat(2)[:-1] + b"!", claim="mine")
    commit(store, rows)


def _other_first_state(store: Store) -> None:
    commit(store, [make_row(seq=1, claim="mine", blob=state("something else"))])


def _other_node(store: Store) -> None:
    rows = history()
    rows[3].wire[10] = "another answer"
    commit(store, rows)


def _other_place(store: Store) -> None:
    commit(store, [*history(until=2), make_row(seq=3, node_id="not the tool", claim="mine")])


def _more(store: Store) -> None:
    commit(store, [*history(), make_row(seq=3, claim="mine-2")])


def _newer_version(store: Store) -> None:
    rows = history()
    commit(store, [*rows, make_row(seq=9, node_id="last", claim="mine-2", output="more")])


def _other_owner_later(store: Store) -> None:
    commit(store, [*history(), make_row(seq=1, node_id="x", claim="theirs")])


def _taken_over_early(store: Store) -> None:
    commit(store, history(until=3))
    store.claim("run", "theirs")


def _deleted(store: Store) -> None:
    commit(store, history())
    store.delete_execution("run")


def _state_more(store: Store) -> None:
    rows = history(until=3)
    commit(store, [*rows, make_row(seq=4, node_id="tool", claim="mine", output="answer",
                                   input="ask", blob=state("a state"))])  # fmt: skip


REFUSED: list[tuple[Deed, str]] = [
    (_other_claim, "epoch 1 belongs to theirs there and to mine in the source"),
    (_other_state, "the state of write 1.2"),
    (_other_first_state, "the state of write 1.1"),
    (_other_node, "node tool (1.4) has another content"),
    (_other_place, "node not the tool is only there"),
    (_more, "node run/3 is only there"),
    (_newer_version, "node last is newer there"),
    (_other_owner_later, "epoch 3 belongs to theirs, whom the source has not"),
    (_taken_over_early, "epoch 2 belongs to theirs there and to mine-2 in the source"),
    (_deleted, "it was deleted there (epoch 3)"),
    (_state_more, "write 1.4 (node tool) is only there"),
]


@pytest.mark.parametrize(("deed", "says"), REFUSED)
def test_another_run_is_refused_before_anything_is_written(
    source: Store, target: Store, deed: Deed, says: str
) -> None:
    commit(source, [*history(), make_row("a", 1, blob=state("a")), make_row("z", 1)])
    deed(target)
    before, owners = contents(target), target.owners("run")
    copies: list[Callable[[], Any]] = [
        lambda: copy_store(source, target),
        lambda: copy_execution(source, target, "run"),
    ]
    for copy in copies:
        with pytest.raises(CopyConflictError) as refused:
            copy()
        assert says in str(refused.value)
        assert "run: " in str(refused.value)
        assert contents(target) == before
        assert target.owners("run") == owners
    assert copy_store(source, target, prefix="a").executions == 1


def test_many_conflicts_are_counted(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "a.db") as source, SQLiteStore(tmp_path / "b.db") as target:
        for store in (source, target):
            commit(store, [make_row(f"run-{n}", claim=str(store)) for n in range(7)])
        with pytest.raises(CopyConflictError, match=r"run-4: .* and 2 more"):
            copy_store(source, target)


def test_a_target_that_loses_what_it_was_given_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last check reads the target; it does not add up what was sent."""
    real = SQLiteStore.commit

    def lose(store: SQLiteStore, rows: Any) -> Any:
        results = real(store, rows)
        store.drop_checkpoints("run", [(2, 1)])
        return results

    def forge(store: SQLiteStore, rows: Any) -> Any:
        for row in rows:
            if row.node_id == "tool":
                row.wire = [*row.wire[:10], "forged", *row.wire[11:]]
        return real(store, rows)

    for number, wrong in enumerate((lose, forge)):
        with (
            SQLiteStore(tmp_path / f"a{number}.db") as source,
            SQLiteStore(tmp_path / f"b{number}.db") as target,
        ):
            commit(source, history())
            with monkeypatch.context() as patch:
                patch.setattr(SQLiteStore, "commit", wrong)
                with pytest.raises(CorruptRecordError, match="is not what was copied"):
                    copy_store(source, target)


class _CutError(StoreError):
    """The end of a copy."""


def test_a_copy_cut_short_at_any_batch_goes_on(
    source: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(source, history())
    monkeypatch.setattr(copying, "_BATCH_ROWS", 1)
    real = copying._commit
    for batches in range(1, 8):
        left = batches

        def cut(store: Store, rows: list[Row]) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise _CutError("the network is gone")
            real(store, rows)

        monkeypatch.setattr(copying, "_commit", cut)
        with suppress(_CutError):
            copy_store(source, target)
    monkeypatch.setattr(copying, "_commit", real)
    copy_store(source, target)
    assert contents(target) == contents(source)


# --- one store under two names -------------------------------------------------------------------


def test_one_file_under_two_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "linked")
    store = SQLiteStore(tmp_path / "real" / "a.db")
    commit(store, history())
    os.symlink("a.db", tmp_path / "real" / "symlink.db")
    os.link(tmp_path / "real" / "a.db", tmp_path / "real" / "hardlink.db")
    names = [
        f"{tmp_path}/real/a.db", f"{tmp_path}/linked/a.db", f"{tmp_path}/real/../linked/a.db",
        f"{tmp_path}/real/symlink.db", f"{tmp_path}/real/hardlink.db",
        f"sqlite:///{tmp_path}/real/a.db", f"tiered:{tmp_path}/hot.db|{tmp_path}/linked/a.db",
        f"tiered:{tmp_path}/linked/a.db|{tmp_path}/cold.db",
    ]  # fmt: skip
    store.close()
    for name in names:
        with store, open_store(name) as other:
            for pair in ((store, other), (other, store)):
                with pytest.raises(ConfigurationError, match="are the same store"):
                    copy_store(*pair)


@pytest.mark.redis
def test_one_redis_under_two_names(tmp_path: Path) -> None:
    server, prefix = shared_server(), prefix_for(tmp_path)
    port = server.url.rpartition(":")[2].partition("/")[0]
    names = [f"redis://{host}:{port}/0" for host in ("127.0.0.1", "localhost", "127.1")]
    names.append(f"unix://{server.socket}?db=0")
    with RedisStore(server.url, prefix=prefix) as store:
        commit(store, history())
        for name in names:
            same = RedisStore(name, prefix=prefix)
            with same, pytest.raises(ConfigurationError, match="are the same store"):
                copy_store(store, same)
            with RedisStore(name, prefix=f"{prefix}-other") as other:
                assert copy_store(store, other).executions == 1
        with RedisStore(f"redis://localhost:{port}/2", prefix=prefix) as other:
            assert copy_store(store, other).executions == 1


@pytest.mark.postgres
def test_one_postgres_under_two_names(tmp_path: Path) -> None:
    from tests.support.postgres_servers import shared_server as postgres_server

    server = postgres_server()
    with ExitStack() as stack:
        schema = f"same{abs(hash(str(tmp_path))):x}"
        one, other = (
            stack.enter_context(PostgresStore(url, schema=schema))
            for url in (server.url(), server.tcp_url())
        )
        with pytest.raises(ConfigurationError, match="are the same store"):
            copy_store(one, other)
        third = stack.enter_context(PostgresStore(server.url(), schema=f"{schema}b"))
        commit(one, history())
        assert copy_store(other, third).executions == 1


# --- any two histories ---------------------------------------------------------------------------

_writes = st.lists(
    st.tuples(
        st.sampled_from("abc"),  # node
        st.sampled_from(["", "x", "y"]),  # its output
        st.sampled_from([None, b"\0one", b"\0two"]),  # blob
        st.booleans(),  # somebody takes over before it
    ),
    max_size=6,
)


def _rows_of(writes: list[Any], fork: int, claim: str) -> list[Row]:
    rows = []
    owner = 0
    for seq, (node, output, blob, taken) in enumerate(writes):
        owner += taken
        name = f"common-{owner}" if seq < fork else f"{claim}-{owner}"
        rows.append(make_row(seq=seq, node_id=node, claim=name, output=output, blob=blob))
    return rows


@settings(max_examples=150)
@given(ours=_writes, theirs=_writes, fork=st.integers(0, 6), same_claims=st.booleans())
def test_a_copy_is_whole_or_not_at_all(
    ours: list[Any], theirs: list[Any], fork: int, same_claims: bool
) -> None:
    """Two histories that part at ``fork``. Afterwards the target has either exactly what the source
    has, or exactly what it had; and a prefix is never refused."""
    fork = min(fork, len(ours))
    theirs = ours[:fork] + theirs
    mine = _rows_of(ours, fork, "mine")
    yours = _rows_of(theirs, fork, "mine" if same_claims else "yours")
    with TemporaryDirectory(dir="/dev/shm") as folder, ExitStack() as stack:
        source, target = (
            stack.enter_context(make_store("sqlite", Path(folder), name)) for name in "st"
        )
        commit(source, mine)
        commit(target, yours)
        before = contents(target)
        try:
            copy_store(source, target)
        except CopyConflictError:
            assert yours != mine[: len(yours)], "an earlier state of the same run"
            assert contents(target) == before
        else:
            if mine:
                after, expected = contents(target), contents(source)
                # Owners of whose writes nothing is left are nobody's concern in another store.
                assert set(after.pop("owners run")) <= set(expected.pop("owners run"))
                assert after == expected or _dropped(after, expected)


def _dropped(after: dict[str, Any], source: dict[str, Any]) -> bool:
    """Whether all that differs are states between, as if the source had dropped them."""
    return after["nodes run"] == source["nodes run"] and set(source["checkpoints run"]) <= set(
        after["checkpoints run"]
    )
