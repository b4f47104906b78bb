"""The demo from its beginning to its end; exit status 0 only if nothing was lost."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator

from rich.console import Console

from livingai.demo.agent import digest
from livingai.demo.crew import Broken, Crew
from livingai.demo.faults import Faults
from livingai.demo.interrupts import ignore_interrupts, interrupts_held, stop_on_terminate
from livingai.demo.runs import choose_runs
from livingai.demo.screen import Screen, print_table, quantile
from livingai.demo.verify import Digests, by_latest, from_database, in_new_process
from livingai.errors import LivingAIError
from livingai.service.service import Service
from livingai.stores.sqlite import SQLiteStore

_BUDGET_MS = 50
#: No state for so long means that something hangs.
_STALLED_S = 30.0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 86_400:
        raise argparse.ArgumentTypeError("must be more than 0")
    return seconds


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m livingai.demo",
        description="Agents in several processes checkpoint their runs to SQLite. Meanwhile an "
        "agent process, a compressor and the writer are killed with SIGKILL.",
    )
    add = parser.add_argument
    add("--agents", type=_count, default=50, help="how many agents (50)")
    add("--processes", type=_count, default=5, help="in how many processes (5)")
    add("--seconds", type=_seconds, default=8.0, help="how long an agent's run takes, about (8)")
    add("--runs", metavar="FILE", help='JSON lines with "messages", .gz or not, to be the runs')
    add("--directory", metavar="DIR", help="work there, and leave what is there at the end")
    add("--keep", action="store_true", help="leave the temporary directory")
    add("--seed", type=int, default=1, help="of made-up runs and of the pace (1)")
    return parser.parse_args()


@contextlib.contextmanager
def _place(options: argparse.Namespace, console: Console) -> Iterator[str]:
    """The directory to work in."""
    if options.directory:
        os.makedirs(options.directory, exist_ok=True)
        yield os.path.abspath(options.directory)
        return
    directory = tempfile.mkdtemp(prefix="livingai-demo-")
    try:
        yield directory
    finally:
        if options.keep:
            console.print(f"kept: {directory}", highlight=False, soft_wrap=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)


class Demo:
    """One run of the demo in ``directory``."""

    def __init__(self, options: argparse.Namespace, directory: str, console: Console) -> None:
        self._console = console
        self._options = options
        self._database = os.path.join(directory, "demo.db")
        runs, self._source = choose_runs(options.runs, options.agents, options.seed)
        stamp = time.strftime("%Y%m%dT%H%M%S")  # the directory may hold an earlier demo's runs
        self._runs = [run.renamed(f"{stamp}-{run.execution_id}") for run in runs]
        self._began = time.monotonic()

    def run(self) -> list[str]:
        """Do it all; what was not right, as sentences."""
        self._console.print(f"{len(self._runs)} agents: {self._source}", highlight=False)
        service = Service(SQLiteStore(self._database))
        with contextlib.ExitStack() as stack:
            # Undone in the opposite order; after an error what is queued is not waited for.
            stack.callback(service.stop, drain=False)
            with interrupts_held():
                service.start()
            options = self._options
            crew = Crew(
                self._database, self._runs, min(options.processes, options.agents),
                options.seconds, options.seed,
            )  # fmt: skip
            stack.callback(crew.close)
            stack.callback(ignore_interrupts)
            faults = Faults(crew, service)
            self._watch(crew, faults)
            counts = service.status().outcomes
            executions = list(crew.runs)
            cached = in_new_process(by_latest, self._database, executions)
            service.stop(drain=True)
            stored = in_new_process(from_database, self._database, executions)
        self._summary(crew, faults, counts, cached, stored)
        return _judge(crew, faults, counts, cached, stored)

    def _watch(self, crew: Crew, faults: Faults) -> None:
        """Follow the agents until all runs have ended."""
        moved_at, seen = time.monotonic(), -1
        with Screen(self._console, crew.total_steps) as screen:
            while crew.workers:
                for text in crew.watch(0.1):
                    screen.say(text)
                for text in faults.turn():
                    screen.say(text)
                screen.show(crew.done_steps)
                if crew.saves != seen:
                    moved_at, seen = time.monotonic(), crew.saves
                elif time.monotonic() - moved_at > max(_STALLED_S, 3 * self._options.seconds):
                    raise Broken("the agents wait, and nothing was saved for a long time")

    def _summary(
        self, crew: Crew, faults: Faults, counts: dict[str, int], cached: Digests, stored: Digests
    ) -> None:
        """Print the table."""
        total = len(crew.runs)
        met = sum(ms <= _BUDGET_MS for ms in crew.latency_ms) / max(1, len(crew.latency_ms))
        outcomes = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        newer = f" ({crew.newer} of them at one that was just being saved)" if crew.newer else ""
        held_ms = [us / 1000 for us in crew.held_us]
        held = f"{quantile(held_ms, 0.5):.3f} / {quantile(held_ms, 0.99):.3f} ms"
        resumed = f"{crew.resumed} of {len(crew.taken_over)} agents"
        print_table(
            self._console,
            [
                ("saves", f"{crew.saves}, {crew.total_steps} of them with a state"),
                ("agent held, p50 / p99", held),
                ("outcomes", outcomes),
                (f"stored within {_BUDGET_MS} ms", f"{100 * met:.1f} %"),
                ("killed with SIGKILL", ", ".join(faults.done)),
                ("taken over", f"{resumed} at the last acknowledged state{newer}"),
                ("  from the hot cache", str(crew.from_cache)),
                ("recovered, by latest", f"{_equal(crew, cached)} of {total} with equal bytes"),
                ("recovered, from SQLite", f"{_equal(crew, stored)} of {total} with equal bytes"),
                ("time", f"{time.monotonic() - self._began:.1f} s"),
            ],
        )


def _equal(crew: Crew, found: Digests) -> int:
    """How many executions have exactly the state that their runs end with."""
    last = {name: digest(run.state(len(run.messages) - 1)) for name, run in crew.runs.items()}
    return sum(found.get(name) == known for name, known in last.items())


def _judge(
    crew: Crew, faults: Faults, counts: dict[str, int], cached: Digests, stored: Digests
) -> list[str]:
    """What was wrong, as sentences; empty if nothing was."""
    wrong = []
    total = len(crew.runs)
    for found, where in ((cached, "`latest` gives"), (stored, "The database holds")):
        if unequal := total - _equal(crew, found):
            wrong.append(f"{where} another final state than was saved, {unequal} of {total} times.")
    if unfinished := crew.unfinished():
        wrong.append(f"{len(unfinished)} agents did not come to the end of their runs.")
    if len(faults.done) < faults.planned:
        wrong.append("Not every process that should have been killed was.")
    if crew.resumed != len(crew.taken_over):
        wrong.append(f"Of {len(crew.taken_over)} agents only {crew.resumed} were taken over.")
    # Killed agents receive no outcomes, so the counts are the service's.
    written = counts.get("met", 0) + counts.get("late", 0)
    if written != sum(counts.values()):
        wrong.append(f"Not every write was stored: {counts}.")
    # A killed agent's last write may be stored although its parent has no report of it.
    if not crew.saves <= written <= crew.saves + len(crew.taken_over):
        wrong.append(f"{crew.saves} saves were acknowledged, but {written} writes were stored.")
    return wrong


def main() -> int:
    """Run the demo; the exit status."""
    options = _arguments()
    console = Console()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop_on_terminate()
        with _place(options, console) as directory:
            wrong = Demo(options, directory, console).run()
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    except (Broken, LivingAIError, OSError) as error:
        wrong = [str(error)]
    for sentence in wrong:
        console.print(f"FAILED: {sentence}", style="red", highlight=False, soft_wrap=True)
    if not wrong:
        console.print("Nothing was lost.", style="green")
    return 1 if wrong else 0
