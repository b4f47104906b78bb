"""Every error that livingai raises, in one place.

Rules:

* One base, :class:`LivingAIError`. A class that means the same as a builtin is that builtin too, so
  ``except TimeoutError`` and ``except OSError`` keep working.
* The class's docstring is its default message; a message says what happened *and* what to do.
* Errors cross process boundaries, so each one survives pickling: its only state is ``args``.

The tree. A class is caught by the name above it, and by those in brackets::

    LivingAIError
        PlatformError (ImportError)
        FrameworkVersionError (ImportError)
        ConfigurationError (ValueError)
        InvalidNodeError (ValueError)
        StateEncodingError (TypeError)
            ResultEncodingError
        StateTooLargeError (ValueError)
        DirectoryError (OSError)
            DirectoryPermissionError (PermissionError)
            DirectoryMismatchError
                StoreMismatchError (StoreError)
            FormatVersionError
            OddFileError
            DirectoryInUseError
            RecordsLeftError (StoreError)
        JournalError (OSError)
            DiskFullError
            JournalFullError (TimeoutError)
            JournalClosedError (RuntimeError)
        CorruptRecordError (ValueError)
            CorruptRowError (StoreError)
            CorruptBlobError (StoreError)
                MissingBaseError
        NotFoundError (LookupError)
            ExecutionNotFoundError
            NodeNotFoundError
        ServiceError
            ServiceUnavailableError (ConnectionError)
                ServiceStartError
            VersionMismatchError
            ServiceRunningError (RuntimeError)
            NotTheOwnerError (PermissionError)
            FlushTimeoutError (TimeoutError)
            OutcomeTimeoutError (TimeoutError)
            OutcomeUnknownError (RuntimeError)
        StoreError
            StoreUnavailableError (ConnectionError)
            StoreFormatError (ValueError)
                StoreDamagedError
            CopyConflictError (ValueError)
            StoreAuthenticationError (PermissionError)
            StoreMissingError (LookupError)
            RecordRefusedError
            FencedError (PermissionError)
        RunError (RuntimeError)
            DivergenceError
            NotAwaitedError
            InDoubtError
            AlreadyResumedError
            ReplayError
                StillBeingWrittenError (RuntimeError)
                ConsentRequiredError (PermissionError)
                NotRecordedError (LookupError)
                FunctionMissingError (LookupError)
                ReplayDivergedError (ValueError)
            RunFormatError (ValueError)
        RecordedError
        ImportSourceError (ValueError)
            UnreadableValueError
        ImportMismatchError
"""

from __future__ import annotations


class LivingAIError(Exception):
    """Something went wrong in livingai."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))

    def __str__(self) -> str:
        return str(self.args[0])


class PlatformError(LivingAIError, ImportError):
    """livingai needs Linux: its journals and its service rest on what other systems do not have.
    On macOS or Windows run it in a container or under WSL."""


class FrameworkVersionError(LivingAIError, ImportError):
    """An adapter's framework is not installed, or in a version that the adapter is not made for;
    install livingai with the framework's extra."""


# --- configuration and input ---------------------------------------------------------------------


class ConfigurationError(LivingAIError, ValueError):
    """A setting has a value that livingai cannot work with; the message names it."""


class InvalidNodeError(LivingAIError, ValueError):
    """The node cannot be stored: it needs a non-empty ``execution_id`` and valid fields."""


class StateEncodingError(LivingAIError, TypeError):
    """The state cannot be encoded; pass bytes or values that msgpack can carry."""


class StateTooLargeError(LivingAIError, ValueError):
    """The encoded state exceeds ``max_state_bytes``; raise the limit or store a smaller state."""


# --- state directory and journal -----------------------------------------------------------------


class DirectoryError(LivingAIError, OSError):
    """The state directory cannot be used."""


class DirectoryPermissionError(DirectoryError, PermissionError):
    """The state directory is not writable, or belongs to another user; choose another one with
    ``directory=``."""


