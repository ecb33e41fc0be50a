-- Who holds a lock. $1 the lock's number, which the server shows as two halves. Takes no lock; 0 or 1 rows.
SELECT
    holder.pid,
    coalesce(activity.application_name, '') AS application_name,
    coalesce(to_char(activity.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), '') AS since
FROM pg_catalog.pg_locks AS holder
LEFT JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = holder.pid
WHERE holder.locktype = 'advisory'
    AND holder.granted
    AND holder.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND holder.objsubid = 1
    AND (holder.classid::bigint << 32) | holder.objid::bigint = $1
LIMIT 1
