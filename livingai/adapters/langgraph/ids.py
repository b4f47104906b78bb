"""Ids of threads and of their entries.

A thread is one execution. Ids of its entries are ``<execution>/<kind> ...``, with fields that are
separated by a space and escaped so that ids sort as their fields do:

===========================================  =====================================================
``/c <namespace> <checkpoint id> <unique>``  a checkpoint; its state holds the channels' values
``/w <namespace> <checkpoint id> <unique>``  the writes of one task, in the node's output
``/m <unique>``                              a mark: the thread is a copy, was deleted, or pruned
``/k <unique>``                              a mark: another thread is a copy of this one
===========================================  =====================================================
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote

import xxhash

from livingai.adapters.names import behind_prefix, execution_name
from livingai.errors import ConfigurationError, CorruptRowError
from livingai.node import ExecutionNode

#: What all threads' executions begin with.
FRAMEWORK: Final = "langgraph"
#: Longest checkpoint id (UTF-8 bytes, escaped): ids of nodes are limited.
_MAX_CHECKPOINT_ID: Final = 200
_MAX_NAMESPACE: Final = 100
#: Entry of a node's metadata: the thread's id, where that of the execution does not say it.
LONG_NAME: Final = "thread"
_LOW: Final = re.compile(r"[\x00-\x21]")


class ThreadName(NamedTuple):
    """A thread, and the id of the execution that is its log."""

    thread_id: str
    execution_id: str

    @classmethod
    def of(cls, thread_id: str) -> ThreadName:
        """The name of a thread."""
        return cls(thread_id, execution_name(FRAMEWORK, thread_id))

    @classmethod
    def of_execution(cls, execution_id: str, any_entry: ExecutionNode | None = None) -> ThreadName:
        """The name of the thread whose log that is. A long one is not in the execution's id: any
        entry says it.

        Raises:
            CorruptRowError: it is no log of a thread.
        """
        thread_id = None if any_entry is None else any_entry.metadata.get(LONG_NAME)
        if thread_id is None:
            thread_id = unquote(execution_id.partition(":")[2], errors="surrogatepass")
        name = cls.of(str(thread_id))
        if name.execution_id != execution_id:
            raise CorruptRowError(f"execution {execution_id} is no log of a thread")
        return name


def prefix(execution_id: str, kind: str, namespace: str | None = None, checkpoint: str = "") -> str:
    """What the ids of entries begin with: all of a kind, of a namespace, of a checkpoint."""
    parts = f"{execution_id}/{kind} "
    if namespace is not None:
        parts += f"{_namespace(namespace)} "
        if checkpoint:
            parts += f"{_checkpoint(checkpoint)} "
    return parts


def below(execution_id: str, kind: str, namespace: str, checkpoint: str) -> str:
    """The end of the range of entries whose checkpoint ids are below one."""
    return prefix(execution_id, kind, namespace, checkpoint)


def behind_checkpoint(execution_id: str, kind: str, namespace: str, checkpoint: str) -> str:
    """The end of the range of entries whose checkpoint ids are not above one."""
    return behind_prefix(prefix(execution_id, kind, namespace, checkpoint))


def _escape(text: str) -> str:
    """``text`` without spaces and control characters; sorts as ``text`` does."""
    return _LOW.sub(lambda found: "!" + chr(0x40 + ord(found[0])), text)


def _checkpoint(checkpoint_id: str) -> str:
    escaped = _escape(checkpoint_id)
    if len(escaped.encode("utf-8", "surrogatepass")) > _MAX_CHECKPOINT_ID:
        raise ConfigurationError(
            f"a checkpoint id has at most {_MAX_CHECKPOINT_ID} bytes; this one begins with "
            f"{checkpoint_id[:40]!r}"
        )
    return escaped


def _namespace(namespace: str) -> str:
    escaped = _escape(namespace)
    if len(escaped.encode("utf-8", "surrogatepass")) <= _MAX_NAMESPACE:
        return escaped
    return f"!!{xxhash.xxh3_128_hexdigest(namespace.encode('utf-8', 'surrogatepass'))}"
