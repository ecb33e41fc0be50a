-- Moves a run to another state. $1 migration UID, $2 phase, $3 state. Locks one row; one row if there is a run.
UPDATE alongside.backfill_run SET state = $3, ended_at = CASE WHEN $3 <> 'Running' THEN now() END
WHERE migration_uid = $1 AND phase = $2
RETURNING 1
