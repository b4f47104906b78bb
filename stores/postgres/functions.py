"""What a batch does, as functions in the database: one call, one round trip, no waiting client.

Rules:

1. A call holds its executions' rows in ``executions`` locked (in order of id, so that two calls
   cannot wait for each other) until its transaction ends, and reads behind that lock: every
   statement has a snapshot of its own, so the transaction is READ COMMITTED. The locks are held
   while the server works, not while a client thinks: an agent's host that stops in the middle of a
   batch keeps no process from taking its executions over.
2. Within a call all rows of an execution are of one claim. So ownership is decided per execution,
   and all that is written of it has the same epoch (:mod:`livingai.stores.postgres.batch` cuts).
3. What is decided is written by one statement: checkpoints, nodes, the execution's line. Its parts
   see the tables as they were before it.
4. The plans are made once and by index whatever the statistics say, which on a young table are
   those of an empty one.

Names: ``x_`` is one per execution, ``r_`` one per row, ``n_`` a row's node, ``c_`` its checkpoint,
``s_`` what it says of the execution's standing. Statuses are those of
:class:`~livingai.stores.base.RowStatus`. ``{s}`` is the schema.
"""

from __future__ import annotations

from typing import Final

_SETTINGS = """LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off"""

#: Seconds since the Unix epoch as a time; NULL for what is no date that people use.
_AT = """
CREATE OR REPLACE FUNCTION {s}.at(seconds double precision) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN seconds BETWEEN -62135596800 AND 253402300799 THEN to_timestamp(seconds) END
$$;
"""

#: For each execution: the claim's epoch (NULL: it brought one that is too old), the owner's epoch,
#: the largest seq that the claim has stored, and whether the owner is a deletion. An unknown claim
#: takes over.
_TAKE_OWNERS = """
CREATE OR REPLACE FUNCTION {s}.take_owners(x_ids text[], x_claims text[], x_epochs bigint[],
    OUT x_owned bigint[], OUT x_newest bigint[], OUT x_last bigint[], OUT x_deleted boolean[])
{settings} AS $$
DECLARE
    claims text[];
BEGIN
    -- Lines that are missing first: a session that waits for a lock below holds no new line.
    IF (SELECT count(*) FROM {s}.executions AS e WHERE e.execution_id = ANY (x_ids))
        < cardinality(x_ids) THEN
        INSERT INTO {s}.executions (execution_id) SELECT id FROM unnest(x_ids) AS id
        ON CONFLICT DO NOTHING;
    END IF;
    -- Usually every claim is the owner; what is in order of id is then in that of x_ids.
    SELECT array_agg(e.owner_claim), array_agg(e.owner_epoch), array_agg(e.owner_epoch),
        array_agg(CASE WHEN e.epoch = e.owner_epoch THEN e.seq ELSE -1 END), array_agg(false)
    INTO claims, x_owned, x_newest, x_last, x_deleted
    FROM (SELECT * FROM {s}.executions AS e WHERE e.execution_id = ANY (x_ids)
        ORDER BY e.execution_id FOR UPDATE) AS e;
    IF claims = x_claims THEN
        RETURN;
    END IF;

    WITH unknown AS (
        SELECT b.id, b.claim, e.owner_epoch AS before,
            CASE WHEN b.epoch = 0 THEN e.owner_epoch + 1 ELSE b.epoch END AS epoch,
            CASE WHEN e.epoch = e.owner_epoch THEN e.seq ELSE -1 END AS last_seq
        FROM unnest(x_ids, x_claims, x_epochs) AS b(id, claim, epoch)
        JOIN {s}.executions AS e ON e.execution_id = b.id
        WHERE e.owner_claim IS DISTINCT FROM b.claim AND (b.epoch = 0 OR b.epoch > e.owner_epoch)
            AND NOT EXISTS (
                SELECT FROM {s}.owners AS o WHERE o.execution_id = b.id AND o.claim = b.claim)
    ), retired AS (
        UPDATE {s}.owners AS o SET last_seq = u.last_seq FROM unknown AS u
        WHERE o.execution_id = u.id AND o.epoch = u.before
    ), taken AS (
        INSERT INTO {s}.owners (execution_id, epoch, claim, last_seq, claimed_at)
        SELECT u.id, u.epoch, u.claim, -1, extract(epoch FROM clock_timestamp()) FROM unknown AS u
    )
    UPDATE {s}.executions AS e SET owner_epoch = u.epoch, owner_claim = u.claim FROM unknown AS u
    WHERE e.execution_id = u.id;

    SELECT array_agg(o.epoch ORDER BY b.i), array_agg(e.owner_epoch ORDER BY b.i),
        array_agg(CASE WHEN o.epoch < e.owner_epoch THEN o.last_seq
            WHEN e.epoch = e.owner_epoch THEN e.seq ELSE -1 END ORDER BY b.i),
        array_agg(e.owner_claim IS NULL ORDER BY b.i)
    INTO x_owned, x_newest, x_last, x_deleted
    FROM unnest(x_ids, x_claims) WITH ORDINALITY AS b(id, claim, i)
    JOIN {s}.executions AS e ON e.execution_id = b.id
    LEFT JOIN {s}.owners AS o ON o.execution_id = b.id AND o.claim = b.claim;
END $$;
"""

