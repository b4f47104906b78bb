"""Items: values under a namespace and a key, and how they lie in a shared log.

All items of a store (or a cache) are one execution. What is known of an item is a *group* of
entries, ``<execution>/i/<label>/<label>/:<key>/<moment>``, in order of their moments
(:mod:`livingai.adapters.moments`), so the items of a namespace, and of all below it, are one range
of ids. Nobody changes the value of an entry; the newest one counts:

========  ==========================================================================================
value     the item's value from then on, perhaps until it expires
deleted   there is no item from then on
touched   the value in front of it expires later than it says (``<moment>~``, written again each
          time)
born      what the oldest value becomes once newer ones have taken its place: it says since when the
          item has been there, and holds nothing
========  ==========================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from livingai import codecs, serial
from livingai.adapters.langgraph.item_names import ItemNames, Namespace, moment_ns
from livingai.config import DEFAULT_MAX_STATE_BYTES
from livingai.errors import CorruptRowError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.protocol.ranges import RangedNode

#: Stands behind the moment of a value that was touched.
_TOUCH: Final = "~"
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ItemChange:
    """What is written of an item: a value (packed), or None, which deletes it. ``ttl_s``: it
    expires so many seconds after it was written or touched."""

    namespace: Namespace
    key: str
    value: bytes | None
    ttl_s: float | None = None

    def node(self, names: ItemNames, moment: str) -> ExecutionNode:
        """The entry to be saved."""
        kind = "deleted" if self.value is None else "value"
        node_id = names.group(self.namespace, self.key) + moment
        node = _node(names, node_id, kind, names.about(self.namespace, self.key))
        if self.value is not None:
            node.output = self.value
            if self.ttl_s is not None:
                node.metadata["ttl_s"] = self.ttl_s
                node.metadata["expires_at"] = moment_ns(node_id) / _NS + self.ttl_s
        return node


def packed(value: Any) -> bytes:
    """A value as an entry holds it.

    Raises:
        StateEncodingError: it holds what cannot be stored.
    """
    return codecs.encode(serial.pack(value)).blob


def unpacked(blob: bytes) -> Any:
    """Inverse of :func:`packed`."""
    return serial.unpack(codecs.decode(blob, max_bytes=DEFAULT_MAX_STATE_BYTES))


def _node(names: ItemNames, node_id: str, kind: str, about: dict[str, Any]) -> ExecutionNode:
    node = ExecutionNode(
        names.execution_id, NodeType.MEMORY, Status.SUCCESS, id=node_id,
        metadata={"framework": names.framework, "name": kind, **about},
    )  # fmt: skip
    node.completed_at = node.created_at
    return node


@dataclass(slots=True)
class StoredItem:
    """What the entries of a group say together; they are added in order of id."""

    group: str
    #: The newest value, and the entry since which the item has been there; None: there is none.
    value: ExecutionNode | None = None
    birth: ExecutionNode | None = None
    expires_at: float | None = None
    #: The entry that deleted it, while nothing follows.
    deleted: str | None = None
    #: Entries that nobody needs any more.
    overtaken: list[str] = field(default_factory=list)
    _touch: str | None = None

    def add(self, entry: RangedNode) -> None:
        """The next entry.

        Raises:
            CorruptRowError: another program has written it.
        """
        node = entry.node
        match node.metadata.get("name"):
            case "value" if isinstance(node.output, bytes):
                if self.is_expired(moment_ns(node.id) / _NS):
                    self._forget()
                self._overtake()
                self.value, self.birth = node, self.birth or node
                self.expires_at = node.metadata.get("expires_at")
            case "deleted":
                self._forget()
                self.deleted = node.id
            case "touched":
                if self.value is not None and node.id == self.value.id + _TOUCH:
                    self._touch, self.expires_at = node.id, node.metadata.get("expires_at")
                else:
                    self.overtaken.append(node.id)
            case "born" if self.birth is None:
                self.birth = node
            case "born":
                self.overtaken.append(node.id)
            case other:
                raise CorruptRowError(
                    f"the entry {node.id} is {other!r:.40}: another program, or a newer livingai, "
                    "has written it"
                )

    def _overtake(self) -> None:
        """A newer entry takes the value's place."""
        old = [self.deleted, self._touch]
        if self.value is not None and self.value is not self.birth:
            old.append(self.value.id)
        self.overtaken += [each for each in old if each is not None]
        self.deleted = self._touch = None

    def _forget(self) -> None:
        """All so far counts no more."""
        self._overtake()
        if self.birth is not None:
            self.overtaken.append(self.birth.id)
        self.value = self.birth = self.expires_at = None

    @property
    def entries(self) -> list[str]:
        """The ids of all entries."""
        own = {each.id for each in (self.value, self.birth) if each is not None}
        marks = [each for each in (self.deleted, self._touch) if each is not None]
        return [*self.overtaken, *sorted(own), *marks]

    def removable(self, now: float, deleted_before: float) -> list[str]:
        """The ids of entries that can go at a time (s since the epoch): all, if the item has
        expired, or was deleted before ``deleted_before``."""
        if self.is_expired(now):
            return self.entries
        if self.value is None and (
            self.deleted is None or moment_ns(self.deleted) / _NS < deleted_before
        ):
            return self.entries
        return self.overtaken

    def is_expired(self, now: float) -> bool:
        """Whether the value has expired at a time (s since the epoch)."""
        return self.value is not None and self.expires_at is not None and self.expires_at <= now

    @property
    def updated_ns(self) -> int:
        """When the value was written (ns since the epoch)."""
        return 0 if self.value is None else moment_ns(self.value.id)

    @property
    def created_ns(self) -> int:
        """When the item was written first (ns since the epoch)."""
        return 0 if self.birth is None else moment_ns(self.birth.id)

    def unpacked(self) -> Any:
        """The value.

        Raises:
            CorruptBlobError: it is damaged.
        """
        assert self.value is not None
        return unpacked(self.value.output)

    def touched(self, names: ItemNames, now: float) -> ExecutionNode | None:
        """The entry that lets the value live its full time from now on; None: it need not be
        written."""
        if self.value is None or self.expires_at is None:
            return None
        ttl_s = float(self.value.metadata["ttl_s"])
        expires_at = now + ttl_s
        if expires_at - self.expires_at < min(1.0, ttl_s / 100):
            return None  # that was just done
        about = {"expires_at": expires_at, **_long_name(self.value)}
        return _node(names, self.value.id + _TOUCH, "touched", about)

    def born(self, names: ItemNames) -> ExecutionNode | None:
        """The entry that replaces the oldest value, which is not needed any more; None: it is."""
        birth = self.birth
        if birth is None or birth is self.value or birth.metadata.get("name") == "born":
            return None
        return _node(names, birth.id, "born", _long_name(birth))


def _long_name(node: ExecutionNode) -> dict[str, Any]:
    return {name: node.metadata[name] for name in ("namespace", "key") if name in node.metadata}