class DirectoryMismatchError(DirectoryError):
    """The state directory belongs to another store; give each store a directory of its own."""


class FormatVersionError(DirectoryError):
    """The state directory was written by a newer livingai; upgrade livingai to read it."""


class OddFileError(DirectoryError):
    """Something else than a file of ours (a directory, a FIFO, a socket, a device, a symbolic link,
    a file of another user) is where a file of the state directory should be; move it away."""


class DirectoryInUseError(DirectoryError):
    """A service or a living agent uses the state directory; end them first."""


class JournalError(LivingAIError, OSError):
    """The journal could not be written."""


class DiskFullError(JournalError):
    """The disk that holds the state directory is full; free space. Everything saved before is
    kept."""


class JournalFullError(JournalError, TimeoutError):
    """The journal holds ``journal_bytes`` of records that the store has not taken yet; the store is
    too slow or down. Everything saved before is kept and will be stored."""


class JournalClosedError(JournalError, RuntimeError):
    """The engine is closed; create a new one."""


class CorruptRecordError(LivingAIError, ValueError):
    """Stored bytes do not match their checksum; they are set aside, never returned."""


# --- reading -------------------------------------------------------------------------------------


class NotFoundError(LivingAIError, LookupError):
    """Nothing is stored under that name."""


class ExecutionNotFoundError(NotFoundError):
    """No checkpoint of that execution is in the hot cache or in the store."""


class NodeNotFoundError(NotFoundError):
    """No node with that id is in the hot cache or in the store."""


# --- service and stores --------------------------------------------------------------------------


class ServiceError(LivingAIError):
    """The writer service reported an error."""


class ServiceUnavailableError(ServiceError, ConnectionError):
    """The writer service cannot be reached or started. Nothing is lost: records wait in the
    journal."""


class ServiceStartError(ServiceUnavailableError):
    """This process cannot start the writer service: nothing that it could start is a Python with
    this livingai. Name one with ``python=``, or run ``livingai serve`` beside the agents and pass
    ``service="attach"``. Nothing is lost: records wait in the journal."""


class VersionMismatchError(ServiceError):
    """Service and agent are of versions of livingai that do not understand each other; run the same
    version in both, and restart the older one. Nothing is lost: records wait in the journal."""


class ServiceRunningError(ServiceError, RuntimeError):
    """Another writer service owns this state directory; stop it first, or just use it."""


class NotTheOwnerError(ServiceError, PermissionError):
    """Only the process that writes a journal gets the outcomes of what is in it."""


class FlushTimeoutError(ServiceError, TimeoutError):
    """The barrier was not reached in time. Nothing is lost: records wait in the journal."""


class OutcomeTimeoutError(ServiceError, TimeoutError):
    """The write's outcome is not known yet. Nothing is lost: the record waits in the journal."""


class OutcomeUnknownError(ServiceError, RuntimeError):
    """This process left the service before the write's outcome was known (the engine was closed),
    or it is a fork of the process that saved. Nothing is lost: the record waits in the journal and
    will be stored."""


class StoreError(LivingAIError):
    """The store failed."""


class CorruptRowError(CorruptRecordError, StoreError):
    """What the store holds of an execution is damaged; restore it from a copy, or delete it."""


class CorruptBlobError(CorruptRecordError, StoreError):
    """A checkpoint blob does not decode to the bytes that were written."""


class MissingBaseError(CorruptBlobError):
    """A delta checkpoint's base is not there, so the delta cannot be decoded."""


class StoreUnavailableError(StoreError, ConnectionError):
    """The store cannot be reached for now; writes are retried by themselves."""


class StoreMismatchError(DirectoryMismatchError, StoreError):
    """The state directory holds accepted records for another database than the one that is at the
    store's place now; nothing is read or stored until `livingai relocate` or the right database
    settles it."""


class RecordsLeftError(DirectoryError, StoreError):
    """The database was moved and accepted records stayed behind in its old state directory; run
    `livingai relocate` to have them stored."""


