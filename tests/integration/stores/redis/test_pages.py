"""A page of executions is read from the sorted sets of ids, whatever else the server holds."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from livingai.stores.redis import RedisStore
from livingai.stores.redis.keys import BUCKETS
from livingai.testing import make_row
from tests.support.redis_servers import RedisServer

LIMIT = 10


@pytest.mark.parametrize(
    ("page", "first"),
    [
        ({}, "a-000"),
        ({"after": "a-299"}, "b-000"),
        ({"prefix": "b"}, "b-000"),
        ({"prefix": "b", "after": "b-200"}, "b-201"),
        ({"prefix": "b", "after": "a-100"}, "b-000"),
    ],
)
def test_a_page_costs_no_more_than_its_lines(
    store: RedisStore, server: RedisServer, page: dict[str, Any], first: str
) -> None:
    store.commit([make_row(f"{letter}-{n:03}") for letter in "abc" for n in range(300)])
    with redis.Redis.from_url(server.url) as admin:
        admin.config_resetstat()
        found = store.list_executions(limit=LIMIT, **page)
        stats: dict[str, Any] = admin.info("commandstats")
    assert (found[0].execution_id, len(found)) == (first, LIMIT)
    calls = {name.removeprefix("cmdstat_"): line["calls"] for name, line in stats.items()}
    calls = {name: n for name, n in calls.items() if name.split("|")[0] not in ("config", "info")}
    assert calls.keys() <= {"zrangebylex", "hmget", "client", "hello", "ping"}, calls
    assert BUCKETS <= calls["zrangebylex"] <= 2 * BUCKETS, "pages of ids, not all ids"
    assert LIMIT <= calls["hmget"] <= 3 * LIMIT, "lines of the page, not of all executions"
