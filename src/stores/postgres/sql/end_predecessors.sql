-- Ends the sessions of earlier conductors. $1 a pattern for LIKE of all conductors' names; $2 the name that stays. A row
-- for each that was still there.
SELECT pg_catalog.pg_terminate_backend(activity.pid) AS ended
FROM pg_catalog.pg_stat_activity AS activity
WHERE activity.application_name LIKE $1::text
    AND activity.application_name <> $2::text
    AND activity.pid <> pg_catalog.pg_backend_pid()
