-- Ends a holder's way through its chunk: done, or once more from the beginning where rows were left behind because
-- somebody else had them locked. $1 migration UID, $2 phase, $3 number, $4 holder, $5 epoch, $6 passes at most.
-- Locks one row; one row if the claim still stands, else none.
UPDATE alongside.backfill_chunk
SET state = CASE WHEN left_behind = 0 OR pass >= $6 THEN 'Done' ELSE 'Free' END,
    position = CASE WHEN left_behind = 0 OR pass >= $6 THEN upper END,
    pass = CASE WHEN left_behind = 0 OR pass >= $6 THEN pass ELSE pass + 1 END,
    left_behind = CASE WHEN pass >= $6 THEN left_behind ELSE 0 END,
    holder = NULL,
    lease_until = NULL,
    backend = NULL
WHERE migration_uid = $1
    AND phase = $2
    AND number = $3
    AND holder = $4
    AND epoch = $5
    AND state = 'Held'
RETURNING state = 'Done' AS is_done
