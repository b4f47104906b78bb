"""Namespaces and keys of items as ids of entries.

Labels and keys are escaped as in URLs. A path that would be too long for an id ends in a hash of
the rest; then the entry's metadata have what the id does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote

import xxhash

from livingai.adapters.names import execution_name, is_shortened, part_name
from livingai.asked import check_text
from livingai.errors import ConfigurationError, CorruptRowError
from livingai.node import ExecutionNode

#: A path of labels.
Namespace = tuple[str, ...]

_MAX_NAME: Final = 80
#: Longest path of labels that is written out (characters, escaped).
_MAX_LABELS: Final = 180
#: Stands in front of a key; escaped labels have none.
_KEY: Final = ":"


class ItemNames:
    """The ids of one store's items."""

    def __init__(self, framework: str, name: str) -> None:
        """Raises ConfigurationError: ``name`` is no text, empty, or too long."""
        check_text(name, "name")
        if not name or len(part_name(name)) > _MAX_NAME:
            raise ConfigurationError(f"name must have 1 to {_MAX_NAME} characters, escaped")
        self.framework = framework
        self.execution_id = execution_name(framework, name)
        self._root = f"{self.execution_id}/i/"

    def group(self, namespace: Namespace, key: str) -> str:
        """What the ids of an item's entries begin with."""
        return f"{self._path(namespace)}{_KEY}{part_name(key)}/"

    def keys(self, namespace: Namespace) -> str:
        """What the ids of the items in a namespace begin with, without those below it."""
        return f"{self._path(namespace)}{_KEY}"

    def below(self, prefix: Namespace) -> str:
        """What the ids of all items in and below a namespace begin with; those of others may, too,
        where the path is too long."""
        path = self._path(prefix)
        return path[: path.index("%%") + 2] if "%%" in path else path

    def about(self, namespace: Namespace, key: str) -> dict[str, Any]:
        """What an entry's metadata have to say beside its id."""
        if is_shortened(self.group(namespace, key)):
            return {"namespace": list(namespace), "key": key}
        return {}

    def read(self, node: ExecutionNode) -> tuple[Namespace, str]:
        """The namespace and the key of an entry.

        Raises:
            CorruptRowError: it is no entry of an item.
        """
        about = node.metadata
        if "namespace" in about:
            return tuple(map(str, about["namespace"])), str(about.get("key"))
        labels, mark, key = group_of(node.id).removeprefix(self._root).rpartition(_KEY)
        if not mark:
            raise CorruptRowError(f"the entry {node.id} is no item: another program has written it")
        return tuple(map(_unescaped, labels.split("/")[:-1])), _unescaped(key[:-1])

    def _path(self, namespace: Namespace) -> str:
        path = ""
        for number, label in enumerate(namespace):
            part = part_name(label) + "/"
            if len(path) + len(part) > _MAX_LABELS:
                rest = "\0".join(namespace[number:]).encode("utf-8", "surrogatepass")
                return f"{self._root}{path}%%{xxhash.xxh3_128_hexdigest(rest)}/"
            path += part
        return self._root + path


def _unescaped(part: str) -> str:
    return unquote(part, errors="surrogatepass")


def group_of(entry_id: str) -> str:
    """The group that an entry is of."""
    return entry_id[: entry_id.rindex("/") + 1]


def keys_of(group: str) -> str:
    """What the groups of the same namespace begin with."""
    return group[: group.rindex("/" + _KEY) + 2]


def moment_ns(entry_id: str) -> int:
    """The time of an entry (ns since the epoch).

    Raises:
        CorruptRowError: its id has none.
    """
    moment = entry_id[entry_id.rindex("/") + 1 :]
    try:
        return int(moment[:16], 16)
    except ValueError:
        raise CorruptRowError(
            f"the entry {entry_id} has no moment: another program has written it"
        ) from None


def starts_with(namespace: Sequence[str], prefix: Sequence[str]) -> bool:
    """Whether a namespace is ``prefix``, or lies below it."""
    return tuple(namespace[: len(prefix)]) == tuple(prefix)
