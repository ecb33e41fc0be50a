-- Tries to become the only worker of a phase. $1 the lock's number. Held until the session ends. Doesn't wait: whoever
-- waited inside a statement would hold a snapshot, for which a CREATE INDEX CONCURRENTLY of the holder waits in turn.
-- One row.
SELECT pg_catalog.pg_try_advisory_lock($1)
