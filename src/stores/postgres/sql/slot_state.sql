-- What is known of a slot of this database. $1 its name. Takes no lock; 0 or 1 rows. Sizes in bytes.
SELECT
    slot.active,
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), slot.restart_lsn)::bigint AS retained_bytes,
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), slot.confirmed_flush_lsn)::bigint
        AS behind_bytes,
    coalesce(slot.wal_status, 'lost') AS wal_status
FROM pg_catalog.pg_replication_slots AS slot
WHERE slot.slot_name = $1::text::name AND slot.database = pg_catalog.current_database()
