"""A record as the database has it, byte for byte, and the runs that tests replay."""

from __future__ import annotations

import gzip
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from livingai.adapters.messages import RecordedRun, read_runs
from livingai.demo.generator import make_run
from livingai.demo.runs import recorded_files

_TABLES = ("executions", "owners", "nodes", "checkpoints")


def rows_of(database: Path, execution: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of an execution in every table, blobs included."""
    with closing(apsw.Connection(str(database))) as connection:
        rows = {
            table: connection.execute(
                f"SELECT * FROM {table} WHERE execution_id = ? ORDER BY 1, 2, 3, 4", (execution,)
            ).fetchall()
            for table in _TABLES
        }
        rows["blobs"] = connection.execute(
            "SELECT blobs.* FROM blobs JOIN checkpoints USING (blob_id) WHERE execution_id = ? "
            "ORDER BY 1",
            (execution,),
        ).fetchall()
    assert rows["nodes"], f"{execution} is not in the store yet"
    return rows


def recorded_runs(count: int) -> list[RecordedRun]:
    """The first ``count`` recorded runs; made-up ones where there are none."""
    runs: list[RecordedRun] = []
    for path in recorded_files():
        for run in read_runs(path):
            runs.append(run)
            if len(runs) == count:
                return runs
    return runs or [
        RecordedRun(f"made-up-{number}", make_run(f"replay/{number}", 12 + number % 20))
        for number in range(count)
    ]


def write_lines(path: Path, *lines: Any) -> Path:
    """A file of recorded runs, one a line; compressed if its name ends in ``.gz``."""
    text = "".join(
        (line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines
    ).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path
