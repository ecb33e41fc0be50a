-- Runs of others, or of this phase before, over the same columns of the same table. $1 relation, $2 numbers of the
-- columns, $3 migration UID, $4 phase. Takes no lock; a row a run.
SELECT migration_uid, migration, phase, state, migration_uid = $3 AND phase = $4 AS is_ours
FROM alongside.backfill_run
WHERE relation = $1
    AND columns && $2::smallint[]
