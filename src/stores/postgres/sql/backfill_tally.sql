-- How far a run is. $1 migration UID, $2 phase. Takes no lock; one row.
SELECT
    count(*) AS chunks,
    count(*) FILTER (WHERE state = 'Done') AS done,
    coalesce(sum(scanned), 0)::bigint AS scanned,
    coalesce(sum(changed), 0)::bigint AS changed,
    coalesce(sum(transactions), 0)::bigint AS transactions
FROM alongside.backfill_chunk
WHERE migration_uid = $1 AND phase = $2