#: ``r_x``: which execution; ``r_base_at``: the earlier row of this call that has a delta's base, 0
#: if none has.
_COMMIT_ROWS = """
CREATE OR REPLACE FUNCTION {s}.commit_rows(x_ids text[], x_claims text[], x_epochs bigint[],
    r_x bigint[], r_seq bigint[], r_base_at bigint[],
    n_id text[], n_type text[], n_status text[], n_name text[], n_parent text[], n_cost bigint[],
    n_latency double precision[], n_created double precision[], n_completed double precision[],
    n_saved double precision[], n_input text[], n_output text[], n_error text[], n_metadata text[],
    n_sum bytea[], n_wire bytea[],
    c_kind bigint[], c_codec bigint[], c_raw bigint[], c_base bytea[], c_content bytea[],
    c_sum bytea[], c_blob bytea[], s_life bigint[], s_error text[],
    OUT r_status bigint[], OUT x_owned bigint[], OUT x_newest bigint[], OUT x_deleted boolean[])
{settings} AS $$
DECLARE
    x_last bigint[];
    x bigint;
    fenced boolean;
BEGIN
    SELECT t.x_owned, t.x_newest, t.x_last, t.x_deleted INTO x_owned, x_newest, x_last, x_deleted
    FROM {s}.take_owners(x_ids, x_claims, x_epochs) AS t;
    r_status := array_fill(1::bigint, ARRAY[cardinality(r_x)]);

    FOR i IN 1 .. cardinality(r_x) LOOP
        x := r_x[i];
        IF x_owned[x] IS DISTINCT FROM x_newest[x] THEN
            r_status[i] := 2;
            fenced := true;
        ELSIF c_base[i] IS NOT NULL
            AND (r_base_at[i] = 0 OR r_status[r_base_at[i]] <> 1)
            AND NOT EXISTS (SELECT FROM {s}.checkpoints AS c
                WHERE c.execution_id = x_ids[x] AND c.content_hash = c_base[i])
            AND NOT EXISTS (SELECT FROM {s}.checkpoints AS c WHERE c.execution_id = x_ids[x]
                AND c.epoch = x_owned[x] AND c.seq = r_seq[i])
        THEN
            r_status[i] := 4;
        END IF;
    END LOOP;

    {write}

    IF fenced THEN  -- unless that very row was stored before
        FOR i IN 1 .. cardinality(r_x) LOOP
            x := r_x[i];
            CONTINUE WHEN r_status[i] <> 2 OR x_owned[x] IS NULL;
            IF c_blob[i] IS NOT NULL THEN
                PERFORM FROM {s}.checkpoints AS c WHERE c.execution_id = x_ids[x]
                    AND c.epoch = x_owned[x] AND c.seq = r_seq[i];
            ELSE
                PERFORM FROM {s}.nodes AS n
                WHERE n.node_id = n_id[i] AND n.execution_id = x_ids[x]
                    AND (n.epoch, n.seq) >= (x_owned[x], r_seq[i])
                    AND (n.epoch = x_owned[x] OR r_seq[i] <= x_last[x]);
            END IF;
            IF FOUND THEN
                r_status[i] := 1;
            END IF;
        END LOOP;
    END IF;
END $$;
"""

