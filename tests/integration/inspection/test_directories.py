"""A state directory seen from outside: found by its path or its store, its owner, what waits."""

from __future__ import annotations

import pytest

from livingai.errors import ServiceUnavailableError
from livingai.inspection.directories import (
    NothingThereError,
    Owner,
    default_directory,
    existing_store,
    find_directory,
    is_directory,
)
from livingai.protocol.verbs import STATUS
from tests.support import acts
from tests.support.place import Place
from tests.support.waiting import frozen


def test_the_directory_of_a_running_service(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    path = state_dir.directory.path
    assert is_directory(path)
    views = [find_directory(str(where)) for where in (path, state_dir.database)]
    assert {view.path for view in views} == {path}
    (url,) = {view.store_url for view in views}
    view = views[0]
    assert default_directory(view.open_store()).path == path
    assert view.open_store().url == url

    pids = view.ask(STATUS, timeout_s=20).pids
    assert view.owner() == Owner(pids.dispatcher)
    assert (view.journals(), view.waiting()) == (1, 0)
    assert view.report().pid == pids.supervisor

    with frozen(state_dir.service_processes()):
        agent.call(acts.save, "run-1", 1)
        assert view.waiting() == 1, "accepted, and not stored"
        assert view.owner() is not None, "it runs, and does not answer"
        with pytest.raises(ServiceUnavailableError):
            view.ask(STATUS, timeout_s=0.1)
    agent.settled(2)
    assert view.waiting() == 0
    agent.leave()


def test_the_directory_of_a_service_that_has_ended(state_dir: Place) -> None:
    with state_dir.service():
        view = find_directory(state_dir.directory.path)
        assert view.owner() is not None
        assert view.report().ended_at == 0
    assert view.owner() is None
    assert view.report().ended_at > 0
    assert view.report().left == 0
    with pytest.raises(ServiceUnavailableError):
        view.ask(STATUS, timeout_s=5)


def test_a_name_that_leads_nowhere(state_dir: Place) -> None:
    folder = state_dir.folder
    with pytest.raises(NothingThereError, match="there is no database"):
        find_directory(str(folder / "nope.db"))
    with pytest.raises(NothingThereError, match="there is no database"):
        existing_store(str(folder / "nope.db"))
    with pytest.raises(NothingThereError, match="no livingai state directory"):
        find_directory(str(folder))
    (folder / "other.db").touch()
    with pytest.raises(NothingThereError, match="no agent on this machine has used it"):
        find_directory(str(folder / "other.db"))
    assert not is_directory(str(folder))
    assert list(folder.iterdir()) == [folder / "other.db"], "looking makes nothing"
