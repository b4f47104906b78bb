"""What a workflow's checkpoint holds, as plain values and back; without pickle.

Plain values (:func:`livingai.serial.pack` lists them) stay what they are. An object becomes::

    {"livingai:type": "<module>:<class>", "value": <plain values>}

==================================== ===========================================
object                               its value
==================================== ===========================================
member of an enum                    its name
has ``to_dict()`` and ``from_dict``  what ``to_dict()`` gives
pydantic model                       its fields
dataclass                            its fields
==================================== ===========================================

Only classes that the reader knows are made again: data of Agent Framework itself, such as messages,
and those that the program has named. Nothing is imported, and no other code is called, because a
stored value names it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from agent_framework import WorkflowCheckpointException, WorkflowEvent
from pydantic import BaseModel

from livingai.asked import shown
from livingai.errors import ConfigurationError

_TYPE: Final = "livingai:type"
_VALUE: Final = "value"
#: A dict that has the key above itself, as a list of pairs.
_DICT: Final = "dict"
#: Modules of Agent Framework whose classes are data; those of agents, clients and tools are not.
_DATA: Final = ("agent_framework._types.", "agent_framework._sessions.")
#: As above, for dataclasses, enums and events only: there are executors, too.
_WORKFLOWS: Final = ("agent_framework._workflows.", "agent_framework_orchestrations.")
_CONTAINERS: Final = (list, tuple)


class CheckpointValues:
    """Encodes and decodes; ``types`` are the program's own classes that may be made again.

    Raises:
        ConfigurationError: one of them is no class, or one that cannot be encoded.
    """

    def __init__(self, types: Iterable[type] = ()) -> None:
        self._types: dict[str, type] = {}
        for each in types:
            if not isinstance(each, type) or not _is_known_kind(each):
                raise ConfigurationError(
                    f"allowed_types are enums, dataclasses, pydantic models and classes with "
                    f"to_dict() and from_dict(), not {shown(each)}"
                )
            self._types[_key(each)] = each

    def encode(self, value: Any, place: str) -> Any:
        """``value`` as plain values; ``place`` says in errors what it is.

        Raises:
            WorkflowCheckpointException: it holds what cannot be encoded; the message says where.
        """
        kind = type(value)
        if kind is dict:
            if _TYPE in value:
                pairs = [
                    [key, self.encode(each, f"{place}[{key!r}]")] for key, each in value.items()
                ]
                return {_TYPE: _DICT, _VALUE: pairs}
            return {key: self.encode(each, f"{place}[{key!r}]") for key, each in value.items()}
        if kind in _CONTAINERS:
            return kind(self.encode(each, f"{place}[{n}]") for n, each in enumerate(value))
        if not _is_known_kind(kind):
            return value  # plain, or refused by what packs it
        if self._class(_key(kind)) is not kind:
            raise WorkflowCheckpointException(
                f"{place} is a {_key(kind)}, which could not be read again: name the class, "
                "LivingAICheckpointStorage(engine, allowed_types=[...]); it has to be at the top "
                "level of its module or named there"
            )
        return {_TYPE: _key(kind), _VALUE: self.encode(_parts(value, place), place)}

    def decode(self, value: Any) -> Any:
        """Inverse of :meth:`encode`.

        Raises:
            WorkflowCheckpointException: it names a class that is not known here, or one that does
                not take its value.
        """
        kind = type(value)
        if kind in _CONTAINERS:
            return kind(map(self.decode, value))
        if kind is not dict:
            return value
        if _TYPE not in value:
            return {key: self.decode(each) for key, each in value.items()}
        name, inner = value[_TYPE], value.get(_VALUE)
        try:
            if name == _DICT:
                return {key: self.decode(each) for key, each in inner}
            found = self._class(name)
            if found is not None:
                return self._make(found, self.decode(inner))
        except WorkflowCheckpointException:
            raise
        except Exception as error:
            raise WorkflowCheckpointException(
                f"the stored {shown(name)} is not one of this version: {shown(error)}"
            ) from error
        raise WorkflowCheckpointException(
            f"the checkpoint holds a {shown(name)}, which is not known here: name the class, "
            "LivingAICheckpointStorage(engine, allowed_types=[...]), and import its module"
        )

    def _class(self, name: object) -> type | None:
        """The class that a value names, if it may be made."""
        if not isinstance(name, str):
            return None
        if name in self._types:
            return self._types[name]
        module, _, path = name.partition(":")
        if not f"{module}.".startswith(_DATA + _WORKFLOWS):
            return None
        found = vars(sys.modules[module]).get(path) if module in sys.modules else None
        if not isinstance(found, type) or _key(found) != name:
            return None
        if f"{module}.".startswith(_DATA):
            return found if _is_known_kind(found) else None
        is_data = issubclass(found, Enum | WorkflowEvent) or dataclasses.is_dataclass(found)
        return found if is_data else None

    def _make(self, kind: Any, value: Any) -> Any:
        if issubclass(kind, Enum):
            return kind[value]
        if issubclass(kind, WorkflowEvent):
            names = {
                f"{each.__module__}.{each.__qualname__}": each for each in self._types.values()
            }
            return kind.from_dict(value, allowed_types=names)
        if _has_dicts(kind):
            return kind.from_dict(value)
        if issubclass(kind, BaseModel):
            return kind.model_validate(value)
        fields = {field.name: field for field in dataclasses.fields(kind)}
        made = kind(**{name: each for name, each in value.items() if fields[name].init})
        for name, each in value.items():
            if not fields[name].init:
                object.__setattr__(made, name, each)
        return made


def _parts(value: Any, place: str) -> Any:
    if isinstance(value, Enum):
        return value.name
    if _has_dicts(type(value)):
        try:
            return dict(value.to_dict())
        except Exception as error:
            raise WorkflowCheckpointException(
                f"{place}: to_dict() of a {type(value).__name__} failed: {shown(error)}"
            ) from error
    if isinstance(value, BaseModel):
        return dict(value)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _is_known_kind(kind: type) -> bool:
    return issubclass(kind, Enum | BaseModel) or dataclasses.is_dataclass(kind) or _has_dicts(kind)


def _has_dicts(kind: Any) -> bool:
    return callable(getattr(kind, "to_dict", None)) and callable(getattr(kind, "from_dict", None))


def _key(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def fields_of(found: object) -> Mapping[str, Any]:
    """What an entry holds of a checkpoint.

    Raises:
        WorkflowCheckpointException: another program has written it.
    """
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise WorkflowCheckpointException(
            f"a checkpoint is a dict of its fields, not {shown(found)}: another program wrote it"
        )
    return found
