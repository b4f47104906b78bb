"""The drawings of ARCHITECTURE.md, made from its tables: ``python -m docs.draw`` rewrites them.

A drawing is what lies between ``<!-- drawing: NAME -->`` and ``<!-- end of drawing -->``: a block
in the language of mermaid, which GitHub shows as a picture. ``NAME`` is ``processes``, ``layers``,
or the letter of a way (``A`` to ``E``). ``python -m docs.draw --check`` changes nothing and
ends with status 1 if a drawing is not what the tables say;
``tests/unit/package/test_architecture.py`` does the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).parent / "ARCHITECTURE.md"
_DRAWING = re.compile(r"(<!-- drawing: (\w+) -->\n)(.*?)(<!-- end of drawing -->)", re.DOTALL)
#: ``A3``, ``A3, by `x```, ``A3, by `x` / `y```, or the same and ``, set in `C.f` of `path```.
_ORIGIN = re.compile(
    r"(?P<step>[A-Z]\d+)"
    r"(?:, by `(?P<sent>\w+)`(?: / `(?P<received>\w+)`)?)?"
    r"(?:, set in `(?P<carrier>[\w.]+)` of `(?P<path>[\w./]+)`)?"
)
#: What the column of origins has at the beginning of a way.
OUTSIDE = "the program"


@dataclass(frozen=True)
class Origin:
    """From which step a function is reached. Without ``sent`` that step's function calls it; else
    they meet in what one end names ``sent`` and the other ``received``: a message, an attribute.
    ``carrier`` (in the file ``path``) is the function that hands a callback over."""

    step: str
    sent: str = ""
    received: str = ""
    carrier: str = ""
    path: str = ""

    @property
    def called(self) -> bool:
        """Whether it is a plain call."""
        return not self.sent


@dataclass(frozen=True)
class Step:
    """One row of a way."""

    name: str
    path: str
    function: str
    text: str
    process: str
    origins: tuple[Origin, ...]


def rows(text: str, *titles: str) -> list[list[str]]:
    """The cells of all rows of the tables whose header row is ``titles``."""
    header = "| " + " | ".join(titles) + " |"
    found: list[list[str]] = []
    lines = iter(text.splitlines())
    for line in lines:
        if line != header:
            continue
        next(lines)  # the rule below the header
        for row in lines:
            if not row.startswith("|"):
                break
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
            if len(cells) != len(titles):
                raise ValueError(f"{len(titles)} columns, and a row with {len(cells)}: {row}")
            found.append(cells)
    return found


def steps(text: str) -> dict[str, Step]:
    """All rows of all ways, by their names.

    Raises:
        ValueError: a row is not of the form that the document describes.
    """
    found: dict[str, Step] = {}
    titles = ("step", "file", "function", "what happens", "runs in", "reached from")
    for name, path, function, happens, process, reached in rows(text, *titles):
        if name in found or not re.fullmatch(r"[A-Z]\d+", name):
            raise ValueError(f"a step is a letter and a number, once: {name}")
        origins = () if reached == OUTSIDE else tuple(_origins(name, reached))
        found[name] = Step(name, path.strip("`"), function.strip("`"), happens, process, origins)
    return found


def _origins(name: str, reached: str) -> Iterator[Origin]:
    for part in reached.split("; "):
        match = _ORIGIN.fullmatch(part)
        if match is None:
            raise ValueError(f"step {name} is reached from {part!r}, which cannot be read")
        sent = match["sent"] or ""
        yield Origin(
            match["step"], sent, match["received"] or sent, match["carrier"] or "",
            match["path"] or "",
        )  # fmt: skip


# -- drawings -----------------------------------------------------------------------------------


def _box(name: str, *lines: str) -> str:
    return f'{name}["{"<br/>".join(lines)}"]'


def draw_way(letter: str, text: str) -> list[str]:
    """One way: a box per step, in a frame per process. An arrow is a call; a dotted arrow is a
    message, a queue or a callback, with its name."""
    everything = steps(text)
    way = [step for step in everything.values() if step.name[0] == letter]
    drawn = ["flowchart TD"]
    for number, process in enumerate(dict.fromkeys(step.process for step in way)):
        drawn.append(f'  subgraph {letter}p{number}["{process}"]')
        inside = [step for step in way if step.process == process]
        drawn += ["    " + _box(step.name, step.name, step.function) for step in inside]
        drawn.append("  end")
    before = [everything[origin.step] for step in way for origin in step.origins]
    others = dict.fromkeys(step for step in before if step.name[0] != letter)
    drawn += ["  " + _box(step.name, step.name, step.function) for step in others]
    for step in way:
        for origin in step.origins:
            arrow = "-->" if origin.called else f'-. "{origin.sent}" .->'
            drawn.append(f"  {origin.step} {arrow} {step.name}")
    return drawn


def draw_processes(text: str) -> list[str]:
    """Which process starts which, and which talk to each other, and by what."""
    found = rows(text, "process", "how many", "started by", "what it does", "talks to", "by")
    drawn = ["flowchart LR"]
    drawn += [
        "  " + _box(name.replace(" ", "_"), name, number.replace("`", ""))
        for name, number, *_ in found
    ]
    for name, _, parent, _, partner, means in found:
        me = name.replace(" ", "_")
        if any(parent == other[0] for other in found):
            drawn.append(f"  {parent.replace(' ', '_')} -->|starts| {me}")
        if any(partner == other[0] for other in found):
            drawn.append(f'  {me} <-. "{means}" .-> {partner.replace(" ", "_")}')
    return drawn


def draw_layers(text: str) -> list[str]:
    """The layers, each on those that it may import."""
    drawn = ["flowchart BT"]
    found = rows(text, "layer", "rooms and modules", "what it is")
    for number, rooms, _ in found:
        drawn.append("  " + _box(f"L{number}", number, rooms.replace("`", "")))
    for number, *_ in found[1:]:
        drawn.append(f"  L{number} --> L{int(number) - 1}")
    return drawn


def draw(name: str, text: str) -> str:
    """The block of a drawing."""
    if name == "processes":
        drawn = draw_processes(text)
    elif name == "layers":
        drawn = draw_layers(text)
    else:
        drawn = draw_way(name, text)
    return "\n".join(["```mermaid", *drawn, "```", ""])


def redrawn(text: str) -> str:
    """The document with its drawings as its tables say."""
    return _DRAWING.sub(lambda found: found[1] + draw(found[2], text) + found[4], text)


def drawings(text: str) -> list[str]:
    """The names of the drawings that the document has."""
    return [found[2] for found in _DRAWING.finditer(text)]


def main() -> int:
    """Rewrite the drawings, or with ``--check`` say whether that is needed."""
    text = DOCUMENT.read_text()
    new = redrawn(text)
    if "--check" in sys.argv[1:]:
        return int(new != text)
    if new != text:
        DOCUMENT.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
