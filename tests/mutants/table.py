"""The tables of deliberate faults."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
_REQUIRED = {"name": str, "file": str, "old": str, "new": str, "tests": list}
_OPTIONAL = {"survives": str}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: in ``file`` (relative to the repository), ``old`` becomes ``new``."""

    room: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    #: Why no test can notice it; "" for all others.
    survives: str = ""

    @property
    def title(self) -> str:
        return f"{self.room}/{self.name}"

    def applied(self, text: str) -> str:
        """The faulty text of the module.

        Raises:
            ValueError: ``old`` is not there exactly once.
        """
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.title}: its old text is in {self.file} {count} times, not once"
            )
        return text.replace(self.old, self.new)


def load(folder: Path = FOLDER) -> list[Mutant]:
    """All mutants, by table and in their order there.

    Raises:
        ValueError: an entry lacks a field, has one too many or of a wrong type, or a name is given
            twice.
    """
    found: list[Mutant] = []
    for path in sorted(folder.glob("*.toml")):
        names = set()
        for entry in tomllib.loads(path.read_text()).get("mutant", ()):
            mutant = _mutant(path.stem, entry)
            if mutant.name in names:
                raise ValueError(f"{mutant.title} is there twice")
            names.add(mutant.name)
            found.append(mutant)
    return found


def _mutant(room: str, entry: dict[str, object]) -> Mutant:
    known = _REQUIRED | _OPTIONAL
    what = f"{room}/{entry.get('name')}"
    for key in sorted(_REQUIRED.keys() - entry.keys()):
        raise ValueError(f"{what} has no {key}")
    for key, value in entry.items():
        if key not in known or not isinstance(value, known[key]):
            raise ValueError(f"{what}: {key} is unknown or of a wrong type")
    return Mutant(room=room, **{**entry, "tests": tuple(entry["tests"])})  # type: ignore[arg-type]
