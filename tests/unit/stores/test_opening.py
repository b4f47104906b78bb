"""Stores by URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from livingai.errors import ConfigurationError
from livingai.stores.opening import open_store
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.tiered import TieredStore


def test_sqlite_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("agent.db", "sqlite:///agent.db", f"sqlite:///{tmp_path}/agent.db"):
        store = open_store(url)
        assert isinstance(store, SQLiteStore)
        assert store.url == f"sqlite:///{tmp_path}/agent.db"
        assert open_store(store.url).url == store.url


def test_tiered_urls(tmp_path: Path) -> None:
    store = open_store(f"tiered:sqlite:///{tmp_path}/hot.db|sqlite:///{tmp_path}/cold.db")
    assert isinstance(store, TieredStore)
    assert open_store(store.url).url == store.url
    assert store.spec().build().url == store.url


def test_a_password_never_shows() -> None:
    pytest.importorskip("redis")
    for url in ("redis://:s3cret@localhost:1/0", "postgresql://joe:s3cret@localhost:1/db"):
        store = open_store(url)
        for text in (store.url, repr(store), str(store), store.default_directory()):
            assert "s3cret" not in text


@pytest.mark.parametrize(
    "url",
    ["mongo://x", "sqlite:///", "tiered:a.db", "tiered:|a.db", "tiered:a.db|a.db", "tiered:x://|b"],
)
def test_what_is_no_store_is_refused_and_named(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert str(caught.value)
