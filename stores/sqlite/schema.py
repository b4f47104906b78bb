"""The tables of :class:`~livingai.stores.sqlite.SQLiteStore`, and how a file becomes ours.

``docs/STORES.md`` documents every column; ``tests/unit/stores/sqlite/test_store.py`` checks
this module against it. Rules:

1. A file is ours if its ``application_id`` is :data:`APPLICATION_ID`; ``user_version`` is then the
   schema's version, the number of :data:`MIGRATIONS` that ran. No table is needed to know it.
2. A file that has neither number and no table of ours by name may be another program's: ours are
   added beside its tables. Anything else is refused before a single byte is changed.
3. A migration and its new ``user_version`` are one transaction, so a crash leaves old or new.
4. A view may change in any version; a column that was released keeps its name and meaning.
5. Only what SQLite 3.8.2 reads (no STRICT tables, no window functions in views): people open this
   file with the ``sqlite3`` that they have. (The view ``steps`` needs its JSON functions.)

Blobs are in a table of their own: a row that overflows still fills most of a leaf page, so a
scan of ``checkpoints`` would otherwise read about 8 KB for each 200 bytes of columns. (The node's
``wire`` is small, and last in its row.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from livingai.errors import StoreFormatError
from livingai.failpoint import failpoint

if TYPE_CHECKING:
    import apsw

#: ``LVAI`` in ASCII; what ``file`` and ``PRAGMA application_id`` show.
APPLICATION_ID: Final = 0x4C564149

#: Measured with blobs of 5 to 800 KB, synced commits: 16384 stores 1.3 to 2 times the MB/s of 4096
#: and 8192, and reads no slower; 32768 gains nothing more and makes small commits larger.
PAGE_BYTES: Final = 16384

_TABLES = """
CREATE TABLE executions (
    execution_id  TEXT NOT NULL PRIMARY KEY,
    status        TEXT NOT NULL,
    epoch         INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    node_id       TEXT NOT NULL,
    nodes         INTEGER NOT NULL,
    checkpoints   INTEGER NOT NULL,
    stored_bytes  INTEGER NOT NULL,
    cost_tokens   INTEGER NOT NULL,
    created_at    REAL NOT NULL,
    updated_at    REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE owners (
    execution_id  TEXT NOT NULL,
    epoch         INTEGER NOT NULL,
    claim         TEXT,
    last_seq      INTEGER NOT NULL,
    claimed_at    REAL NOT NULL,
    PRIMARY KEY (execution_id, epoch)
) WITHOUT ROWID;
CREATE UNIQUE INDEX owners_by_claim ON owners (execution_id, claim);

CREATE TABLE nodes (
    execution_id  TEXT NOT NULL,
    node_id       TEXT NOT NULL,
    epoch         INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    first_epoch   INTEGER NOT NULL,
    first_seq     INTEGER NOT NULL,
    state_epoch   INTEGER,
    state_seq     INTEGER,
    type          TEXT NOT NULL,
    status        TEXT NOT NULL,
    name          TEXT,
    parent_id     TEXT,
    cost_tokens   INTEGER NOT NULL,
    latency_ms    REAL,
    created_at    REAL,
    completed_at  REAL,
    saved_at      REAL NOT NULL,
    input         TEXT,
    output        TEXT,
    error         TEXT,
    metadata      TEXT,
    wire_sum      BLOB NOT NULL,
    wire          BLOB NOT NULL
);
CREATE UNIQUE INDEX nodes_by_id ON nodes (node_id, execution_id);
CREATE UNIQUE INDEX nodes_in_order ON nodes (execution_id, first_epoch, first_seq);

CREATE TABLE checkpoints (
    execution_id  TEXT NOT NULL,
    epoch         INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    node_id       TEXT NOT NULL,
    state_kind    INTEGER NOT NULL,
    codec         INTEGER,
    raw_bytes     INTEGER NOT NULL,
    stored_bytes  INTEGER NOT NULL,
    base_hash     BLOB,
    content_hash  BLOB,
    saved_at      REAL NOT NULL,
    blob_id       INTEGER NOT NULL,
    blob_sum      BLOB NOT NULL,
    PRIMARY KEY (execution_id, epoch, seq)
) WITHOUT ROWID;

CREATE TABLE blobs (
    blob_id  INTEGER NOT NULL PRIMARY KEY,
    blob     BLOB NOT NULL
);
"""

#: A run has a status of its own (:mod:`livingai.stores.standing`); runs that are there already get
#: theirs from their nodes. ``error`` of a node is JSON: type, message, traceback, retryable.
_STANDINGS = """
ALTER TABLE executions ADD COLUMN error TEXT;
ALTER TABLE executions ADD COLUMN life_epoch INTEGER;
ALTER TABLE executions ADD COLUMN life_seq INTEGER;
ALTER TABLE executions ADD COLUMN entered_at REAL;
ALTER TABLE executions ADD COLUMN ended_at REAL;

UPDATE executions SET error = (
    SELECT substr(json_extract(n.error, '$[0]') || ': ' || json_extract(n.error, '$[1]'), 1, 400)
    FROM nodes AS n WHERE n.node_id = executions.node_id
        AND n.execution_id = executions.execution_id AND json_valid(n.error));

WITH lives AS (
    SELECT execution_id, status, epoch, seq, created_at, completed_at,
        CASE WHEN json_valid(error) THEN error END AS error,
        row_number() OVER (PARTITION BY execution_id ORDER BY epoch DESC, seq DESC) AS place
    FROM nodes
    WHERE type = 'memory' AND status <> 'pending' AND name IS NOT 'recovery'
        AND CASE WHEN json_valid(metadata) THEN json_extract(metadata, '$.role') END IS 'run'
)
UPDATE executions SET status = n.status, life_epoch = n.epoch, life_seq = n.seq,
    entered_at = n.created_at, ended_at = n.completed_at,
    error = substr(json_extract(n.error, '$[0]') || ': ' || json_extract(n.error, '$[1]'), 1, 400)
FROM lives AS n WHERE n.execution_id = executions.execution_id AND n.place = 1;
"""

_VIEWS = """
DROP VIEW IF EXISTS runs;
CREATE VIEW runs AS
SELECT execution_id, status, nodes, checkpoints, cost_tokens,
    round(stored_bytes / 1e6, 3) AS stored_mb,
    epoch,
    datetime(created_at, 'unixepoch') AS started,
    datetime(updated_at, 'unixepoch') AS updated,
    round(updated_at - created_at, 3) AS seconds,
    error, life_epoch AS life,
    datetime(entered_at, 'unixepoch') AS entered,
    datetime(ended_at, 'unixepoch') AS ended
FROM executions;

DROP VIEW IF EXISTS steps;
CREATE VIEW steps AS
SELECT execution_id,
    (SELECT count(*) FROM nodes AS m WHERE m.execution_id = n.execution_id
        AND m.first_epoch < n.first_epoch)
    + (SELECT count(*) FROM nodes AS m WHERE m.execution_id = n.execution_id
        AND m.first_epoch = n.first_epoch AND m.first_seq <= n.first_seq) AS number,
    first_epoch AS life,
    CASE WHEN NOT json_valid(metadata) THEN 'node'
        WHEN json_extract(metadata, '$.role') IS 'run' AND type = 'memory' THEN 'life'
        WHEN json_extract(metadata, '$.call') IS NULL THEN 'node'
        WHEN json_extract(metadata, '$.role') IS 'checkpoint' THEN 'checkpoint'
        ELSE 'call' END AS kind,
    CASE WHEN json_valid(metadata) THEN json_extract(metadata, '$.call') END AS call,
    name, type, status, latency_ms, cost_tokens,
    substr(input, 1, 80) AS input, substr(output, 1, 80) AS output, substr(error, 1, 80) AS error,
    state_seq IS NOT NULL AS has_state,
    datetime(saved_at, 'unixepoch') AS saved,
    epoch, seq, node_id, parent_id
FROM nodes AS n
ORDER BY execution_id, first_epoch, first_seq;

DROP VIEW IF EXISTS states;
CREATE VIEW states AS
SELECT c.execution_id, c.epoch, c.seq, n.name, n.type, c.codec, c.base_hash IS NOT NULL AS is_delta,
    c.raw_bytes, c.stored_bytes,
    round(1.0 * c.raw_bytes / max(c.stored_bytes, 1), 1) AS ratio,
    datetime(c.saved_at, 'unixepoch') AS saved,
    c.node_id, c.blob_id
FROM checkpoints AS c
LEFT JOIN nodes AS n ON n.node_id = c.node_id AND n.execution_id = c.execution_id;
"""

#: ``MIGRATIONS[n]`` takes a schema of version n to n + 1.
MIGRATIONS: Final[tuple[str, ...]] = (_TABLES, _STANDINGS)
SCHEMA_VERSION: Final = len(MIGRATIONS)

#: Every name that the schema takes; a foreign database must not have any of them.
NAMES: Final = frozenset(
    {"executions", "owners", "nodes", "checkpoints", "blobs", "runs", "steps", "states"}
    | {"owners_by_claim", "nodes_by_id", "nodes_in_order"}
)

#: What livingai 0.4 has in its databases.
_NAMES_OF_04: Final = {"nodes", "idx_nodes_id", "idx_nodes_execution"}
#: The tables that are ours in a file that may have others', too.
TABLES: Final = (
    *("executions", "owners", "nodes", "checkpoints", "blobs"),
    *("livingai_marks", "livingai_drops"),
)


def schema_version(connection: apsw.Connection, path: str) -> int:
    """The version of livingai's schema in this database; 0 where it has none yet. Writes nothing.

    Raises:
        StoreFormatError: a newer livingai wrote it, or it is another application's.
    """
    with connection:  # one snapshot: another process may be making the schema at this moment
        application: int = connection.pragma("application_id")
        version: int = connection.pragma("user_version")
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if application == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            raise StoreFormatError(
                f"{path} has schema version {version}, this livingai knows versions up to "
                f"{SCHEMA_VERSION}; upgrade livingai to use it"
            )
        return version
    if application or version:
        raise StoreFormatError(
            f"{path} belongs to another application (application_id {application:#x}, user_version "
            f"{version}); give livingai a file of its own"
        )
    if names >= _NAMES_OF_04:
        raise StoreFormatError(
            f"{path} is a database of livingai 0.4, which has another format; `livingai import "
            "--from livingai-0.4 OLD NEW` brings what it holds into a new file"
        )
    if clash := sorted(names & NAMES):
        raise StoreFormatError(
            f"{path} is a database of another application that has {', '.join(clash)} already; "
            "give livingai a file of its own"
        )
    return 0


def migrate(connection: apsw.Connection, path: str) -> None:
    """Bring the schema up to :data:`SCHEMA_VERSION`; processes that race for it take turns.

    Raises:
        StoreFormatError: as :func:`schema_version`.
    """
    if schema_version(connection, path) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # The process that held the lock before may have done the work.
        version = schema_version(connection, path)
        if version < SCHEMA_VERSION:
            for migration in MIGRATIONS[version:]:
                connection.execute(migration)
            connection.execute(_VIEWS)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", SCHEMA_VERSION)
        failpoint("migrate.before_commit")
        connection.execute("COMMIT")
    except BaseException:
        if not connection.get_autocommit():
            connection.execute("ROLLBACK")
        raise
    failpoint("migrate.after_commit")
