"""The connection of a Redis store: one server, a cluster, or what sentinels name.

Rules:

1. Commands go out in pipelines, one for each server that is concerned, and **every reply is looked
   at**. An error reply is handed back in its command's place, so it concerns that command alone.
2. MOVED, ASK, TRYAGAIN and NOSCRIPT are answered by sending the command again, where and how the
   reply says, in another round. After a few rounds it is an error that may pass.
3. A lost connection or a timeout concerns all commands: it is not known which of them ran.
4. Where a commit has to reach replicas or the append-only file, its pipeline ends with a write and
   WAIT or WAITAOF: those wait for what *this connection* wrote, and a batch that is sent again
   writes nothing else.
5. redis-py repeats nothing on its own but a connection that turns out to be stale: the service
   repeats, with backoff, and knows when to give up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, TypeVar

from livingai.errors import RecordRefusedError, StoreError, StoreUnavailableError
from livingai.stores.redis.connect import connect
from livingai.stores.redis.errors import error_word, translate
from livingai.stores.redis.keys import Keys
from livingai.stores.redis.options import Waiting
from livingai.stores.redis.url import RedisAddress

_ROUNDS: Final = 6
T = TypeVar("T")


class Script:
    """A Lua script of this package, sent by its SHA-1 where the server knows it."""

    def __init__(self, name: str) -> None:
        # Its comments would be sent and kept in memory, too, but show up in MONITOR and SLOWLOG.
        self.source = files("livingai.stores.redis").joinpath(f"{name}.lua").read_bytes()
        self.sha = _sha1(self.source)


def _sha1(source: bytes) -> str:
    import hashlib  # noqa: PLC0415 - only a store that is used needs it

    return hashlib.sha1(source, usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class Command:
    """A command for the server that has ``key``; with a ``script``, ``arguments`` are what follows
    the SHA-1 of EVALSHA."""

    key: bytes
    arguments: Sequence[Any]
    script: Script | None = None
    #: Send the script itself: the server does not know it.
    whole: bool = False
    #: The node that an ASK reply named.
    asked: Any = None

    def words(self) -> Sequence[Any]:
        """The command as it is sent."""
        if self.script is None:
            return self.arguments
        if self.whole:
            return ("EVAL", self.script.source, *self.arguments)
        return ("EVALSHA", self.script.sha, *self.arguments)


class Link:
    """A connection that is made when it is needed; not thread-safe."""

    def __init__(self, address: RedisAddress, *, timeout_s: float, waiting: Waiting) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._waiting = waiting
        self._client: Any = None

    @property
    def is_open(self) -> bool:
        """Whether there is a client (its sockets come and go)."""
        return self._client is not None

    def open(self) -> None:
        """Make the client. Raises as :func:`translate` says."""
        if self._client is None:
            try:
                self._client = connect(self._address, self._timeout_s)
            except Exception as error:
                raise self._translated(error) from error

    def close(self) -> None:
        """Disconnect. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _translated(self, error: BaseException) -> BaseException:
        """An error of redis-py as one of livingai's."""
        return translate(error, self._address.public_url)

    def of_any(self, ask: Callable[[Any], T]) -> T:
        """What ``ask`` answers, given the client of a server that can be reached.

        Raises:
            StoreError: none can, or what ``ask`` raises.
        """
        import redis.exceptions as known  # noqa: PLC0415 - no driver before the store is used

        trouble: Exception = StoreUnavailableError(f"{self._address.public_url} has no servers")
        try:
            for client in self._servers():
                try:
                    return ask(client)
                except known.AuthenticationError:
                    raise
                except (known.ConnectionError, known.TimeoutError) as error:
                    trouble = error
            raise trouble
        except Exception as error:
            raise self._failed(error) from error

    def of_all(self, ask: Callable[[Any], T]) -> list[T]:
        """As :meth:`of_any`, from each server that takes writes."""
        try:
            return [ask(client) for client in self._servers()]
        except Exception as error:
            raise self._failed(error) from error

    def _servers(self) -> list[Any]:
        if self._address.kind != "cluster":
            return [self._client]
        return [self._client.get_redis_connection(node) for node in self._client.get_primaries()]

    def _failed(self, error: Exception) -> BaseException:
        self._look_around(error)
        return self._translated(error)

    def one(self, command: Command) -> Any:
        """The reply to one command.

        Raises:
            StoreError: as :func:`translate` says; an error reply, too.
        """
        (reply,) = self.many([command])
        return reply

    def many(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to all commands, of which none may fail.

        Raises:
            StoreError: as :meth:`one`.
        """
        replies = self.each(commands)
        for reply in replies:
            if isinstance(reply, RecordRefusedError):
                raise StoreError(str(reply))
            if isinstance(reply, Exception):
                raise reply
        return replies

    def each(self, commands: Sequence[Command], *, durably: bool = False) -> list[Any]:
        """The reply to each command, or the livingai error that its error reply means.

        Raises:
            StoreUnavailableError: a connection was lost, or what ``durably`` waits for was not
                reached in time; any of the commands may have been done.
        """
        replies: list[Any] = [None] * len(commands)
        pending: Iterable[int] = range(len(commands))
        try:
            for _ in range(_ROUNDS):
                again: list[int] = []
                for client, numbers in self._by_server(commands, pending):
                    part = [commands[number] for number in numbers]
                    for number, reply in zip(
                        numbers, self._pipeline(client, part, durably), strict=True
                    ):
                        replies[number] = reply
                        if isinstance(reply, Exception) and self._redirect(commands[number], reply):
                            again.append(number)
                if not again:
                    break
                pending = again
        except Exception as error:
            raise self._failed(error) from error
        return [
            self._translated(reply) if isinstance(reply, Exception) else reply for reply in replies
        ]

    def _by_server(
        self, commands: Sequence[Command], pending: Iterable[int]
    ) -> list[tuple[Any, list[int]]]:
        """Clients, and the numbers of the commands that each one gets."""
        if self._address.kind != "cluster":
            return [(self._client, list(pending))]
        nodes: dict[str, tuple[Any, list[int]]] = {}
        for number in pending:
            command = commands[number]
            node = command.asked or self._client.get_node_from_key(command.key)
            found = nodes.get(node.name)
            if found is None:
                connection = self._client.get_redis_connection(node)
                found = nodes[node.name] = (connection, [])
            found[1].append(number)
        return list(nodes.values())

    def _pipeline(self, client: Any, commands: Sequence[Command], durably: bool) -> list[Any]:
        with client.pipeline(transaction=False) as pipe:
            places: list[int] = []
            for command in commands:
                if command.asked is not None:
                    pipe.execute_command("ASKING")
                    command.asked = None
                places.append(len(pipe.command_stack))
                pipe.execute_command(*command.words())
            if durably and self._waiting:
                self._append_waiting(pipe, commands[0].key)
            replies = pipe.execute(raise_on_error=False)
        if durably and self._waiting:
            self._check_waiting(replies)
        return [replies[place] for place in places]

    # -- rule 4 --

    def _append_waiting(self, pipe: Any, key: bytes) -> None:
        wait = self._waiting
        pipe.execute_command("SET", Keys.barrier(key), b"1")
        if wait.replicas:
            pipe.execute_command("WAIT", wait.replicas, wait.timeout_ms)
        if wait.aof_local or wait.aof_replicas:
            pipe.execute_command("WAITAOF", wait.aof_local, wait.aof_replicas, wait.timeout_ms)

    def _check_waiting(self, replies: list[Any]) -> None:
        wait = self._waiting
        asked = []
        if wait.aof_local or wait.aof_replicas:
            asked.append((replies.pop(), [wait.aof_local, wait.aof_replicas]))
        if wait.replicas:
            asked.append(([replies.pop()], [wait.replicas]))
        barrier = replies.pop()
        if isinstance(barrier, Exception):
            raise barrier  # nothing to wait behind; in a cluster its slot may be on the move
        for reply, wanted in asked:
            for got, least in zip(
                reply if isinstance(reply, list) else [reply], wanted, strict=True
            ):
                if isinstance(got, Exception):
                    raise got
                if got < least:
                    raise StoreUnavailableError(
                        f"{self._address.public_url} has the writes, but within {wait.timeout_ms} "
                        f"ms not on as many disks or replicas as asked for ({got} of {least})"
                    )

    # -- rule 2 --

    def _redirect(self, command: Command, error: Exception) -> bool:
        """Prepare a command for the next round; False: it has failed."""
        word = error_word(error)
        if word == "NOSCRIPT" and command.script is not None and not command.whole:
            command.whole = True
            return True
        if self._address.kind != "cluster":
            return False
        if word == "ASK":
            details: Any = error
            command.asked = self._client.get_node(details.host, details.port)
            if command.asked is None:
                self._client.nodes_manager.initialize()
            return True
        if word == "MOVED":
            self._client.nodes_manager.initialize()
            return True
        return word == "TRYAGAIN"

    def _look_around(self, error: Exception) -> None:
        """After a lost connection: learn what the cluster looks like now, if any node answers."""
        import redis.exceptions as known  # noqa: PLC0415 - no driver before the store is used

        if self._address.kind == "cluster" and not isinstance(error, StoreError):
            try:
                self._client.nodes_manager.initialize()
            except (known.RedisError, known.RedisClusterException, OSError):
                self.close()  # none does; the next call begins with the URL again
