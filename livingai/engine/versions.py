"""The service that an agent is connected to may be of another version of livingai.

That is how an upgrade goes: agents are restarted one by one, and the service is whichever one was
started first. Rules:

1. With another protocol nothing is understood: a :class:`VersionMismatchError` (restart the older
   one), and records wait in the journal.
2. A service reads what agents of earlier revisions of its protocol say and write. So an earlier
   agent goes on; a newer service says which of both is to be restarted, sometime.
3. An earlier service may not be able to read what this agent writes, and then holds up others that
   wait for it. So if an agent has started it, the newer agent starts one that has it end and takes
   its place once it can (:meth:`.Starter.replace_earlier`). No agent replaces a newer service, so
   agents of several versions do not push each other's out in turns. A service that a user runs is
   left to its user, who is told.
"""

from __future__ import annotations

from typing import Any

from livingai._version import __version__
from livingai.engine.reconnect import Attempts
from livingai.engine.starting import Starter
from livingai.errors import VersionMismatchError
from livingai.protocol.frames import PROTOCOL_VERSION, REVISION, revision_of


class ServiceVersion:
    """The version of the connected service, beside this agent's. Only the connection's thread uses
    it."""

    def __init__(self, starter: Starter, attempts: Attempts) -> None:
        self._starter = starter
        self._attempts = attempts
        self._name, self._revision = __version__, REVISION

    def greeted(self, message: list[Any]) -> VersionMismatchError | None:
        """The service has greeted; an error if it speaks another protocol."""
        _, protocol, *more = message
        self._name = str(more[1]) if len(more) > 1 else "an earlier version"
        self._revision = revision_of(more[2:])
        if protocol == PROTOCOL_VERSION:
            return None
        return VersionMismatchError(
            f"the service speaks protocol {protocol}, this agent {PROTOCOL_VERSION}; run the same "
            "livingai in both, and restart the older one"
        )

    @property
    def is_earlier(self) -> bool:
        """Whether it may not be able to read what this agent writes."""
        return self._revision < REVISION

    def trouble(self) -> str:
        """What is to be reported of it while it is connected; "" of one of this version. An earlier
        one is replaced where that is up to us, so while it is there this is asked again and
        again."""
        theirs = f"livingai {self._name} (revision {self._revision})"
        ours = f"{__version__} (revision {REVISION})"
        if self.is_earlier:
            what = self._starter.replace_earlier(self._attempts)
            return (
                f"the service runs an earlier {theirs} than this agent, {ours}, and may not be "
                f"able to read its writes: {what}. Nothing is lost: records wait in the journal"
            )
        if self._revision > REVISION:
            return (
                f"the service runs a newer {theirs} than this agent, {ours}: restart this program "
                "with the newer one. Until then its writes are stored as before"
            )
        if self._name != __version__:
            return (
                f"the service runs livingai {self._name}, this agent {__version__}; restart the "
                "older one (the service: `livingai stop`, or whatever runs `livingai serve`)"
            )
        return ""
