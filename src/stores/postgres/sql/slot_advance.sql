-- Moves a slot to the end of what is on disk. $1 its name. Fails while somebody reads from it; one row, with the place.
-- Only what is on disk: past it a crash would write other records at the same places, and they would never stream.
WITH place AS MATERIALIZED (SELECT pg_catalog.pg_current_wal_flush_lsn() AS lsn)
SELECT place.lsn::text
FROM place, pg_catalog.pg_replication_slot_advance($1::text::name, place.lsn) AS moved
