"""Exit statuses of the service's processes, for the processes that start them."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a supervisor or a dispatcher ended. A negative number is the signal that killed it; 2 is
    Python's own, for a command line that it does not understand."""

    #: In order: everything was stored, or no process needed it any more.
    DONE = 0
    #: It gave up, or could not begin; service.log says why.
    FAILED = 1
    #: Another service owns the state directory.
    RUNNING = 3
    #: It was asked to end before the store had everything; the rest waits in the state directory.
    RECORDS_LEFT = 4
