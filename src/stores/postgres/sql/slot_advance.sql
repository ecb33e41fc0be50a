-- Moves a slot to the end of what is committed. $1 its name. Fails while somebody reads from it; one row.
SELECT end_lsn::text
FROM pg_catalog.pg_replication_slot_advance($1::text::name, pg_catalog.pg_current_wal_insert_lsn())
