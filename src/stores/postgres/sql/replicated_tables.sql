-- Tables that patterns name. $1 patterns of `schema.name` for LIKE. Permanent ones only, without the server's own and
-- ours. Takes no lock; a row a table, in the order of their names.
SELECT
    schema.nspname::text AS schema,
    relation.relname::text AS name,
    relation.oid AS oid,
    relation.relkind = 'p' AS partitioned,
    pg_catalog.pg_has_role(relation.relowner, 'USAGE') AS owned,
    coalesce(col.names, '{}') AS columns,
    coalesce(col.types, '{}') AS types,
    relation.relreplident = 'f'
        OR EXISTS (
            SELECT
            FROM pg_catalog.pg_index AS index
            WHERE index.indrelid = relation.oid
                AND index.indisvalid
                AND (
                    (relation.relreplident = 'd' AND index.indisprimary)
                    OR (relation.relreplident = 'i' AND index.indisreplident)
                )
        ) AS has_identity,
    CASE
        WHEN relation.relkind = 'r'
            THEN pg_catalog.pg_relation_size(relation.oid) / pg_catalog.current_setting('block_size')::bigint
        ELSE 0
    END AS pages
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
LEFT JOIN LATERAL (
    SELECT
        array_agg(attribute.attname::text ORDER BY attribute.attnum) AS names,
        array_agg(pg_catalog.format_type(attribute.atttypid, attribute.atttypmod) ORDER BY attribute.attnum) AS types
    FROM pg_catalog.pg_attribute AS attribute
    WHERE attribute.attrelid = relation.oid
        AND attribute.attnum > 0
        AND NOT attribute.attisdropped
        AND attribute.attgenerated = ''
) AS col ON true
WHERE relation.relkind IN ('r', 'p')
    AND relation.relpersistence = 'p'
    AND schema.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'alongside')
    AND schema.nspname !~ '^alongside_[0-9a-f]{12}$'
    AND schema.nspname || '.' || relation.relname LIKE ANY ($1::text[])
ORDER BY schema.nspname, relation.relname
