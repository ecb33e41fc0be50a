-- INVALID copies that a failed REINDEX CONCURRENTLY has left. $1 the table or index that was rebuilt, as the script
-- spells it. Takes no lock; a row a leftover.
SELECT schema.nspname AS schema, named.relname AS name
FROM pg_catalog.pg_class AS target
LEFT JOIN pg_catalog.pg_index AS target_index ON target_index.indexrelid = target.oid
JOIN pg_catalog.pg_index AS build ON build.indrelid = coalesce(target_index.indrelid, target.oid)
JOIN pg_catalog.pg_class AS named ON named.oid = build.indexrelid
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = named.relnamespace
WHERE target.oid = pg_catalog.to_regclass($1)
    AND NOT build.indisvalid
    AND named.relname ~ '_cc(new|old)[0-9]*$'
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_stat_progress_create_index AS running
        WHERE running.index_relid = named.oid AND running.pid <> pg_catalog.pg_backend_pid()
    )
ORDER BY named.relname
