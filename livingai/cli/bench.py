"""``livingai bench``: what saving costs on this machine, with this store."""

from __future__ import annotations

import os
import secrets
import statistics
import time
from typing import Any, Final

import click
import psutil

from livingai.cli import output
from livingai.cli.live import until_stopped
from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import engine_on
from livingai.engine.engine import CheckpointEngine
from livingai.node import ExecutionNode, Status
from livingai.outcome import OutcomeStatus, Receipt
from livingai.protocol.ask import ask_service
from livingai.protocol.status import ServiceStatus
from livingai.protocol.verbs import STATUS

#: What the ids of its executions begin with.
PREFIX: Final = "livingai-bench-"
#: Executions that take turns.
_RUNS: Final = 4
_WARM_UP: Final = 20
_TIMEOUT_S: Final = 120.0


@click.command(cls=PlacedCommand)
@store_argument("store")
@click.option("--saves", type=click.IntRange(20, 1_000_000), default=1000, show_default=True,
              help="How many states are saved.")  # fmt: skip
@click.option("--size", type=click.IntRange(100, 100_000_000), default=20_000, show_default=True,
              help="Bytes of each state.")  # fmt: skip
@click.option("--every", type=click.FloatRange(0, 10_000), default=0.0, metavar="MS",
              help="Save so often; default: as fast as it goes.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def bench(store: str, saves: int, size: int, every: float, as_json: bool) -> None:
    """Measure how long save holds an agent here, and what storing takes of all processes.

    The states grow as those of an agent do, a little with each step. They are saved to STORE, as
    executions whose ids begin with livingai-bench-, which are deleted afterwards. CPU of a database
    server is not counted. `make bench` in a source tree measures much more.
    """
    prefix = f"{PREFIX}{secrets.token_hex(4)}-"
    result: dict[str, Any] | None = None
    with engine_on(store, new=True) as engine:
        try:
            with until_stopped():
                result = _measured(engine, prefix, saves, size, every / 1000)
        finally:
            engine.flush_sync()
            for number in range(_RUNS):
                engine.delete_sync(f"{prefix}{number}")
    if result is None:
        raise click.Abort
    if as_json:
        output.json_line(result)
        return
    for label, text in _lines(result):
        click.echo(f"{label:28} {text}")


def _measured(
    engine: CheckpointEngine, prefix: str, saves: int, size: int, every_s: float
) -> dict[str, Any]:
    _save(engine, prefix, _WARM_UP, size, 0.0)[-1][1].result(_TIMEOUT_S)
    pids = [os.getpid(), *_service(engine)]
    cpu, began = _cpu_s(pids), time.perf_counter()
    saved = _save(engine, prefix, saves, size, every_s)
    outcomes = [receipt.result(_TIMEOUT_S) for _, receipt in saved]
    took = time.perf_counter() - began
    pids = list({*pids, *_service(engine)})  # compressors that were started meanwhile
    used = _cpu_s(pids) - cpu
    held = sorted(hold for hold, _ in saved)
    latencies = sorted(outcome.latency_ms for outcome in outcomes)
    return {
        "store": engine.store.url,
        "saves": saves,
        "state_bytes": size,
        "held_p50_ms": statistics.median(held) * 1000,
        "held_p99_ms": _quantile(held, 0.99) * 1000,
        "stored_p50_ms": statistics.median(latencies),
        "stored_p99_ms": _quantile(latencies, 0.99),
        "met": sum(outcome.status is OutcomeStatus.MET for outcome in outcomes),
        "stored_per_s": saves / took,
        "cpu_per_save_ms": used / saves * 1000,
    }


def _save(
    engine: CheckpointEngine, prefix: str, saves: int, size: int, every_s: float
) -> list[tuple[float, Receipt]]:
    """Seconds that each save held us, and its receipt."""
    texts = [secrets.token_hex(size // 2) for _ in range(_RUNS)]
    found = []
    due = time.perf_counter()
    for step in range(saves):
        number = step % _RUNS
        state = {"step": step, "history": texts[number], "notes": ["a note"] * (step % 50)}
        node = ExecutionNode(f"{prefix}{number}", status=Status.SUCCESS)
        began = time.perf_counter()
        receipt = engine.save_sync(node, state)
        found.append((time.perf_counter() - began, receipt))
        due += every_s
        if every_s and (left := due - time.perf_counter()) > 0:
            time.sleep(left)
    return found


def _service(engine: CheckpointEngine) -> list[int]:
    """Process ids of the service's processes that can be seen here."""
    directory = engine.open_handle().directory
    status: ServiceStatus = ask_service(directory, engine.store.url, STATUS)
    pids = status.pids
    found = [pids.supervisor, pids.dispatcher, pids.reader, pids.housekeeper]
    return [pid for pid in (*found, *pids.writers, *pids.compressors) if pid]


def _cpu_s(pids: list[int]) -> float:
    total = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("store", output.printable(found["store"])),
        ("saves", f"{found['saves']} states of {output.size(found['state_bytes'])}"),
        ("save holds the agent, p50", f"{found['held_p50_ms']:.3f} ms"),
        ("p99", f"{found['held_p99_ms']:.3f} ms"),
        ("stored after, p50", f"{found['stored_p50_ms']:.1f} ms"),
        ("p99", f"{found['stored_p99_ms']:.1f} ms"),
        ("within their budget", f"{found['met'] / found['saves']:.1%}"),
        ("stored", f"{found['stored_per_s']:.0f}/s"),
        ("CPU per save, all processes", f"{found['cpu_per_save_ms']:.3f} ms"),
    ]
