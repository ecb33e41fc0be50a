-- Notes who leads. $1 migration UID, $2 phase, $3 leader. Locks one row; one row if there is a run.
UPDATE alongside.backfill_run
SET leader = $3,
    leader_backend = pg_catalog.pg_backend_pid(),
    leader_since = (SELECT backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()),
    beat_at = clock_timestamp()
WHERE migration_uid = $1 AND phase = $2
RETURNING state
