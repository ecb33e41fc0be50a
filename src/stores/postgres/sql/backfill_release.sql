-- Lets go of a chunk where it is. $1 migration UID, $2 phase, $3 number, $4 holder, $5 epoch. Locks one row; one row if
-- the claim still stood.
UPDATE alongside.backfill_chunk
SET state = 'Free', holder = NULL, lease_until = NULL, backend = NULL
WHERE migration_uid = $1
    AND phase = $2
    AND number = $3
    AND holder = $4
    AND epoch = $5
    AND state = 'Held'
RETURNING number
