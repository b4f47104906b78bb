"""The kinds of sources that can be imported, and what is asked of each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from livingai.engine.engine import CheckpointEngine

#: Kind, as the command line names it: the module of this folder that reads it.
KINDS: Final = {
    "langgraph-sqlite": "langgraph_sqlite",
    "langgraph-postgres": "langgraph_postgres",
    "livingai-0.4": "livingai_04",
}


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What is to be imported, and how strictly."""

    #: Only these threads; empty: all.
    threads: Sequence[str] = ()
    #: Read everything, write nothing.
    dry_run: bool = False
    #: Refuse values of types that strict deserialization would not make.
    strict: bool = False


@dataclass(slots=True)
class ImportSummary:
    """What a source has, and what of it was added to the store; what the store had already is not
    added again."""

    threads: int = 0
    namespaces: int = 0
    checkpoints: int = 0
    writes: int = 0
    added_checkpoints: int = 0
    added_writes: int = 0
    #: Checkpoints that were read back and found equal, with their writes.
    verified_checkpoints: int = 0
    #: Writes whose checkpoint the source does not have; no saver shows them, so they are left out.
    writes_without_checkpoint: int = 0
    #: Types of values that are not the framework's own, as ``module.name``: a strict serializer has
    #: to be told of them.
    types: set[str] = field(default_factory=set)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"types": sorted(self.types)}


#: Called with what is done so far, now and then.
Progress = Callable[[ImportSummary], None]


class ImportRun(Protocol):
    """The function ``run`` of a module that reads a kind of source."""

    def __call__(
        self,
        where: str,
        engine: CheckpointEngine | None,
        options: ImportOptions,
        progress: Progress,
    ) -> ImportSummary:
        """Import what is at ``where`` (a file, a DSN) with an engine, and verify it. The engine is
        None for a dry run into a store that does not exist yet.

        Raises:
            ImportSourceError: the source cannot be read, or is of another kind.
            ImportMismatchError: what was read back is not what the source has.
            LivingAIError: as the engine's methods.
        """


def load(kind: str) -> ImportRun:
    """The function that imports a kind of source. Imports its framework.

    Raises:
        FrameworkVersionError: what reads the source is not installed.
    """
    module = importlib.import_module(f"livingai.importing.{KINDS[kind]}")
    run: ImportRun = module.run
    return run
