"""``python -m bench.frameworks``: measure what the frameworks installed here persist with, beside
livingai; ``--help`` lists the choices.

Needs one of the environments of `make test-frameworks`; `make bench-frameworks` runs it in both.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

from rich.console import Console

from bench.frameworks.cases import CASES, Case
from bench.frameworks.measure import Run, run_case, summary_of
from bench.frameworks.side import SideError
from bench.frameworks.tables import Summary, print_case, write_pages
from bench.machine import machine_facts


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.frameworks", description=__doc__)
    add = parser.add_argument
    frameworks = tuple(dict.fromkeys(case.framework for case in CASES))
    add("--framework", action="append", choices=frameworks, help="only this; may be repeated")
    add("--case", action="append", help="only cases of this name; may be repeated")
    add("--repeat", type=int, default=3, metavar="R", help="runs of each (3)")
    add("--quick", action="store_true", help="one run, a tenth of the steps")
    add("--directory", help="where to write (a temporary directory); it decides the file system")
    add("--json", metavar="FILE", help="write all figures there too")
    add("--pages", action="store_true", help="put the tables into docs/frameworks")
    add("--from", dest="document", metavar="FILE", help="measure nothing: take what --json wrote")
    return parser.parse_args(argv)


def chosen(options: argparse.Namespace) -> list[Case]:
    """The cases that are asked for and whose framework is installed here."""
    found = []
    for case in CASES:
        wanted = not options.framework or case.framework in options.framework
        if wanted and (not options.case or case.name in options.case) and _installed(case):
            found.append(case.quick() if options.quick else case)
    return found


def _installed(case: Case) -> bool:
    try:
        metadata.version(case.distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def main() -> int:
    """Measure, print, write; 2 if a side has failed, 130 if it was interrupted: then what had been
    measured by then is there, too."""
    options = arguments()
    console, log = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = 150
    cases = chosen(options)
    if not cases:
        print("bench.frameworks: none of these frameworks is installed here", file=sys.stderr)
        return 0
    if options.document:
        machine, runs = _read(options.document, cases)
        status = 0
    else:
        machine, runs = machine_facts(options.directory), {}
        status = _measure(options, cases, runs, log)
        machine["load_1min_end"] = round(os.getloadavg()[0], 2)
    found = [(case, summary_of(of_case)) for case, of_case in runs.items()]
    for case, summary in found:
        print_case(console, case, summary)
    console.print("  ".join(f"{key}: {value}" for key, value in machine.items()), style="dim")
    if options.json:
        _write(options.json, machine, runs, found)
    if options.pages and found and not status:
        for path in write_pages(found, machine, len(runs[found[0][0]])):
            console.print(f"written: {path.name}")
    return status


def _measure(
    options: argparse.Namespace,
    cases: Sequence[Case],
    runs: dict[Case, list[Run]],
    log: Console,
) -> int:
    """Fill ``runs``, case by case and then again, so that a drift of the machine affects all
    alike; the exit status."""
    repeat = 1 if options.quick else max(1, options.repeat)
    try:
        for number in range(repeat):
            for case in cases:
                what = f"{case.framework}, {case.name}, run {number + 1} of {repeat}"
                with log.status(what):
                    run = run_case(case, options.directory, backwards=bool(number % 2))
                runs.setdefault(case, []).append(run)
    except SideError as error:
        print(f"bench.frameworks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        log.print("stopped")
        return 130
    return 0


def _read(path: str, cases: Sequence[Case]) -> tuple[dict[str, Any], dict[Case, list[Run]]]:
    """The machine, and the runs of these cases, of a file that :func:`_write` has written."""
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    known = {(case.framework, case.name): case for case in cases}
    runs: dict[Case, list[Run]] = {}
    for result in document["results"]:
        case = known.get((result["case"]["framework"], result["case"]["name"]))
        if case is not None:
            runs[replace(case, steps=result["case"]["steps"])] = result["runs"]
    return document["machine"], runs


def _write(
    path: str,
    machine: dict[str, Any],
    runs: dict[Case, list[Run]],
    found: Sequence[tuple[Case, Summary]],
) -> None:
    document = {
        "machine": machine,
        "results": [
            {
                "case": asdict(case),
                "summary": {
                    side: {name: asdict(spread) for name, spread in figures.items()}
                    for side, figures in summary.items()
                },
                "runs": runs[case],
            }
            for case, summary in found
        ],
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    sys.exit(main())
