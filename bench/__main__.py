"""``python -m bench``: run the benchmark; ``--help`` lists the choices."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

import psutil
from rich.console import Console

from bench.cold import measure as measure_cold
from bench.cold import report as print_cold
from bench.figures import Figures
from bench.machine import machine_facts
from bench.peer import langgraph_packages
from bench.reads import measure_reads
from bench.report import Results, print_comparison, print_reads, print_results, write_json
from bench.run import Setting, run_once
from bench.stores import NAMES, Target, targets
from bench.tiers import MODES, PEERS, TIERS, Peer
from livingai.errors import ConfigurationError

_SECTIONS = (*TIERS, "reads", "cold")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--tier", action="append", choices=_SECTIONS, help="only this; may be repeated")
    add("--mode", action="append", choices=MODES, help="only this; may be repeated")
    add("--repeat", type=int, default=3, metavar="R", help="runs of each (3)")
    add("--quick", action="store_true", help="one run of each, a fifth of the steps")
    add("--processes", type=int, help="agent processes (1, `fleet`: 1, 2, 4 and 8); no more than "
        "there are agents")  # fmt: skip
    add("--store", action="append", default=[], metavar="URL",
        help="measure this store, too, in turns with SQLite: a URL, or a server that is started "
        f"for it ({', '.join(NAMES[1:])}); may be repeated")  # fmt: skip
    add("--peer", action="append", choices=PEERS, help="compare closed loops with this: SQLite "
        "written by the agents themselves (sqlite, unless others are named), or LangGraph's "
        "AsyncSqliteSaver, which is installed for it; may be repeated")  # fmt: skip
    add("--no-peer", action="store_true", help="compare with nothing")
    add(
        "--no-probes",
        action="store_true",
        help="measure no lag and no bare writes, which cost the agents CPU",
    )
    add("--source", choices=("generated", "recorded"), default="generated", help="the states' text")
    add("--seed", type=int, default=1)
    add("--directory", help="where to write (a temporary directory); it decides the file system")
    add("--json", metavar="FILE", help="write all figures there too")
    return parser.parse_args()


def _settings(options: argparse.Namespace, stores: list[Target], packages: str) -> list[Setting]:
    settings: list[Setting] = []
    for name in options.tier or TIERS:
        if name not in TIERS:
            continue
        tier = TIERS[name].quick() if options.quick else TIERS[name]
        modes = [mode for mode in options.mode or MODES if mode in tier.modes]
        if not modes and options.tier:
            raise ValueError(f"tier {name} is measured in mode {' and '.join(tier.modes)} only")
        counts = [options.processes] if options.processes else tier.processes
        for processes in dict.fromkeys(max(1, min(count, tier.agents)) for count in counts):
            common = (processes, options.source, options.seed, options.directory)
            probes = not options.no_probes
            settings += [
                Setting(tier, mode, "livingai", *common, target, probes)
                for mode in modes
                for target in stores
            ]
            if "closed" in modes:
                settings += [
                    Setting(tier, "closed", peer, *common, stores[0], probes, packages)
                    for peer in _peers(options)
                ]
    return settings


def _peers(options: argparse.Namespace) -> list[Peer]:
    return [] if options.no_peer else list(dict.fromkeys(options.peer or ["sqlite"]))


def main() -> int:
    """Run what was asked for; 1 if a state was not recovered or a write has no good outcome."""
    options = _arguments()
    try:
        with contextlib.ExitStack() as stack:
            stores = stack.enter_context(targets(options.store))
            packages = ""
            if "langgraph" in _peers(options):
                packages = stack.enter_context(langgraph_packages())
            return _measure(options, stores, packages)
    except (ValueError, ConfigurationError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def _measure(options: argparse.Namespace, stores: list[Target], packages: str) -> int:
    repeat = 1 if options.quick else max(1, options.repeat)
    console, log = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = 150  # nothing is cut off in a file
    results: Results = {}
    failure = ""
    reads: Figures | None = None
    cold: list[Figures] = []
    machine = machine_facts(options.directory)
    try:
        settings = _settings(options, stores, packages)
        for tier in dict.fromkeys(setting.tier for setting in settings):
            for number in range(
                repeat
            ):  # in turns, so that a drift of the machine affects all alike
                for setting in (one for one in settings if one.tier == tier):
                    title = f"{tier.name}, {setting.name}, run {number + 1} of {repeat}"
                    with log.status(title):
                        results.setdefault(setting, []).append(run_once(setting))
        if options.tier is None or "reads" in options.tier:
            with log.status("reads"):
                rounds = 200 if options.quick else 2000
                reads = measure_reads(options.source, options.seed, options.directory, rounds)
        if options.tier is None or "cold" in options.tier:
            with log.status("cold start"):
                try:
                    cold = measure_cold(repeat, options.directory)
                except (RuntimeError, psutil.TimeoutExpired) as error:
                    failure = str(error)
    except KeyboardInterrupt:
        log.print("stopped")
        return 130
    machine["load_1min_end"] = round(os.getloadavg()[0], 2)
    print_results(console, results)
    print_comparison(console, results)
    if reads is not None:
        print_reads(console, reads)
    if cold:
        print_cold(console, cold)
    console.print("  ".join(f"{key}: {value}" for key, value in machine.items()), style="dim")
    if options.json:
        write_json(options.json, machine, results, reads, cold)
    if failure:
        console.print(f"[red]{failure}[/red]")
    return _verdict(console, results) or bool(failure)


def _verdict(console: Console, results: Results) -> int:
    """The exit status, and a sentence for each failure."""
    wrong = 0
    for setting, runs in results.items():
        for figures in runs:
            if setting.peer != "livingai":
                continue
            of = figures["recovered_of"]
            if not figures["recovered_cache"] == figures["recovered_store"] == of:
                console.print(f"[red]{setting.tier.name}: not every state was recovered[/red]")
                wrong = 1
            if figures["other_outcomes"]:
                console.print(f"[red]{setting.tier.name}: a write was not stored[/red]")
                wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
