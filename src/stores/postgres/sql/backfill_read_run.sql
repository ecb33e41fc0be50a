-- A phase's run. $1 migration UID, $2 phase. Takes no lock; 0 or 1 rows.
SELECT format_version, attempt, statement, relation, columns, need, state, sync
FROM alongside.backfill_run
WHERE migration_uid = $1 AND phase = $2
