"""The tables of :class:`~livingai.stores.postgres.PostgresStore`, and how a schema becomes ours.

``docs/STORES.md`` documents every column;
``tests/integration/stores/postgres/test_tables.py`` checks this module against it. Rules:

1. A schema is ours if it has a table ``livingai`` whose row says a version: the number of
   :data:`MIGRATIONS` that ran. Whatever else the schema holds stays as it is.
2. A migration is one transaction with its new version, under an advisory lock that ends with the
   transaction: processes that race take turns, a crash leaves old or new, PgBouncer can be used.
3. Views and functions may change in any version and are replaced by each migration; a column that
   was released keeps its name and meaning.
4. Ids are ``text`` in order of their bytes, which is that of code points. What ``text`` cannot hold
   is escaped, see :mod:`livingai.stores.postgres.rows`.
5. A line of ``executions`` is what writers lock. It is there from the first claim on and for ever
   (``nodes = 0``: nothing is stored), and has the owner, so that a usual batch reads no other line.

Blobs are compressed already, so they are stored EXTERNAL: out of line, and untouched. An index on
what changes with every batch makes that update touch every index of the table; so ``executions``
has one such index, and costs are summed over ``nodes``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from livingai.errors import ConfigurationError, StoreFormatError
from livingai.failpoint import failpoint
from livingai.stores.postgres.functions import functions

if TYPE_CHECKING:
    from livingai.stores.postgres.connection import Session

#: The oldest server that is tested against by its documentation; older ones are out of support.
MIN_SERVER: Final = 130000

_TABLES = """
CREATE TABLE {s}.executions (
    execution_id  text COLLATE "C" PRIMARY KEY,
    status        text,
    epoch         bigint NOT NULL DEFAULT 0,
    seq           bigint NOT NULL DEFAULT -1,
    node_id       text COLLATE "C",
    nodes         bigint NOT NULL DEFAULT 0,
    checkpoints   bigint NOT NULL DEFAULT 0,
    stored_bytes  bigint NOT NULL DEFAULT 0,
    cost_tokens   numeric NOT NULL DEFAULT 0,
    created_at    double precision,
    updated_at    double precision,
    owner_epoch   bigint NOT NULL DEFAULT 0,
    owner_claim   text COLLATE "C"
);
CREATE INDEX executions_by_time ON {s}.executions (updated_at, status);

CREATE TABLE {s}.owners (
    execution_id  text COLLATE "C" NOT NULL,
    epoch         bigint NOT NULL,
    claim         text COLLATE "C",
    last_seq      bigint NOT NULL,
    claimed_at    double precision NOT NULL,
    PRIMARY KEY (execution_id, epoch)
);
CREATE UNIQUE INDEX owners_by_claim ON {s}.owners (execution_id, claim);

CREATE TABLE {s}.nodes (
    execution_id  text COLLATE "C" NOT NULL,
    node_id       text COLLATE "C" NOT NULL,
    epoch         bigint NOT NULL,
    seq           bigint NOT NULL,
    first_epoch   bigint NOT NULL,
    first_seq     bigint NOT NULL,
    state_epoch   bigint,
    state_seq     bigint,
    type          text NOT NULL,
    status        text NOT NULL,
    name          text,
    parent_id     text,
    cost_tokens   bigint NOT NULL,
    latency_ms    double precision,
    created_at    double precision,
    completed_at  double precision,
    saved_at      double precision NOT NULL,
    input         jsonb,
    output        jsonb,
    error         jsonb,
    metadata      jsonb,
    wire_sum      bytea NOT NULL,
    wire          bytea NOT NULL,
    PRIMARY KEY (node_id, execution_id)
);
CREATE UNIQUE INDEX nodes_in_order ON {s}.nodes (execution_id, first_epoch, first_seq);
-- Without a pending list: merging that would hold up one commit for all before it.
CREATE INDEX nodes_by_metadata ON {s}.nodes USING gin (metadata jsonb_path_ops)
    WITH (fastupdate = off) WHERE metadata IS NOT NULL;

