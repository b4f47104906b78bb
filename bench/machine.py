"""Facts about the machine that figures depend on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil


def machine_facts(directory: str | None) -> dict[str, Any]:
    """What the figures were measured on; ``directory`` is where the benchmark writes."""
    import apsw

    import livingai

    place = os.path.realpath(directory or tempfile.gettempdir())
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "cpu_model": _cpu_model(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_1min": round(os.getloadavg()[0], 2),
        "system": platform.system(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "sqlite": apsw.sqlite_lib_version(),
        "livingai": livingai.__version__,
        "file_system": _file_system(place),
    }


def _commit() -> str:
    """Of this clone, "+" behind it if files were changed since; "unknown" elsewhere."""
    here = Path(__file__).parent
    command = ("git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def _file_system(place: str) -> str:
    """The type of the file system that holds ``place``."""
    found = [
        part
        for part in psutil.disk_partitions(all=True)
        if os.path.commonpath([place, part.mountpoint]) == part.mountpoint
    ]
    return max(found, key=lambda part: len(part.mountpoint)).fstype if found else "unknown"
