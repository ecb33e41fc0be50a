-- Everything of the user's that a pattern of tables could mean. Takes no lock; a row each, by schema and name.
-- Schemas of ours aren't among them.
-- root: of a partition, the table that it is a part of in the end.
-- place: position of the schema in the role's search path, from 1; NULL where it isn't in it.
SELECT
    relation.oid,
    namespace.nspname::text AS schema,
    relation.relname::text AS name,
    relation.relkind::text AS kind,
    relation.relpersistence::text AS persistence,
    CASE WHEN relation.relispartition THEN pg_catalog.pg_partition_root(relation.oid)::oid END AS root,
    relation.reltuples::bigint AS estimate,
    pg_catalog.array_position(pg_catalog.current_schemas(false), namespace.nspname) AS place
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
WHERE relation.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND namespace.nspname NOT LIKE 'pg\_%'
    AND namespace.nspname <> 'information_schema'
    AND namespace.nspname !~ '^alongside(_[0-9a-z]+)?$'
ORDER BY namespace.nspname, relation.relname
