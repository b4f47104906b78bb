"""The bytes of a row in a SQLite store's file, past the store.

With apsw, too: a second copy of SQLite in one process (the standard library's) would drop the
store's locks when it closes the file.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw

from livingai.stores.base import Row
from livingai.testing.conformance import Part

BLOB_ID = "SELECT blob_id FROM checkpoints WHERE execution_id = ? AND node_id = ?"
GET = {
    "node": "SELECT wire FROM nodes WHERE execution_id = ? AND node_id = ?",
    "blob": f"SELECT blob FROM blobs WHERE blob_id = ({BLOB_ID})",
}
SET = {
    "node": "UPDATE nodes SET wire = ? WHERE execution_id = ? AND node_id = ?",
    "blob": f"UPDATE blobs SET blob = ? WHERE blob_id = ({BLOB_ID})",
}


def raw_get(database: Path, part: Part, row: Row) -> bytes:
    """What the file holds for ``row``."""
    with closing(apsw.Connection(str(database))) as raw:
        ((data,),) = raw.execute(GET[part], (row.execution_id, row.node_id))
    assert isinstance(data, bytes)
    return data


def raw_set(database: Path, part: Part, row: Row, data: bytes) -> bool:
    """Change that; whether it is there."""
    with closing(apsw.Connection(str(database))) as raw:
        raw.pragma("synchronous", "off")  # thousands of damages
        raw.execute(SET[part], (data, row.execution_id, row.node_id))
        return raw.changes() == 1