CREATE TABLE {s}.checkpoints (
    execution_id  text COLLATE "C" NOT NULL,
    epoch         bigint NOT NULL,
    seq           bigint NOT NULL,
    node_id       text COLLATE "C" NOT NULL,
    state_kind    bigint NOT NULL,
    codec         bigint,
    raw_bytes     bigint NOT NULL,
    stored_bytes  bigint NOT NULL,
    base_hash     bytea,
    content_hash  bytea,
    saved_at      double precision NOT NULL,
    blob_sum      bytea NOT NULL,
    blob          bytea NOT NULL,
    PRIMARY KEY (execution_id, epoch, seq)
);
ALTER TABLE {s}.checkpoints ALTER COLUMN blob SET STORAGE EXTERNAL;
-- What retention removed is used again soon.
ALTER TABLE {s}.checkpoints SET (
    autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX checkpoints_by_content ON {s}.checkpoints (execution_id, content_hash);
"""

#: A run has a status of its own (:mod:`livingai.stores.standing`); runs that are there already get
#: theirs from their nodes. ``error`` of a node is JSON: type, message, traceback, retryable.
_STANDINGS = """
ALTER TABLE {s}.executions ADD COLUMN error text, ADD COLUMN life_epoch bigint,
    ADD COLUMN life_seq bigint, ADD COLUMN entered_at double precision,
    ADD COLUMN ended_at double precision;

UPDATE {s}.executions AS e SET error = left((n.error->>0) || ': ' || (n.error->>1), 400)
FROM {s}.nodes AS n
WHERE n.node_id = e.node_id AND n.execution_id = e.execution_id AND n.error IS NOT NULL;

UPDATE {s}.executions AS e SET status = n.status, life_epoch = n.epoch, life_seq = n.seq,
    entered_at = n.created_at, ended_at = n.completed_at,
    error = left((n.error->>0) || ': ' || (n.error->>1), 400)
FROM (
    SELECT DISTINCT ON (execution_id) execution_id, epoch, seq, status, error, created_at,
        completed_at
    FROM {s}.nodes
    WHERE metadata @> '{"role": "run"}' AND type = 'memory' AND status <> 'pending'
        AND name IS DISTINCT FROM 'recovery'
    ORDER BY execution_id, epoch DESC, seq DESC
) AS n WHERE n.execution_id = e.execution_id;

-- It takes more arguments now; two of that name would be two functions.
DROP FUNCTION IF EXISTS {s}.commit_rows;
"""

#: New columns come last: so a view that others build on can be replaced; it could not be dropped.
_VIEWS = """
CREATE OR REPLACE VIEW {s}.runs AS
SELECT execution_id, status, nodes, checkpoints, cost_tokens,
    round(stored_bytes / 1e6, 3) AS stored_mb, epoch,
    {s}.at(created_at) AS started, {s}.at(updated_at) AS updated,
    make_interval(secs => updated_at - created_at) AS took,
    error, life_epoch AS life, {s}.at(entered_at) AS entered, {s}.at(ended_at) AS ended
FROM {s}.executions WHERE nodes > 0;

CREATE OR REPLACE VIEW {s}.steps AS
SELECT execution_id, epoch, seq, type, name, status, latency_ms, cost_tokens,
    left(input::text, 80) AS input, left(output::text, 80) AS output,
    left(error::text, 80) AS error, state_seq IS NOT NULL AS has_state,
    {s}.at(saved_at) AS saved, node_id, parent_id, metadata,
    row_number() OVER (PARTITION BY execution_id ORDER BY first_epoch, first_seq) AS number,
    first_epoch AS life,
    CASE WHEN metadata->>'role' = 'run' AND type = 'memory' THEN 'life'
        WHEN metadata->>'call' IS NULL THEN 'node'
        WHEN metadata->>'role' = 'checkpoint' THEN 'checkpoint'
        ELSE 'call' END AS kind,
    metadata->>'call' AS call
FROM {s}.nodes
ORDER BY execution_id, first_epoch, first_seq;

CREATE OR REPLACE VIEW {s}.states AS
SELECT c.execution_id, c.epoch, c.seq, n.name, n.type, c.codec,
    c.base_hash IS NOT NULL AS is_delta, c.raw_bytes, c.stored_bytes,
    round(c.raw_bytes / greatest(c.stored_bytes, 1)::numeric, 1) AS ratio,
    {s}.at(c.saved_at) AS saved, c.node_id
FROM {s}.checkpoints AS c
LEFT JOIN {s}.nodes AS n ON n.node_id = c.node_id AND n.execution_id = c.execution_id;
"""

#: ``MIGRATIONS[n]`` takes a schema of version n to n + 1.
MIGRATIONS: Final[tuple[str, ...]] = (_TABLES, _STANDINGS)
SCHEMA_VERSION: Final = len(MIGRATIONS)

_VERSION_TABLE = "CREATE TABLE IF NOT EXISTS {s}.livingai (version integer NOT NULL)"


def quoted(schema: str) -> str:
    """``schema`` as it is written in a statement.

    Raises:
        ConfigurationError: it is no plain name.
    """
    if not isinstance(schema, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", schema):
        raise ConfigurationError(
            "PostgresStore: schema must be a plain name (letters, digits, _, at most 63 of them), "
            f"got {schema!r}"
        )
    return f'"{schema}"'


def prepare(session: Session, schema: str) -> None:
    """Create the schema, or bring it up to :data:`SCHEMA_VERSION`; usually it only looks.

    Raises:
        StoreFormatError: a newer livingai wrote it, or the server or database cannot be used.
        StoreError: no right to create it.
    """
    _check_server(session)
    if _version(session, schema) == SCHEMA_VERSION:
        return
    s = quoted(schema)
    # One transaction. The session that held the lock before may have done the work.
    lock = ("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"livingai {schema}",))
    with session.transaction() as run:
        run(*lock)
        if not run("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)):
            run(f"CREATE SCHEMA {s}")
        run(_VERSION_TABLE.format(s=s))
        version = _checked(run(f"SELECT version FROM {s}.livingai"), schema)
        if version < SCHEMA_VERSION:
            for migration in MIGRATIONS[version:]:
                run(migration.replace("{s}", s))
            run(functions(s))
            run(_VIEWS.replace("{s}", s))
            run(f"DELETE FROM {s}.livingai")
            run(f"INSERT INTO {s}.livingai (version) VALUES (%s)", (SCHEMA_VERSION,))
        failpoint("migrate.before_commit")
    failpoint("migrate.after_commit")


def _version(session: Session, schema: str) -> int:
    name = f"{quoted(schema)}.livingai"
    if session.read("SELECT to_regclass(%s) IS NULL", (name,))[0][0]:
        return 0
    return _checked(session.read(f"SELECT version FROM {name}"), schema)


def _checked(rows: list[Any], schema: str) -> int:
    version: int = rows[0][0] if rows else 0
    if version > SCHEMA_VERSION:
        raise StoreFormatError(
            f"the schema {schema} has version {version}, this livingai knows versions up to "
            f"{SCHEMA_VERSION}; upgrade livingai to use it, or choose another schema"
        )
    return version


def _check_server(session: Session) -> None:
    version, encoding = session.read(
        "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding')"
    )[0]
    if version < MIN_SERVER:
        raise StoreFormatError(
            f"PostgreSQL {version // 10000} is too old: livingai needs {MIN_SERVER // 10000} or "
            "newer; upgrade the server"
        )
    if encoding != "UTF8":
        raise StoreFormatError(
            f"the database is encoded in {encoding}, livingai needs UTF8: "
            "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
