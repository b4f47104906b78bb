"""A fresh directory's first outcome, and a service with nothing to do.

Each run is a process of its own (:mod:`bench.first_save`) with a new directory.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench.figures import Figures, over_runs

_ROWS = {
    "import_ms": "import of livingai, ms",
    "first_save_ms": "first save returns after, ms",
    "first_outcome_ms": "first outcome after, ms",
    "service_cpu_ms": "CPU of the service until then, ms",
    "processes": "processes of the idle service",
    "idle_pss_mb": "its memory (PSS), MB",
    "idle_wakeups_per_s": "its wake-ups per second",
    "idle_cpu_percent": "its CPU, % of a core",
}


def measure(runs: int, directory: str | None) -> list[Figures]:
    """So many runs, one after the other.

    Raises:
        RuntimeError: one failed; the message is what it printed.
    """
    found: list[Figures] = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="livingai-bench-", dir=directory) as folder:
            done = subprocess.run(
                [sys.executable, "-m", "bench.first_save", folder],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"a cold start has failed: {done.stderr.strip()}")
            figures: dict[str, Any] = json.loads(done.stdout)
            with contextlib.suppress(psutil.NoSuchProcess):  # an idle service goes by itself
                psutil.Process(figures.pop("supervisor")).wait(60)
        found.append(figures)
    return found


def report(console: Console, runs: list[Figures]) -> None:
    """A table: medians, with the least and the most."""
    table = Table(title=f"cold start and idle service, {len(runs)} runs", title_justify="left")
    table.add_column("")
    table.add_column("median", justify="right")
    table.add_column("least–most", justify="right")
    spreads = over_runs(runs)
    for key, title in _ROWS.items():
        spread = spreads[key]
        table.add_row(title, f"{spread.median:.1f}", f"{spread.least:.1f}–{spread.most:.1f}")
    console.print(table)
