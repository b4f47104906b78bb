"""A dry run says exactly what the real one then removes, and changes nothing; on every store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livingai.stores.base import Store
from livingai.stores.postgres import PostgresStore
from livingai.stores.redis import RedisStore
from livingai.stores.retention import Dropped, Retention, prune
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.tiered import TieredStore
from livingai.testing.rows import EPOCH_S, commit, contents, make_row, state
from livingai.workers.store.housekeeper import HousekeeperRole
from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import prefix_for, shared_server


@pytest.fixture(
    params=["sqlite", "tiered", pytest.param("redis", marks=pytest.mark.redis),
            pytest.param("postgres", marks=pytest.mark.postgres)]
)  # fmt: skip
def store(request: Any, tmp_path: Path) -> Iterator[Store]:
    cold = SQLiteStore(tmp_path / "a.db", synchronous="normal")
    made: Store = cold
    if request.param == "tiered":
        made = TieredStore(SQLiteStore(tmp_path / "hot.db"), cold)
    elif request.param == "redis":
        made = RedisStore(shared_server().url, prefix=prefix_for(tmp_path))
    elif request.param == "postgres":
        made = PostgresStore(shared_url(), schema=f"dry{abs(hash(str(tmp_path))):x}")
    with made:
        for run, days in (("old", 0), ("run", 30), ("young", 40)):
            rows = [make_row(run, seq, blob=state(f"{run} {seq}")) for seq in range(4)]
            for row in rows:
                row.saved_at += days * 86_400
            commit(made, rows)
        yield made


@pytest.mark.parametrize(
    "policy",
    [
        Retention(keep_last=2),
        Retention(max_age_s=15 * 86_400),
        Retention(keep_last=3, expire_s=20 * 86_400),
        Retention(expire_s=1, prefix="y"),
        Retention(keep_last=1, statuses=("failed",)),
    ],
)
def test_prune(store: Store, policy: Retention) -> None:
    now = EPOCH_S + 41 * 86_400
    before = contents(store)
    told = prune(store, policy, now=now, dry_run=True)
    assert contents(store) == before
    done = prune(store, policy, now=now)
    assert (told.executions, told.checkpoints, told.blob_bytes) == (
        done.executions, done.checkpoints, done.blob_bytes,
    )  # fmt: skip
    assert done.dropped == ()
    after = contents(store)
    for dropped in told.dropped:
        left = after.get(f"checkpoints {dropped.execution_id}", [])
        had = before[f"checkpoints {dropped.execution_id}"]
        gone = {found[1:3] for found in had} - {found[1:3] for found in left}
        assert len(gone) == dropped.checkpoints
        assert dropped.whole == (dropped.execution_id not in after["list"])
        assert dropped.whole or gone == set(dropped.versions)
    untouched = set(before["list"]) - {dropped.execution_id for dropped in told.dropped}
    for name in untouched:
        assert after[f"checkpoints {name}"] == before[f"checkpoints {name}"]


def test_what_a_dry_run_lists(store: Store) -> None:
    told = prune(store, Retention(keep_last=3, expire_s=20 * 86_400), dry_run=True,
                 now=EPOCH_S + 41 * 86_400)  # fmt: skip
    assert told.dropped[0] == Dropped("old", True, (), 4, 4 * len(state("old 1")))
    assert told.dropped[1] == Dropped("run", False, ((1, 0),), 1, len(state("run 0")))


def test_delete(store: Store) -> None:
    keeper = HousekeeperRole(store)
    before = contents(store)
    assert keeper.do_delete("run", True) == 4
    assert keeper.do_delete("not there", True) == 0
    assert contents(store) == before
    assert keeper.do_delete("run") == 4
    assert keeper.do_delete("run", True) == 0
