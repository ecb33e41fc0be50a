-- Begins a script's row. $1 migration UID, $2 migration, $3 phase, $4 version, $5 name, $6 role, $7 attempt, $8 try,
-- $9 checksum, $10 statements in all, $11 statements done, $12 checksum of those, $13 the statement begun or NULL.
-- One row: its id.
INSERT INTO alongside.script_history (
    migration_uid, migration, phase, version, name, role, attempt, try,
    checksum, statements, done, done_checksum, begun, applied_at
)
VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9,
    $10::integer, $11::integer, $12, $13,
    CASE WHEN $11::integer = $10::integer THEN now() END
)
RETURNING id
