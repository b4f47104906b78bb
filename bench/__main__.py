"""``python -m bench``: run the benchmark; ``--help`` lists the choices."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys

import psutil
from rich.console import Console

from bench.cold import measure as measure_cold
from bench.cold import report as print_cold
from bench.figures import Figures
from bench.machine import machine_facts
from bench.peers.ready import Ready, get_ready
from bench.plan import arguments, peers_of, probed_of, runs_of, settings_of
from bench.reads import measure_reads
from bench.report.writing import write_report
from bench.results import Results, command_of, document_of, write
from bench.run import Measured, run_once
from bench.setting import Setting
from bench.stores import Target, targets
from bench.tables import print_comparison, print_reads, print_results
from livingai.errors import ConfigurationError


def main() -> int:
    """Run what was asked for; 1 if a state was not recovered or a write has no good outcome."""
    options = arguments()
    if options.report and importlib.util.find_spec("matplotlib") is None:
        _say("--report needs matplotlib: pip install 'livingai[bench]'")
        return 2
    try:
        with contextlib.ExitStack() as stack:
            stores = stack.enter_context(targets(options.store))
            running = {target.name: target.server for target in stores if target.server}
            peers = get_ready(peers_of(options), running, stack, _say)
            return _measure(options, stores, peers)
    except (ValueError, ConfigurationError) as error:
        _say(str(error))
        return 2


def _run_all(options: argparse.Namespace, settings: list[Setting], log: Console) -> Results:
    """Tier by tier; in turns within a tier, so that a drift of the machine affects all alike."""
    results: Results = {}
    for tier in dict.fromkeys(setting.tier for setting in settings):
        runs = runs_of(options, tier)
        chosen = [setting for setting in settings if setting.tier == tier]
        for number in range(runs):
            for setting in chosen:
                with log.status(f"{tier.name}, {setting.name}, run {number + 1} of {runs}"):
                    results.setdefault(setting, []).append(run_once(setting))
        for setting in probed_of(options, chosen):
            with log.status(f"{tier.name}, {setting.name}, with probes"):
                results[setting].append(_probed(run_once(setting.probed())))
    return results


#: What is taken from a run with probes, which cost the agents CPU.
_OF_PROBES = ("bare_", "lag_", "idle_lag_", "held_to_bare", "recovered_", "other_outcomes")


def _probed(measured: Measured) -> Measured:
    kept = {name: value for name, value in measured.figures.items() if name.startswith(_OF_PROBES)}
    return Measured(kept, {})


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr)


def _measure(options: argparse.Namespace, stores: list[Target], peers: list[Ready]) -> int:
    console, log = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = 150  # nothing is cut off in a file
    failure = ""
    reads: Figures | None = None
    cold: list[Figures] = []
    machine = machine_facts(options.directory)
    try:
        results = _run_all(options, settings_of(options, stores, peers), log)
        if options.tier is None or "reads" in options.tier:
            with log.status("reads"):
                rounds = 200 if options.quick else 2000
                reads = measure_reads(options.source, options.seed, options.directory, rounds)
        if options.tier is None or "cold" in options.tier:
            with log.status("cold start"):
                try:
                    runs = 1 if options.quick else options.repeat or 3
                    cold = measure_cold(runs, options.directory)
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
    document = document_of(command_of(sys.argv[1:]), machine, results, reads, cold)
    if options.json:
        write(options.json, document)
    if options.report:
        console.print(f"report: {write_report(options.report, document)}")
    if failure:
        console.print(f"[red]{failure}[/red]")
    return _verdict(console, results) or bool(failure)


def _verdict(console: Console, results: Results) -> int:
    """The exit status, and a sentence for each failure."""
    wrong = 0
    for setting, runs in results.items():
        for figures, _ in runs:
            if setting.peer:
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
