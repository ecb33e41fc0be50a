-- The columns of a table. $1 the table's OID. Takes no lock; a row a column.
-- `same_if_equal`: values that the type calls equal are the same to the bit, so that plain comparison will do.
SELECT
    attribute.attnum,
    attribute.attname::text AS name,
    attribute.attgenerated <> '' AS is_generated,
    attribute.attidentity = 'a' AS is_always_identity,
    attribute.attnotnull AS is_not_null,
    pg_catalog.format_type(attribute.atttypid, attribute.atttypmod) AS sql_type,
    pg_catalog.pg_get_expr(preset.adbin, preset.adrelid) AS preset,
    attribute.atttypmod = -1
        AND attribute.atttypid IN (
            'boolean'::regtype, 'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'oid'::regtype,
            'text'::regtype, 'varchar'::regtype, 'bytea'::regtype, 'uuid'::regtype, 'date'::regtype,
            'timestamp'::regtype, 'timestamptz'::regtype
        )
        AND coalesce(
            (SELECT sort.collisdeterministic FROM pg_catalog.pg_collation AS sort WHERE sort.oid = attribute.attcollation),
            true
        ) AS same_if_equal,
    pg_catalog.has_column_privilege(attribute.attrelid, attribute.attnum, 'UPDATE') AS may_write
FROM pg_catalog.pg_attribute AS attribute
LEFT JOIN pg_catalog.pg_attrdef AS preset
    ON preset.adrelid = attribute.attrelid AND preset.adnum = attribute.attnum AND attribute.attgenerated = ''
WHERE attribute.attrelid = $1
    AND attribute.attnum > 0
    AND NOT attribute.attisdropped
ORDER BY attribute.attnum
