"""Commands on a server with passwords: what the URL says is used."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from livingai import CheckpointEngine, ExecutionNode, NodeType, Status
from livingai.stores.opening import open_store
from tests.support.place import Place
from tests.support.places import command
from tests.support.postgres_servers import shared_server
from tests.support.redis_servers import prefix_for

pytestmark = pytest.mark.postgres


@pytest.fixture
def with_password() -> str:
    """The URL of a server; asked for before the place, whose child the server is not."""
    return shared_server().tcp_url()


def test_looking_uses_the_password_of_the_url(
    with_password: str, state_dir: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no service runs, the store is read with what the URL says, not with what the state
    directory remembers of it."""
    url = f"{with_password}?schema={prefix_for(state_dir.folder).replace('-', '_')}"
    monkeypatch.setenv("XDG_STATE_HOME", str(state_dir.folder / "home"))
    with CheckpointEngine(open_store(url)) as engine:
        engine.save_sync(ExecutionNode("chat", id="plan", status=Status.SUCCESS), {"step": 1})
        engine.save_sync(
            ExecutionNode("chat", NodeType.TOOL, Status.RUNNING, id="pay"), {"step": 2}
        )
    assert command(state_dir, "stop", url).returncode == 0
    assert state_dir.service_processes() == []
    for arguments, status, says in (
        (["list"], 0, "chat"),
        (["show", "chat"], 0, "in doubt"),
        (["state", "chat", "--at", "plan"], 0, '"step": 1'),
        (["diff", "chat@plan", "chat"], 1, "step: 1 -> 2"),
        (["recover"], 1, "chat"),
    ):
        told = command(state_dir, *arguments, "-s", url)
        assert (told.returncode, told.stderr) == (status, ""), arguments
        assert says in told.stdout


def test_what_is_not_there_is_said_without_the_password(
    with_password: str, state_dir: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{with_password}?schema={prefix_for(state_dir.folder).replace('-', '_')}"
    password = urlsplit(with_password).password
    assert password
    monkeypatch.setenv("XDG_STATE_HOME", str(state_dir.folder / "home"))
    for arguments in (["delete", url, "nosuch"], ["doctor", url], ["relocate", url]):
        told = command(state_dir, *arguments)
        assert password not in told.stdout + told.stderr, arguments
        if arguments[0] == "delete":
            assert told.returncode == 1, told
            assert "no execution 'nosuch' in postgresql://" in told.stderr
    command(state_dir, "stop", url)
