-- Ends whoever reads from a slot. $1 the slot's name. A row for the reader, if there is one.
SELECT pg_catalog.pg_terminate_backend(slot.active_pid) AS ended
FROM pg_catalog.pg_replication_slots AS slot
WHERE slot.slot_name = $1::text::name AND slot.active_pid IS NOT NULL
