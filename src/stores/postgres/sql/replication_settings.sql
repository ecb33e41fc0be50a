-- Settings that replication depends on, in the server's base units, and how many slots and senders are in use. Takes no
-- lock; a row each.
SELECT name::text AS name, setting::text AS value
FROM pg_catalog.pg_settings
WHERE name IN (
    'server_version', 'server_version_num', 'wal_level', 'max_replication_slots', 'max_wal_senders',
    'max_slot_wal_keep_size', 'max_logical_replication_workers', 'max_worker_processes', 'wal_retrieve_retry_interval'
)
UNION ALL
SELECT 'slots_used', count(*)::text FROM pg_catalog.pg_replication_slots
UNION ALL
SELECT 'senders_used', count(*)::text FROM pg_catalog.pg_stat_replication
