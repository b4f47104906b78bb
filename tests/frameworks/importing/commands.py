"""Running ``livingai import`` to its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.agents import environment
from tests.support.patience import patience
from tests.support.place import Place

#: State directories do not know as whom to connect.
AS_POSTGRES = {"PGUSER": "postgres"}


def run_import(
    place: Place,
    kind: str,
    source: Path | str,
    *options: str,
    store: Path | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Import into the place's state directory, or another store."""
    target = place.directory.path if store is None else store
    place.directory.ensure(place.store().url)
    command = [
        sys.executable, "-W", "ignore", "-m", "livingai.cli", "import", "--from", kind,
        str(source), str(target), *options,
    ]  # fmt: skip
    return subprocess.run(
        command, env=environment(**{**AS_POSTGRES, **(env or {})}), cwd=place.folder,
        capture_output=True, text=True, timeout=patience(120), check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def imported(place: Place, kind: str, source: Path | str, *options: str) -> dict[str, Any]:
    """Import; the summary of what was done."""
    told = run_import(place, kind, source, *options, "--json")
    assert told.returncode == 0, told.stderr
    summary: dict[str, Any] = json.loads(told.stdout)
    return summary
