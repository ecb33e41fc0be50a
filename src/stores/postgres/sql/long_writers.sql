-- Transactions that have written and are open for long: a fence would wait for them. $1 the age in seconds from which
-- they count. A role without pg_read_all_stats sees its own role's only. Takes no lock; a row each, the oldest first.
SELECT
    activity.pid,
    coalesce(activity.application_name, '') AS application_name,
    floor(extract(epoch FROM now() - activity.xact_start))::bigint AS seconds
FROM pg_catalog.pg_stat_activity AS activity
WHERE activity.datname = pg_catalog.current_database()
    AND activity.pid <> pg_catalog.pg_backend_pid()
    AND activity.backend_type = 'client backend'
    AND activity.backend_xid IS NOT NULL
    AND activity.xact_start < now() - make_interval(secs => $1)
ORDER BY activity.xact_start
LIMIT 5
