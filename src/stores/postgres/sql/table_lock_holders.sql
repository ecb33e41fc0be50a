-- Who holds a lock on a table, or a partition of it, that keeps SHARE away. $1 the table's quoted name. Takes no lock; the
-- oldest transaction first.
SELECT
    activity.pid,
    coalesce(nullif(activity.application_name, ''), activity.backend_type, '') AS application,
    coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - activity.xact_start), 0)::bigint AS seconds
FROM pg_catalog.pg_locks AS held
JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.locktype = 'relation'
    AND held.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND held.granted
    AND held.mode IN (
        'RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'
    )
    AND (
        held.relation = pg_catalog.to_regclass($1::text)
        OR held.relation IN (SELECT relid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1::text)))
    )
ORDER BY activity.xact_start NULLS LAST
LIMIT 1
