-- The newest worker of a phase. $1 migration UID, $2 phase. Takes no lock; 0 or 1 rows.
SELECT attempt, role, try FROM alongside.script_claim WHERE migration_uid = $1 AND phase = $2
