"""URLs of servers: nothing secret is shown, one place has one name."""

import pickle

import pytest

from livingai.errors import ConfigurationError
from livingai.stores.postgres import PostgresStore
from livingai.stores.shared.urls import redacted, state_directory

SECRETS = [
    ("postgresql://bob:s3cret@Db.example:5433/agents", "postgresql://db.example:5433/agents"),
    ("postgresql://bob@db/agents?password=s3cret&host=/run/pg", "postgresql://db/agents?host=/run/pg"),
    ("postgresql://bob:s3%40%2Fcret@h1:1,h2:2/db?sslmode=require", "postgresql://h1:1,h2:2/db"),
    ("postgresql:///db?host=/tmp&port=5499", "postgresql:///db?host=/tmp&port=5499"),
    ("redis://:s3cret@cache:6379/0?new_parameter=s3cret", "redis://cache:6379/0"),
    ("redis+cluster://bob:s3cret@a:1,b:2", "redis+cluster://a:1,b:2"),
    ("rediss://bob:s3:cret@a", "rediss://a"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "shown"), SECRETS)
def test_urls_are_shown_without_passwords(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert "cret" not in redacted(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:s3/cret@db/agents",
        "postgresql://bob:s3?cret@db/agents",
        "postgresql://bob:s3#cret@db/agents",
        "postgresql://db/agents?password=s3@cret",
        "no url with s3cret",
        "://bob:s3cret@db",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        redacted(url)
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(ConfigurationError) as caught:
        PostgresStore(url)
    assert "cret" not in str(caught.value)


def test_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    one = state_directory("postgresql", "postgresql://db.example/agents")
    assert one.startswith("/var/state/livingai/postgresql-db.example-agents-")
    assert one != state_directory("postgresql", "postgresql://db.example-agents/")
    assert one == state_directory("postgresql", "postgresql://db.example/agents")
    monkeypatch.setenv("XDG_STATE_HOME", "relative: to be ignored")
    monkeypatch.setenv("HOME", "/home/bob")
    assert state_directory("redis", "redis://a/0").startswith(
        "/home/bob/.local/state/livingai/redis-a-0-"
    )
    long = state_directory("redis", "redis://" + "x" * 5000)
    assert len(long.rpartition("/")[2]) < 80


def test_postgres_store_shows_no_credentials() -> None:
    store = PostgresStore(
        "postgresql://bob:s3cret%21@db.example/agents?schema=team&sslmode=require"
    )
    assert store.url == "postgresql://db.example/agents?schema=team"
    for text in (repr(store), store.url, store.default_directory(), str(store.capabilities)):
        assert "cret" not in text
        assert "bob" not in text
    other = PostgresStore("postgres://eve:other@DB.example:5432/agents", schema="team")
    assert (other.url, other.default_directory()) == (store.url, store.default_directory())
    copy = store.spec().build()
    assert (copy.url, copy.spec()) == (store.url, store.spec())


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema": 'x"; DROP'},
        {"schema": "x" * 64},
        {"connect_timeout_s": 0},
        {"statement_timeout_ms": 0},
        {"synchronous_commit": "maybe"},
    ],
)
def test_settings_that_cannot_work(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PostgresStore("postgresql://bob:s3cret@db/agents", **wrong)  # type: ignore[arg-type]
    assert "cret" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
