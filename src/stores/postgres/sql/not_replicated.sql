-- What the patterns name and logical replication leaves out, in words. $1 patterns of `schema.name` for LIKE. Takes no
-- lock; a row each.
SELECT
    CASE
        WHEN relation.relkind = 'm' THEN 'the materialized view '
        WHEN relation.relkind = 'f' THEN 'the foreign table '
        ELSE 'the unlogged table '
    END || pg_catalog.quote_ident(schema.nspname) || '.' || pg_catalog.quote_ident(relation.relname) AS what
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
WHERE (relation.relkind IN ('m', 'f') OR (relation.relkind = 'r' AND relation.relpersistence = 'u'))
    AND schema.nspname NOT IN ('pg_catalog', 'information_schema')
    AND schema.nspname || '.' || relation.relname LIKE ANY ($1::text[])
UNION ALL
SELECT 'large objects' WHERE EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)
