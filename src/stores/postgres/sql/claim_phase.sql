-- Makes this worker the newest of its phase, unless a newer one has been here. $1 migration UID, $2 phase, $3 attempt,
-- $4 role, $5 try. Within an attempt going back is newer than going forward. Locks one row; 1 row if the claim stands,
-- else none.
INSERT INTO alongside.script_claim AS claim (migration_uid, phase, attempt, role, try)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (migration_uid, phase) DO UPDATE
    SET attempt = excluded.attempt,
        role = excluded.role,
        try = excluded.try,
        claimed_at = now()
    WHERE (excluded.attempt, excluded.role = 'Down', excluded.try) >= (claim.attempt, claim.role = 'Down', claim.try)
RETURNING 1
