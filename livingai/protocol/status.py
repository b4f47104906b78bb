"""How the service is: one record for ``livingai status``, ``Service.status()`` and metrics.

It travels as a map of its fields. A reader ignores fields that it does not know, and takes the
default of a field that is not there: services of earlier versions do not send all of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from livingai.errors import ServiceError


@dataclass(frozen=True, slots=True)
class ServicePids:
    """Process ids of a service. 0 or None: that process does not run now, or the service did not
    say."""

    supervisor: int = 0
    dispatcher: int = 0
    writers: tuple[int | None, ...] = ()
    #: The reader and the housekeeper start when they are first needed.
    reader: int | None = None
    housekeeper: int | None = None
    #: Empty while states are encoded by threads of the dispatcher.
    compressors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceFlow:
    """What flows through a service. Counts are since its dispatcher started; two statuses give
    rates. All 0: an earlier version, which does not say."""

    #: Accepted records that have no outcome yet, those that were not read from a journal included.
    queued: int = 0
    #: Seconds since the oldest of them was accepted; of those that were read.
    oldest_s: float = 0.0
    #: Bytes of records that are neither stored nor synced: what a power loss would take now. Those
    #: that were not read yet count as much as the newest one that was.
    unsynced_bytes: int = 0
    #: Batches that the store has committed.
    commits: int = 0
    #: Bytes of the states that were stored, and of what the store was given for them.
    raw_bytes: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What a service was doing at one moment. The defaults are those of a field which an earlier
    version of the service does not send."""

    #: The store's URL, without credentials.
    store: str = ""
    #: The service's version of livingai.
    version: str = ""
    #: Started by ``livingai serve``.
    served: bool = False
    #: Started by a ``Service`` or by ``livingai serve``: it does not end when idle.
    foreground: bool = False
    #: Where states are encoded, as a sentence.
    compression: str = ""
    #: When its dispatcher started, in seconds since the Unix epoch.
    started_at: float = 0.0
    pids: ServicePids = field(default_factory=ServicePids)
    #: Connected processes that have a journal.
    agents: int = 0
    #: Journals that it follows, and how many of them belong to processes that have ended.
    journals: int = 0
    journals_of_dead_owners: int = 0
    #: Records, and their bytes, that were read from a journal and have no outcome yet.
    inflight: int = 0
    inflight_bytes: int = 0
    #: Batches that are being written to the store.
    batches: int = 0
    #: How many records had each outcome since the dispatcher started, by the outcome's name.
    outcomes: dict[str, int] = field(default_factory=dict)
    #: Why writes are not stored now; "" if all is well.
    trouble: str = ""
    flow: ServiceFlow = field(default_factory=ServiceFlow)
    #: The same where the store is the cause; "" else.
    store_trouble: str = ""
    #: Turns that the dispatcher's main loop has taken, at least five a second. One that answers and
    #: takes none hangs.
    turns: int = 0

    def to_wire(self) -> dict[str, Any]:
        """The record as plain values for a message or for JSON."""
        wire = asdict(self)
        for name in ("writers", "compressors"):
            wire["pids"][name] = list(wire["pids"][name])
        return wire

    @classmethod
    def from_wire(cls, wire: Any) -> Self:
        """The record that :meth:`to_wire` gave, of this or another version.

        Raises:
            ServiceError: a field, or the whole, has a value of another type.
        """
        values = _known(cls, wire, "status")
        pids = _known(ServicePids, values.pop("pids", {}), "status.pids")
        for name in pids.keys() & {"writers", "compressors"}:
            pids[name] = tuple(pids[name])
        flow = ServiceFlow(**_known(ServiceFlow, values.pop("flow", {}), "status.flow"))
        return cls(pids=ServicePids(**pids), flow=flow, **values)


#: Types of the values on the wire, by the annotation of the field.
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,), "bool": (bool,), "int": (int,), "float": (float, int),
    "int | None": (int, type(None)), "tuple[int, ...]": (list, tuple),
    "tuple[int | None, ...]": (list, tuple), "dict[str, int]": (dict,), "ServicePids": (dict,),
    "ServiceFlow": (dict,),
}  # fmt: skip


def _known(cls: type[Any], wire: Any, what: str) -> dict[str, Any]:
    """The fields of ``cls`` that are in ``wire``, with values of their types."""
    if not isinstance(wire, dict):
        raise ServiceError(f"the service's {what} is {wire!r:.100}, not a map")
    found = {each.name: wire[each.name] for each in fields(cls) if each.name in wire}
    for each in fields(cls):
        if each.name in found and not isinstance(found[each.name], _TYPES[str(each.type)]):
            raise ServiceError(f"the service's {what} has {each.name} = {found[each.name]!r:.100}")
    return found
