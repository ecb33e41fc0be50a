-- Drops a slot. $1 its name. Fails while somebody reads from it; one row.
SELECT pg_catalog.pg_drop_replication_slot(slot.slot_name)
FROM pg_catalog.pg_replication_slots AS slot
WHERE slot.slot_name = $1::text::name
