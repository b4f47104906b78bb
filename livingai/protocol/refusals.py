"""A service that ends the connection instead of greeting."""

from __future__ import annotations

from livingai.errors import LivingAIError, ServiceError, VersionMismatchError
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_pid


def refused(error: LivingAIError, directory: StateDirectory) -> LivingAIError:
    """What to raise where the service has answered a greeting with ``error``. One of the first
    services takes a greeting that says more than its own agents' for damage: that it is of another
    version is what its user has to know, and it cannot be asked to stop."""
    if type(error) is not ServiceError:
        return error
    try:
        pid = owner_pid(directory.supervisor_lock)
    except (OSError, LivingAIError):  # out of descriptors
        pid = None
    process = f"process {pid}" if pid else "its supervisor"
    return VersionMismatchError(
        f"the service in {directory.path} does not understand this livingai's greeting ({error}): "
        f"it is of another version. End it ({process}, SIGTERM: it stores what it can read) and "
        "start the newer livingai's. Nothing is lost: records wait in the journal"
    )
