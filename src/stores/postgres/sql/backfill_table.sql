-- What there is under a table's name. $1 its name as the user spells it. Takes no lock; 0 or 1 rows.
SELECT
    relation.oid,
    schema.nspname::text AS schema,
    relation.relname::text AS name,
    relation.relkind::text AS kind,
    relation.relpersistence = 't' AS is_temporary,
    relation.relispartition AS is_partition,
    EXISTS (SELECT FROM pg_catalog.pg_inherits AS child WHERE child.inhparent = relation.oid) AS has_children,
    EXISTS (
        SELECT
        FROM pg_catalog.pg_partition_tree(relation.oid) AS part
        JOIN pg_catalog.pg_class AS leaf ON leaf.oid = part.relid
        WHERE leaf.relkind = 'f'
    ) AS has_foreign_part,
    pg_catalog.row_security_active(relation.oid) AS hides_rows,
    pg_catalog.pg_has_role(relation.relowner, 'USAGE') AS is_owner,
    pg_catalog.pg_get_userbyid(relation.relowner)::text AS owner,
    pg_catalog.has_table_privilege(relation.oid, 'SELECT') AS may_read,
    pg_catalog.has_any_column_privilege(relation.oid, 'UPDATE') AS may_write,
    (
        SELECT coalesce(sum(greatest(leaf.reltuples, 0)), 0)::double precision
        FROM pg_catalog.pg_class AS leaf
        WHERE leaf.oid = relation.oid
            OR leaf.oid IN (SELECT part.relid FROM pg_catalog.pg_partition_tree(relation.oid) AS part WHERE part.isleaf)
    ) AS rows_estimated,
    (
        SELECT coalesce(sum(pg_catalog.pg_relation_size(leaf.oid)), 0)::bigint
        FROM pg_catalog.pg_class AS leaf
        WHERE leaf.oid = relation.oid
            OR leaf.oid IN (SELECT part.relid FROM pg_catalog.pg_partition_tree(relation.oid) AS part WHERE part.isleaf)
    ) AS bytes
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
WHERE relation.oid = pg_catalog.to_regclass($1)
