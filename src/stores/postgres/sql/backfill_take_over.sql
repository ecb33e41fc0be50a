-- Takes all chunks from whoever held them, and ends their sessions where they still are: for the only leader. A session
-- is known by its start, too, since process ids are used again. $1 migration UID, $2 phase. One row a session ended.
WITH taken AS (
    UPDATE alongside.backfill_chunk AS chunk
    SET state = 'Free', epoch = chunk.epoch + 1, holder = NULL, lease_until = NULL, backend = NULL
    FROM (
        SELECT number, backend, backend_since
        FROM alongside.backfill_chunk
        WHERE migration_uid = $1 AND phase = $2 AND state = 'Held'
        FOR NO KEY UPDATE
    ) AS before
    WHERE chunk.migration_uid = $1
        AND chunk.phase = $2
        AND chunk.number = before.number
    RETURNING before.backend, before.backend_since
)
SELECT pg_catalog.pg_terminate_backend(activity.pid) AS ended
FROM taken
JOIN pg_catalog.pg_stat_activity AS activity
    ON activity.pid = taken.backend AND activity.backend_start = taken.backend_since