class StoreFormatError(StoreError, ValueError):
    """livingai cannot use the store: it is no database, or has a schema of a newer version."""


class StoreDamagedError(StoreFormatError):
    """The database is damaged: what it holds cannot be read. Restore a backup."""


class CopyConflictError(StoreError, ValueError):
    """The target of a copy has another run under an id that is to be copied, or the run went on
    there. Two runs are never merged: copy to another store."""


class StoreAuthenticationError(StoreError, PermissionError):
    """The store refuses this user: check user name, password and rights."""


class StoreMissingError(StoreError, LookupError):
    """The server has no such database; create it, or correct the URL."""


class RecordRefusedError(StoreError):
    """The store refuses this record for good; it is quarantined."""


class FencedError(StoreError, PermissionError):
    """A newer owner has taken this execution over; this process may no longer write to it."""


# --- recorded runs -------------------------------------------------------------------------------


class RunError(LivingAIError, RuntimeError):
    """A recorded run was used in a way that it cannot reproduce."""


class DivergenceError(RunError):
    """The program makes other calls than the ones that are recorded for this run. Resume it with
    the program that began it, or give the changed program an execution id of its own."""


class NotAwaitedError(RunError):
    """A recorded call of an asynchronous run was made and never awaited, so nothing was done: write
    ``await`` before it."""


class InDoubtError(RunError):
    """A tool was called before the crash and its result is not recorded: it may or may not have
    happened. Pass ``resolver=`` to decide; see docs/RECOVERY.md."""

    def __init__(self, message: str | None = None, node_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.args = (*self.args, node_ids)

    @property
    def node_ids(self) -> tuple[str, ...]:
        """The nodes in doubt."""
        return tuple(self.args[1])


class AlreadyResumedError(RunError):
    """The paused run was resumed before, and its approvals were used by that: they count once. If
    whoever resumed it has died, say explicitly that it may be resumed again."""


class ResultEncodingError(StateEncodingError):
    """The result of a recorded call cannot be encoded, so a resumed run could not be given it;
    return plain values (:func:`livingai.serial.pack` lists them)."""


class RecordedError(LivingAIError):
    """A recorded call failed with an exception that cannot be made again in this process as it was.
    What is raised is also of the nearest base classes that are loaded; see docs/RECOVERY.md."""

    def __init__(self, message: str | None = None, type_name: str = "") -> None:
        super().__init__(message)
        self.args = (*self.args, type_name)

    @property
    def type_name(self) -> str:
        """Name of the exception's type, as it was recorded."""
        return str(self.args[1])


# --- replay --------------------------------------------------------------------------------------


class ReplayError(RunError):
    """The execution cannot be replayed like this."""


class StillBeingWrittenError(ReplayError, RuntimeError):
    """A live process is still writing this execution; replay it once it has ended, or pass
    ``allow_live=True``."""


class ConsentRequiredError(ReplayError, PermissionError):
    """Going on would call a tool that may have side effects; pass ``allow_side_effects=True`` if it
    may really be called."""


class NotRecordedError(ReplayError, LookupError):
    """The replay asks for a tool's result that the record does not hold."""


class FunctionMissingError(ReplayError, LookupError):
    """The record names a function that was not given to the replay."""


class ReplayDivergedError(ReplayError, ValueError):
    """The replay differs from the record, and ``strict=True`` forbids that."""


class RunFormatError(RunError, ValueError):
    """A file of recorded runs cannot be used: expected JSON lines, each with ``messages``."""


# --- import --------------------------------------------------------------------------------------


class ImportSourceError(LivingAIError, ValueError):
    """What is to be imported cannot be read; the message says why. Nothing in it was changed."""


class UnreadableValueError(ImportSourceError):
    """A value of the source cannot be taken over as it is."""


class ImportMismatchError(LivingAIError):
    """What was read back from the store is not what the source has."""
