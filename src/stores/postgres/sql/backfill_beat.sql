-- A sign of life of the leader. $1 migration UID, $2 phase, $3 leader. One row while it leads, else none.
UPDATE alongside.backfill_run SET beat_at = clock_timestamp()
WHERE migration_uid = $1 AND phase = $2 AND leader = $3
RETURNING 1
