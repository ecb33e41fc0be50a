-- Whatever of ours is still in the store, in words. $1 a pattern for LIKE of our names. Takes no lock; a row each.
SELECT 'the slot ' || slot_name AS what FROM pg_catalog.pg_replication_slots WHERE slot_name LIKE $1
UNION ALL
SELECT 'the publication ' || pubname FROM pg_catalog.pg_publication WHERE pubname LIKE $1
UNION ALL
SELECT 'the subscription ' || subname FROM pg_catalog.pg_subscription WHERE subname LIKE $1
UNION ALL
SELECT 'the trigger ' || tgname || ' on ' || tgrelid::regclass::text FROM pg_catalog.pg_trigger WHERE tgname LIKE $1
UNION ALL
SELECT 'the schema ' || nspname FROM pg_catalog.pg_namespace WHERE nspname LIKE $1