_NODE_COLUMNS: Final = (
    "type, status, name, parent_id, cost_tokens, latency_ms, created_at, completed_at, saved_at, "
    "input, output, error, metadata, wire_sum, wire, epoch, seq, state_epoch, state_seq, "
    "first_epoch, first_seq"
)
_IS_NEWER: Final = "(d.epoch, d.seq) > (e.epoch, e.seq)"
#: What an execution's line says of its newest row.
_NEWEST: Final = {
    "epoch": "d.epoch",
    "seq": "d.seq",
    "node_id": "n_id[d.last_i]",
    "updated_at": "n_saved[d.last_i]",
}
_IS_NEWER_LIFE: Final = """d.life_i IS NOT NULL AND coalesce(
            (d.epoch, r_seq[d.life_i]) > (e.life_epoch, e.life_seq), true)"""
#: What it says of its last life, without one of its newest row (:mod:`livingai.stores.standing`).
_STANDING: Final = {
    "life_epoch": ("d.epoch", None),
    "life_seq": ("r_seq[d.life_i]", None),
    "status": ("n_status[d.life_i]", "n_status[d.last_i]"),
    "error": ("s_error[d.life_i]", "s_error[d.last_i]"),
    "entered_at": ("n_created[d.life_i]", None),
    "ended_at": ("n_completed[d.life_i]", None),
}
_WRITE = f"""
    WITH rows AS MATERIALIZED (
        SELECT r.i, r.x, r.seq, r.node, c_blob[r.i] IS NOT NULL AS has_state
        FROM unnest(r_x, r_seq, n_id) WITH ORDINALITY AS r(x, seq, node, i)
        WHERE r_status[r.i] = 1
    ), states AS (
        INSERT INTO {{s}}.checkpoints (execution_id, epoch, seq, node_id, state_kind, codec,
            raw_bytes, stored_bytes, base_hash, content_hash, saved_at, blob_sum, blob)
        SELECT x_ids[r.x], x_owned[r.x], r.seq, r.node, c_kind[r.i], c_codec[r.i], c_raw[r.i],
            octet_length(c_blob[r.i]), c_base[r.i], c_content[r.i], n_saved[r.i], c_sum[r.i],
            c_blob[r.i]
        FROM rows AS r WHERE r.has_state
        ON CONFLICT DO NOTHING
        RETURNING execution_id, stored_bytes
    ), latest AS (  -- of each node its newest row here, its first seq, its newest with a state
        SELECT DISTINCT ON (r.x, r.node) r.i, r.x, r.node, r.seq, x_owned[r.x] AS epoch,
            min(r.seq) OVER w AS first_seq,
            max(r.seq) FILTER (WHERE r.has_state) OVER w AS state_seq
        FROM rows AS r
        WINDOW w AS (PARTITION BY r.x, r.node) ORDER BY r.x, r.node, r.seq DESC, r.i
    ), merged AS (  -- with what the table has of it
        SELECT m.i, m.x, m.node, m.seq, m.epoch, n.node_id IS NULL AS is_new,
            coalesce((m.epoch, m.seq) > (n.epoch, n.seq), true) AS is_newer,
            coalesce(n.cost_tokens, 0) AS old_cost,
            CASE WHEN s.is_first THEN m.epoch ELSE n.first_epoch END AS first_epoch,
            CASE WHEN s.is_first THEN m.first_seq ELSE n.first_seq END AS first_seq,
            CASE WHEN s.is_state THEN m.epoch ELSE n.state_epoch END AS state_epoch,
            CASE WHEN s.is_state THEN m.state_seq ELSE n.state_seq END AS state_seq
        FROM latest AS m
        LEFT JOIN {{s}}.nodes AS n ON n.node_id = m.node AND n.execution_id = x_ids[m.x]
        CROSS JOIN LATERAL (SELECT
            coalesce((m.epoch, m.first_seq) < (n.first_epoch, n.first_seq), true) AS is_first,
            m.state_seq IS NOT NULL AND coalesce(
                (m.epoch, m.state_seq) > (n.state_epoch, n.state_seq), true) AS is_state
        ) AS s
    ), saved AS (
        INSERT INTO {{s}}.nodes (execution_id, node_id, {_NODE_COLUMNS})
        SELECT x_ids[m.x], m.node, n_type[m.i], n_status[m.i], n_name[m.i], n_parent[m.i],
            n_cost[m.i], n_latency[m.i], n_created[m.i], n_completed[m.i], n_saved[m.i],
            n_input[m.i]::jsonb, n_output[m.i]::jsonb, n_error[m.i]::jsonb, n_metadata[m.i]::jsonb,
            n_sum[m.i], n_wire[m.i], m.epoch, m.seq, m.state_epoch, m.state_seq, m.first_epoch,
            m.first_seq
        FROM merged AS m WHERE m.is_newer
        ON CONFLICT (node_id, execution_id) DO UPDATE SET
            {", ".join(f"{name} = excluded.{name}" for name in _NODE_COLUMNS.split(", "))}
    ), moved AS (  -- rows that came out of order
        UPDATE {{s}}.nodes AS n SET first_epoch = m.first_epoch, first_seq = m.first_seq,
            state_epoch = m.state_epoch, state_seq = m.state_seq
        FROM merged AS m
        WHERE NOT m.is_newer AND n.node_id = m.node AND n.execution_id = x_ids[m.x]
            AND (n.first_epoch, n.first_seq, n.state_epoch, n.state_seq)
                IS DISTINCT FROM (m.first_epoch, m.first_seq, m.state_epoch, m.state_seq)
    ), sums AS (
        SELECT d.id, max(d.epoch) AS epoch, max(d.seq) AS seq, min(d.i) AS first_i,
            (array_agg(d.i ORDER BY d.seq DESC NULLS LAST, d.i))[1] AS last_i,
            (array_agg(d.i ORDER BY d.seq DESC, d.i) FILTER (WHERE s_life[d.i] = 1))[1] AS life_i,
            sum(d.nodes) AS nodes, sum(d.cost) AS cost, sum(d.checkpoints) AS checkpoints,
            sum(d.bytes) AS bytes
        FROM (
            SELECT x_ids[r.x] AS id, x_owned[r.x] AS epoch, r.seq, r.i, 0 AS nodes,
                0::numeric AS cost, 0 AS checkpoints, 0::bigint AS bytes
            FROM rows AS r
            UNION ALL
            SELECT x_ids[m.x], NULL, NULL, NULL, m.is_new::int, n_cost[m.i]::numeric - m.old_cost,
                0, 0
            FROM merged AS m WHERE m.is_newer
            UNION ALL
            SELECT c.execution_id, NULL, NULL, NULL, 0, 0, 1, c.stored_bytes FROM states AS c
        ) AS d GROUP BY d.id
    )
    UPDATE {{s}}.executions AS e SET {
    ", ".join(
        f"{name} = CASE WHEN {_IS_NEWER} THEN {value} ELSE e.{name} END"
        for name, value in _NEWEST.items()
    )
},
        {
    ", ".join(
        f"{name} = CASE WHEN {_IS_NEWER_LIFE} THEN {life}"
        + (f" WHEN e.life_epoch IS NULL AND {_IS_NEWER} THEN {newest}" if newest else "")
        + f" ELSE e.{name} END"
        for name, (life, newest) in _STANDING.items()
    )
},
        created_at = coalesce(e.created_at, n_saved[d.first_i]),
        nodes = e.nodes + d.nodes, checkpoints = e.checkpoints + d.checkpoints,
        stored_bytes = e.stored_bytes + d.bytes, cost_tokens = e.cost_tokens + d.cost
    FROM sums AS d
    WHERE e.execution_id = d.id
        AND ({_IS_NEWER} OR d.nodes <> 0 OR d.cost <> 0 OR d.checkpoints <> 0
            OR ({_IS_NEWER_LIFE}));
"""

