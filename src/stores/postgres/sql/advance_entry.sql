-- Moves a script's row on. $1 id, $2 attempt, $3 try, $4 checksum of the whole, $5 statements in all, $6 statements
-- done, $7 checksum of those, $8 the statement begun or NULL. Locks one row; one row: its id.
UPDATE alongside.script_history
SET attempt = $2,
    try = $3,
    checksum = $4,
    statements = $5::integer,
    done = $6::integer,
    done_checksum = $7,
    begun = $8,
    applied_at = CASE WHEN $6::integer = $5::integer THEN now() END
WHERE id = $1
RETURNING id
