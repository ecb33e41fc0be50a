-- Keeps two workers from making the layout at once, since CREATE ... IF NOT EXISTS fails when both begin together.
-- Held to the end of the transaction; waits within the lock timeout. The number is this store's, for this purpose alone.
SELECT pg_catalog.pg_advisory_xact_lock(4706911035312340001)
