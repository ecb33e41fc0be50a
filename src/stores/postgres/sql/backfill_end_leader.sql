-- Ends the session of a leader that has given no sign for longer than $3 seconds (double precision). $1 migration UID,
-- $2 phase. One row a session ended.
SELECT pg_catalog.pg_terminate_backend(activity.pid) AS ended
FROM alongside.backfill_run AS run
JOIN pg_catalog.pg_stat_activity AS activity
    ON activity.pid = run.leader_backend AND activity.backend_start = run.leader_since
WHERE run.migration_uid = $1
    AND run.phase = $2
    AND run.beat_at < now() - make_interval(secs => $3)
    AND activity.pid <> pg_catalog.pg_backend_pid()
