"""``python -m bench.commits``: what a store's ``commit`` alone costs, without agents and service.

Every row is a step of an execution of its own with an encoded state of so many bytes, each but
every eighth a delta of the one before. CPU time is that of this process, which has the driver, and
of the server where one is started for it (``--store valkey``, ``redis``, ``postgres``).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Final

import psutil
from rich.console import Console
from rich.table import Table

from bench.cpu import cpu_seconds
from bench.stores import NAMES, Target, targets
from livingai import ExecutionNode, NodeType, Status
from livingai.codecs import content_hash
from livingai.serial import pack
from livingai.stores.base import Row, RowStatus

#: Rows of a commit, commits, and bytes of each state.
_BATCHES: Final = ((1, 400, 700), (50, 60, 700), (50, 60, 5000))
_WHOLE_EVERY: Final = 8
#: Of the commits, so many come before the clock.
_WARM_UP: Final = 0.2


def _batches(
    executions: int, commits: int, state_bytes: int, rng: random.Random
) -> Iterator[list[Row]]:
    """Commits of one step of each execution."""
    before = [b""] * executions  # hashes of the states
    for step in range(commits):
        rows = []
        for number in range(executions):
            node = ExecutionNode(
                f"agent-{number:04d}", NodeType.PROMPT, Status.SUCCESS,
                output=f"the answer of step {step}", metadata={"step": step},
            )  # fmt: skip
            wire, blob = node.to_wire(), b"\1" + rng.randbytes(state_bytes)
            base = before[number] if step % _WHOLE_EVERY else None
            before[number] = content_hash(blob)
            row = Row(
                node.execution_id, node.id, f"claim-{number}", 0, step + 1, wire, blob, 1,
                3 * state_bytes, time.time(), base, before[number], packed=pack(wire),
            )  # fmt: skip
            rows.append(row)
        yield rows


def _server_pids() -> list[int]:
    """The servers that were started for this run, and what they have started."""
    return [child.pid for child in psutil.Process().children(recursive=True)]


def measure(
    target: Target, executions: int, commits: int, state_bytes: int, seed: int
) -> tuple[float, float, float]:
    """CPU time of client and server, and wall time, per row in microseconds.

    Raises:
        RuntimeError: a row was not stored.
    """
    batches = list(_batches(executions, commits, state_bytes, random.Random(seed)))
    first = int(commits * _WARM_UP)
    client = server = 0.0
    wall: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="livingai-bench-") as directory,
        target.fresh(directory) as store,
        store,
    ):
        for rows in batches[:first]:
            store.commit(rows)
        pids = _server_pids()
        server -= sum(map(cpu_seconds, pids))
        for rows in batches[first:]:
            began, cpu = time.perf_counter(), cpu_seconds(os.getpid())
            results = store.commit(rows)
            client += cpu_seconds(os.getpid()) - cpu
            wall.append(time.perf_counter() - began)
            if any(result.status != RowStatus.STORED for result in results):
                raise RuntimeError(f"{target.name}: a row was not stored: {results}")
        server += sum(map(cpu_seconds, pids))
    rows_in_all = executions * len(wall)
    per_row = 1e6 / executions
    return client * 1e6 / rows_in_all, server * 1e6 / rows_in_all, statistics.median(wall) * per_row


def main() -> int:
    """Measure what was asked for, in turns."""
    parser = argparse.ArgumentParser(prog="python -m bench.commits", description=__doc__)
    parser.add_argument("--store", action="append", default=[], metavar="URL",
        help=f"this store, too: a URL, or one of {', '.join(NAMES[1:])}")  # fmt: skip
    parser.add_argument("--repeat", type=int, default=3, metavar="R")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    table = Table(title=f"µs per row, medians of {options.repeat} (seed {options.seed})")
    for name in ("store", "rows", "bytes", "CPU, client", "CPU, server", "time"):
        table.add_column(name, justify="left" if name == "store" else "right")
    try:
        with targets(options.store) as stores:
            for batch in _BATCHES:
                found: dict[str, list[tuple[float, float, float]]] = {}
                for _ in range(options.repeat):
                    for target in stores:
                        found.setdefault(target.name, []).append(
                            measure(target, *batch, options.seed)
                        )
                for name, runs in found.items():
                    medians = [f"{statistics.median(each):.0f}" for each in zip(*runs, strict=True)]
                    table.add_row(name, str(batch[0]), str(batch[2]), *medians)
    except ValueError as error:
        print(f"bench.commits: {error}", file=sys.stderr)
        return 2
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
