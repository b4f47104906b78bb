"""``python -m bench.first_save FOLDER``: import livingai, save one state of 5 KB, which starts the
service, wait for the outcome, and leave it all alone for a while; the figures as JSON. Imports
nothing that livingai might import, too, before the clock runs."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from bench.cpu import cpu_seconds

#: Seconds until the service is at rest, and for how long it is then watched.
_SETTLE_S, _WATCH_S = 5.0, 5.0


def first_save(directory: str) -> dict[str, float]:
    """The figures, in this process, which has not imported livingai before."""
    began = time.perf_counter()
    from livingai import CheckpointEngine, ExecutionNode, Service, SQLiteStore

    imported = time.perf_counter()
    store = SQLiteStore(os.path.join(directory, "cold.db"))
    with CheckpointEngine(store) as engine:
        receipt = engine.save_sync(ExecutionNode("cold"), state=b"a word of many " * 340)
        saved = time.perf_counter()
        receipt.result(60)
        stored = time.perf_counter()
        figures = {
            "import_ms": (imported - began) * 1e3,
            "first_save_ms": (saved - imported) * 1e3,
            "first_outcome_ms": (stored - imported) * 1e3,
        }
        supervisor = Service(store, engine.directory.path).status().pids.supervisor
        figures.update(_service(supervisor), supervisor=supervisor)
    return figures


def _service(supervisor: int) -> dict[str, float]:
    import psutil

    top = psutil.Process(supervisor)
    pids = [top.pid, *(child.pid for child in top.children(recursive=True))]
    cpu_ms = sum(map(cpu_seconds, pids)) * 1e3
    time.sleep(_SETTLE_S)
    pids = [top.pid, *(child.pid for child in top.children(recursive=True))]
    turns, seconds = _turns(pids), sum(map(cpu_seconds, pids))
    time.sleep(_WATCH_S)
    return {
        "service_cpu_ms": cpu_ms,
        "processes": len(pids),
        "idle_pss_mb": sum(psutil.Process(p).memory_full_info().pss for p in pids) / 1e6,
        "idle_wakeups_per_s": (_turns(pids) - turns) / _WATCH_S,
        "idle_cpu_percent": (sum(map(cpu_seconds, pids)) - seconds) / _WATCH_S * 100,
    }


def _turns(pids: list[int]) -> int:
    """How often a thread of the processes has gone to sleep so far."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            for line in status.read_text(encoding="ascii", errors="replace").splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
    return total


if __name__ == "__main__":
    print(json.dumps(first_save(sys.argv[1])))
