-- Transactions that the scripts would wait for. $1 relations that they change, as they spell them; $2 the age in
-- seconds, as double precision, from which a transaction counts; $3 whether any old snapshot counts, as for a concurrent
-- index build. A role without pg_read_all_stats sees the age of its own role's transactions only. Takes no lock; a row a
-- transaction, the oldest first.
SELECT
    activity.pid,
    coalesce(activity.application_name, '') AS application_name,
    coalesce(activity.state, '') AS state,
    floor(extract(epoch FROM now() - activity.xact_start))::bigint AS seconds,
    held.relation
FROM pg_catalog.pg_stat_activity AS activity
LEFT JOIN LATERAL (
    SELECT min(lock.relation::regclass::text) AS relation
    FROM pg_catalog.pg_locks AS lock
    WHERE lock.pid = activity.pid
        AND lock.granted
        AND lock.locktype = 'relation'
        AND lock.relation IN (SELECT pg_catalog.to_regclass(wanted.name) FROM unnest($1::text[]) AS wanted (name))
) AS held ON true
WHERE activity.datname = pg_catalog.current_database()
    AND activity.pid <> pg_catalog.pg_backend_pid()
    AND activity.xact_start < now() - make_interval(secs => $2)
    AND (held.relation IS NOT NULL OR ($3 AND activity.backend_xmin IS NOT NULL))
ORDER BY activity.xact_start
LIMIT 10
