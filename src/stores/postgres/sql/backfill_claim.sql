-- Claims the first chunk that nobody holds, or whose holder has let its lease run out. $1 migration UID, $2 phase,
-- $3 holder, $4 lease in seconds as double precision. Locks one row; 0 or 1 rows.
-- Materialized: a subquery that is run again for each row of the join would lock, and claim, one more each time.
WITH next AS MATERIALIZED (
    SELECT number
    FROM alongside.backfill_chunk
    WHERE migration_uid = $1
        AND phase = $2
        AND (state = 'Free' OR (state = 'Held' AND lease_until < now()))
    ORDER BY number
    LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE alongside.backfill_chunk AS chunk
SET state = 'Held',
    holder = $3,
    epoch = chunk.epoch + 1,
    lease_until = now() + make_interval(secs => $4),
    backend = pg_catalog.pg_backend_pid(),
    backend_since = (SELECT backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid())
FROM next
WHERE chunk.migration_uid = $1
    AND chunk.phase = $2
    AND chunk.number = next.number
RETURNING chunk.number, chunk.epoch, coalesce(chunk.position, chunk.lower) AS position, chunk.upper
