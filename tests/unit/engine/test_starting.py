"""What an agent decides that finds no service."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.engine import reconnect, starting
from livingai.engine.reconnect import Attempts
from livingai.engine.starting import Starter
from livingai.errors import ServiceStartError
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import OwnerLock
from livingai.stores.sqlite import SQLiteStore
from tests.support.odd import put_odd


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    directory = StateDirectory(tmp_path / "state")
    directory.ensure(SQLiteStore(tmp_path / "a.db").url)
    return directory


def starter(directory: StateDirectory, config: EngineConfig) -> Starter:
    store = SQLiteStore(Path(directory.path).parent / "a.db")
    return Starter(directory, config, ServiceConfig.build(store, directory.path, config))


@contextmanager
def held(path: str) -> Iterator[None]:
    lock = OwnerLock.acquire(path)
    assert lock is not None
    try:
        yield
    finally:
        lock.release()


def test_one_that_can_start_nothing_says_so_before_anything_is_accepted(
    directory: StateDirectory,
) -> None:
    """Unless it need not: a service is there, or may be, or it is to wait for one."""
    python = os.path.join(directory.path, "no-python")
    config = EngineConfig(service="auto", python=python)
    with pytest.raises(ServiceStartError):
        starter(directory, config).check()
    starter(directory, EngineConfig(service="auto", python=sys.executable)).check()
    starter(directory, EngineConfig(service="attach", python=python)).check()
    with held(directory.supervisor_lock):
        starter(directory, config).check()
    os.unlink(directory.supervisor_lock)
    put_odd("directory", Path(directory.supervisor_lock))
    starter(directory, config).check()


@pytest.mark.parametrize("odd", [False, True], ids=["held", "not to be looked at"])
def test_none_is_started_while_another_one_may_be(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch, odd: bool
) -> None:
    """A Python that is not there would be an error."""
    monkeypatch.setattr(reconnect, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    config = EngineConfig(service="auto", python=os.path.join(directory.path, "no-python"))
    attempts = Attempts()
    if odd:
        put_odd("directory", Path(directory.supervisor_lock))
        assert starter(directory, config).no_service(attempts) == "starting"
    else:
        with held(directory.supervisor_lock):
            assert starter(directory, config).no_service(attempts) == "starting"
        with pytest.raises(ServiceStartError):
            starter(directory, config).no_service(attempts)
        assert attempts.tried
        assert not attempts.start_is_due()


def test_who_is_to_wait_says_so_after_a_while(
    directory: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(starting, "time", SimpleNamespace(monotonic=lambda: now))
    waiting, attempts = starter(directory, EngineConfig(service="attach")), Attempts()
    assert waiting.no_service(attempts) == "waiting"
    assert waiting.trouble == ""
    now += 10
    assert waiting.no_service(attempts) == "waiting"
    assert "livingai serve" in waiting.trouble
    waiting.connected()
    assert waiting.trouble == ""
    assert waiting.no_service(attempts) == "waiting"
    assert waiting.trouble == "", "it is alone since now"
    assert not attempts.tried