#: The number of nodes removed. Every earlier writer is fenced by an epoch without a claim.
_DELETE_EXECUTION = """
CREATE OR REPLACE FUNCTION {s}.delete_execution(x_id text) RETURNS bigint {settings} AS $$
DECLARE
    line {s}.executions;
    removed bigint;
BEGIN
    SELECT * INTO line FROM {s}.executions AS e WHERE e.execution_id = x_id FOR UPDATE;
    IF NOT FOUND OR line.owner_claim IS NULL THEN
        RETURN 0;
    END IF;
    UPDATE {s}.owners AS o SET last_seq = -1 WHERE o.execution_id = x_id;
    INSERT INTO {s}.owners (execution_id, epoch, claim, last_seq, claimed_at)
    VALUES (x_id, line.owner_epoch + 1, NULL, -1, extract(epoch FROM clock_timestamp()));
    UPDATE {s}.executions AS e SET owner_epoch = line.owner_epoch + 1, owner_claim = NULL,
        epoch = 0, seq = -1, status = NULL, node_id = NULL, created_at = NULL, updated_at = NULL,
        nodes = 0, checkpoints = 0, stored_bytes = 0, cost_tokens = 0, error = NULL,
        life_epoch = NULL, life_seq = NULL, entered_at = NULL, ended_at = NULL
    WHERE e.execution_id = x_id;
    DELETE FROM {s}.checkpoints AS c WHERE c.execution_id = x_id;
    DELETE FROM {s}.nodes AS n WHERE n.execution_id = x_id;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;
"""

