"""All that was measured, and the JSON document of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.curves import median_of
from bench.figures import Figures, Spread, over_runs
from bench.run import Measured
from bench.setting import Setting
from livingai.stores.opening import open_store

Results = dict[Setting, list[Measured]]
Document = dict[str, Any]


#: Options whose values are paths of this machine.
_PATHS: Final = ("--directory", "--json", "--report")


def command_of(argv: Sequence[str]) -> str:
    """The command that measures the same again, without paths of this machine and passwords."""
    kept: list[str] = []
    left = iter(argv)
    for argument in left:
        option, equals, value = argument.partition("=")
        if option in _PATHS:
            if not equals:
                next(left, None)
        elif equals and "://" in value:
            kept.append(f"{option}={open_store(value).url}")
        else:
            kept.append(open_store(argument).url if "://" in argument else argument)
    arguments = shlex.join(kept)
    return f'make bench ARGS="{arguments}"' if arguments else "make bench"


def document_of(
    command: str,
    machine: dict[str, Any],
    results: Results,
    reads: Figures | None,
    cold: list[Figures],
) -> Document:
    """All figures of all runs, their medians and ranges, the machine, and the command."""
    return {
        "command": command,
        "machine": machine,
        "results": [
            {
                "setting": _setting(setting),
                "summary": {name: asdict(spread) for name, spread in summary_of(runs).items()},
                "curves": median_of([run.curves for run in runs]),
                "runs": [run.figures for run in runs],
            }
            for setting, runs in results.items()
        ],
        "reads": reads,
        "cold": {name: asdict(spread) for name, spread in over_runs(cold).items()}
        if cold
        else None,
    }


def summary_of(runs: Sequence[Measured]) -> dict[str, Spread]:
    """Median and range of each figure."""
    return over_runs([run.figures for run in runs])


def read(path: str | Path) -> Document:
    """A document that :func:`write` has written.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none.
    """
    document = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(document, dict) or not {"machine", "results"} <= document.keys():
        raise ValueError(f"{path} has no results of the benchmark")
    return document


def _setting(setting: Setting) -> dict[str, Any]:
    """Without paths of this machine, and without URLs, which may have passwords."""
    return {
        "column": setting.name,
        "tier": asdict(setting.tier),
        "mode": setting.mode,
        "peer": setting.peer,
        "store": setting.target.name,
        "stop": setting.stop,
        "processes": setting.processes,
        "source": setting.source,
        "seed": setting.seed,
        "budget_ms": setting.budget_ms,
    }


def write(path: str | Path, document: Document) -> None:
    """Write a document. Raises OSError."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
