"""Following the outcomes of a state directory from service to service (``livingai tail``)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from livingai.errors import ServiceError, ServiceUnavailableError
from livingai.inspection.directories import DirectoryView
from livingai.protocol.verbs import WATCH
from livingai.protocol.watched import MAX_WAIT_S, WatchedOutcome

#: Seconds that a service has beyond those which the question may wait.
_PATIENCE_S: Final = 5.0
#: Seconds between two looks for a service, while there is none.
_LOOK_S: Final = 0.2


class Gap:
    """Outcomes that are not shown; ``what`` says which and why."""

    def __init__(self, what: str) -> None:
        self.what = what


def follow(view: DirectoryView) -> Iterator[WatchedOutcome | Gap]:
    """The outcomes of all agents from now on, without end; where there is no service, those of the
    next one. What cannot be shown is said by a :class:`Gap`.

    Raises:
        ServiceError: the service is of an earlier version, which cannot be watched.
    """
    life, number = "", -1
    away = False
    while True:
        try:
            # The first answer comes at once: what is asked for is what comes from then on.
            page = view.ask(
                WATCH, number, MAX_WAIT_S if life else 0.0, timeout_s=MAX_WAIT_S + _PATIENCE_S
            )
        except ServiceUnavailableError:
            if not away:
                yield Gap("no service runs; what the next one stores at once is not shown")
            life, number, away = "", -1, True
            time.sleep(_LOOK_S)
            continue
        except ServiceError as error:
            if life:  # another dispatcher, which has not come so far
                life, number = "", -1
                yield Gap("the service was restarted; outcomes of the time between are not shown")
                continue
            if "does not know the request" in str(error):
                raise ServiceError(
                    f"the service in {view.path} is of an earlier livingai, which cannot be "
                    "watched: restart it with this version"
                ) from error
            raise
        if life and page.life != life:
            yield Gap("the service was restarted; outcomes of the time between are not shown")
            life, number = "", -1
            continue
        if page.missed:
            yield Gap(f"{page.missed} outcomes came faster than they were read, and are not shown")
        life, number, away = page.life, page.number, False
        yield from page.outcomes
