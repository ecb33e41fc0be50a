-- Has a subscription that is disabled begin after a place of its source's WAL, wherever the slot says. $1 its name; $2 the
-- place. One row. Written to the WAL, but not flushed: commit something after it.
SELECT pg_catalog.pg_replication_origin_advance('pg_' || subscription.oid, $2::text::pg_catalog.pg_lsn) IS NULL AS done
FROM pg_catalog.pg_subscription AS subscription
WHERE subscription.subname = $1::text::name
    AND subscription.subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
