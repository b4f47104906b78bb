"""Strands Agents: a ``Storage`` for sessions, memory and everything else that it keeps as bytes.

::

    storage = LivingAIStorage(engine)
    agent = Agent(session_manager=SnapshotSessionManager("session-1", storage=storage))

Each key is an execution, ``strands:<namespace>/<key>``, whose entries are the values that the key
had (:mod:`livingai.adapters.shared_values`); the newest one counts. Keys are paths, as in the
storages that come with Strands: runs of slashes are one, and none leads or ends a key.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import unquote

from livingai.adapters.versions import require

require("strands-agents", at_least="1.62", below="2", extra="strands")

from strands.storage.search.keyword import KeywordSearchStrategy  # noqa: E402
from strands.types.exceptions import StorageError  # noqa: E402

from livingai.adapters.names import MAX_PART, part_name  # noqa: E402
from livingai.adapters.shared_values import SharedValues  # noqa: E402
from livingai.adapters.steps import take  # noqa: E402
from livingai.asked import check_text, shown  # noqa: E402
from livingai.errors import ConfigurationError, LivingAIError  # noqa: E402
from livingai.node import MAX_ID_BYTES  # noqa: E402

if TYPE_CHECKING:
    from strands.storage.search.types import SearchStrategy
    from strands.storage.storage import StorageSearchResult

    from livingai.engine.engine import CheckpointEngine
    from livingai.outcome import Durability

_GROUP: Final = "value"
#: What an entry's id needs behind the execution's (bytes): slashes, group and moment, and reserve.
_BEHIND: Final = 48
#: A part of a key that is this long once escaped may be shortened in the execution's id.
_WHOLE: Final = MAX_PART - 36
_PAGE: Final = 1000


class LivingAIStorage:
    """Strands' ``Storage`` in an engine's store; the engine stays the caller's to close.

    Args:
        engine: where to.
        namespace: keys of different namespaces have nothing to do with each other.
        durability: what each write waits for; by default the engine's level.
        search_strategy: gets every write, and answers :meth:`search`; by default that looks for the
            query's words in all values.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    def __init__(
        self,
        engine: CheckpointEngine,
        *,
        namespace: str = "default",
        durability: Durability | None = None,
        search_strategy: SearchStrategy[Any] | None = None,
    ) -> None:
        check_text(namespace, "namespace")
        self._values = SharedValues(engine, durability)
        self._root = f"strands:{part_name(namespace)}/"
        self._strategy = search_strategy
        if search_strategy is not None and not callable(getattr(search_strategy, "search", None)):
            raise ConfigurationError(
                f"search_strategy must be a strands SearchStrategy, not {shown(search_strategy)}"
            )

    async def write(self, key: str, data: bytes) -> None:
        """Make ``data`` the value of ``key``; it then survives the death of this process.

        Raises:
            StorageError: the key makes no sense, the value is too large or no bytes, or the engine
                takes nothing now (its error is the cause).
        """
        execution, key = self._execution(key)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise StorageError(f"the value of '{key}' must be bytes, not {type(data).__name__}")
        value = bytes(data)
        about = {"framework": "strands", "key": key}
        try:
            await take(self._values.put(execution, _GROUP, value, metadata=about))
        except LivingAIError as error:
            _failed(f"write '{key}'", error)
        if self._strategy is not None:
            try:
                await self._strategy.index(self, key, value)
            except Exception as error:
                raise StorageError(f"'{key}' was written, but not indexed") from error

    async def read(self, key: str) -> bytes | None:
        """The newest value of ``key``, whichever process wrote it; None: there is none.

        Raises:
            StorageError: the key makes no sense, or it cannot be read now (see the cause).
        """
        execution, key = self._execution(key)
        try:
            entry = await take(self._values.newest(execution, _GROUP))
        except LivingAIError as error:
            _failed(f"read '{key}'", error)
        if entry is None:
            return None
        if not isinstance(entry.state, bytes):
            raise StorageError(f"'{key}' holds no bytes: another program has written it")
        return entry.state

    async def delete(self, key: str) -> None:
        """Remove ``key`` with all the values that it had; does nothing if it is not there.

        Raises:
            StorageError: the key makes no sense, or it cannot be removed now (see the cause).
        """
        execution, key = self._execution(key)
        try:
            await self._values.engine.delete(execution)
        except LivingAIError as error:
            _failed(f"delete '{key}'", error)

    async def list(self, query: str = "") -> builtins.list[str]:
        """All keys that begin with ``query``, in order.

        Raises:
            StorageError: the prefix makes no sense, or they cannot be listed now (see the cause).
        """
        prefix = _checked(query, "prefix").lstrip("/")
        try:
            found = [key async for key in self._keys(prefix)]
        except LivingAIError as error:
            _failed(f"list '{query}'", error)
        return sorted(key for key in found if key.startswith(prefix))

    async def search(self, query: str) -> builtins.list[StorageSearchResult]:
        """What matches ``query``, best first, as the search strategy finds it."""
        strategy = self._strategy or KeywordSearchStrategy()
        found: builtins.list[StorageSearchResult] = await strategy.search(self, query)
        return found

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the store has all that this process has saved through the engine.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            RecordRefusedError: the store has refused something for good; it is in the quarantine.
        """
        await self._values.log.flush(timeout)

    # -- keys --

    def _execution(self, key: str) -> tuple[str, str]:
        """The execution of a key, and the key as it is listed."""
        key = _checked(key, "key").strip("/")
        if not key:
            raise StorageError("a storage key must not be empty")
        execution = self._root + "/".join(part_name(part) for part in key.split("/"))
        if len(execution) > MAX_ID_BYTES - _BEHIND:
            raise StorageError(
                f"the key '{key[:40]}...' is too long: {len(execution)} bytes with its namespace, "
                f"once escaped; at most {MAX_ID_BYTES - _BEHIND} are possible"
            )
        return execution, key

    async def _keys(self, prefix: str) -> AsyncIterator[str]:
        """The keys of all executions whose ids begin as those of such keys do: perhaps more."""
        *parts, begun = prefix.split("/")
        begin = self._root + "".join(f"{part_name(part)}/" for part in parts)
        begun = part_name(begun)
        begin += begun if len(begun) < _WHOLE else begun[: _WHOLE - 1]
        after: str | None = None
        while True:
            page = await self._values.engine.executions(prefix=begin, after=after, limit=_PAGE)
            for info in page:
                name = info.execution_id.removeprefix(self._root)
                if "%%" not in name:
                    yield unquote(name, errors="surrogatepass")
                elif (
                    entry := await take(self._values.newest(info.execution_id, _GROUP))
                ) is not None:
                    yield str(entry.node.metadata.get("key"))  # a part of its id is shortened
            after = page.next_after
            if after is None:
                return


def _checked(key: object, what: str) -> str:
    """A key or prefix with its runs of slashes as one."""
    if not isinstance(key, str):
        raise StorageError(f"a storage {what} must be text, not {type(key).__name__}")
    if "\\" in key:
        raise StorageError(f"the storage {what} '{key}' has a backslash; use slashes")
    if ".." in key.split("/"):
        raise StorageError(f"the storage {what} '{key}' has a part '..', which is not followed")
    return re.sub(r"/+", "/", key)


def _failed(what: str, error: LivingAIError) -> NoReturn:
    raise StorageError(f"could not {what}: {error}") from error
