-- Makes a logical replication slot. $1 its name. Waits for every transaction that is open; one row.
SELECT slot_name::text FROM pg_catalog.pg_create_logical_replication_slot($1::text::name, 'pgoutput')