#: The number of blob bytes removed.
_DROP_CHECKPOINTS = """
CREATE OR REPLACE FUNCTION {s}.drop_checkpoints(x_id text, r_epoch bigint[], r_seq bigint[])
RETURNS bigint {settings} AS $$
DECLARE
    removed bigint;
    bytes bigint;
BEGIN
    PERFORM FROM {s}.executions AS e WHERE e.execution_id = x_id FOR UPDATE;
    WITH gone AS (
        DELETE FROM {s}.checkpoints AS c USING unnest(r_epoch, r_seq) AS r(epoch, seq)
        WHERE c.execution_id = x_id AND c.epoch = r.epoch AND c.seq = r.seq
        RETURNING c.stored_bytes
    )
    SELECT count(*), coalesce(sum(g.stored_bytes), 0) INTO removed, bytes FROM gone AS g;
    IF removed > 0 THEN
        UPDATE {s}.executions AS e SET checkpoints = e.checkpoints - removed,
            stored_bytes = e.stored_bytes - bytes
        WHERE e.execution_id = x_id;
    END IF;
    RETURN bytes;
END $$;
"""


def functions(schema: str) -> str:
    """All functions, for a quoted schema name."""
    commit = _COMMIT_ROWS.replace("{write}", _WRITE.strip())
    texts = (_AT, _TAKE_OWNERS, commit, _DELETE_EXECUTION, _DROP_CHECKPOINTS)
    return "".join(texts).replace("{settings}", _SETTINGS).replace("{s}", schema)
