-- What there is under an index's name. $1 the index's name and $2 the table's, as the script spells them. The index is
-- in the table's schema, as CREATE INDEX puts it. Takes no lock; 0 or 1 rows.
SELECT
    schema.nspname AS schema,
    named.relname AS name,
    named.relkind = 'i' AS is_plain_index,
    coalesce(build.indrelid = wanted.oid, false) AS on_same_table,
    coalesce(build.indisvalid AND build.indisready, false) AS is_valid,
    EXISTS (
        SELECT FROM pg_catalog.pg_stat_progress_create_index AS running
        WHERE running.index_relid = named.oid AND running.pid <> pg_catalog.pg_backend_pid()
    ) AS in_progress
FROM pg_catalog.pg_class AS wanted
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = wanted.relnamespace
JOIN pg_catalog.pg_class AS named
    ON named.relnamespace = wanted.relnamespace
    AND named.relname = (pg_catalog.parse_ident($1))[1]::name
LEFT JOIN pg_catalog.pg_index AS build ON build.indexrelid = named.oid
WHERE wanted.oid = pg_catalog.to_regclass($2)
