-- What the server has made of an expression that was given to it as a generated column. $1 the scratch table's OID, $2
-- the generated column's name. Takes no lock; one row.
-- `uses` are the columns it reads, 0 standing for the whole row and negative numbers for system columns.
SELECT
    pg_catalog.pg_get_expr(preset.adbin, preset.adrelid) AS text,
    coalesce(
        (
            SELECT array_agg(DISTINCT reads.refobjsubid ORDER BY reads.refobjsubid)
            FROM pg_catalog.pg_depend AS reads
            WHERE reads.classid = 'pg_catalog.pg_attrdef'::regclass
                AND reads.objid = preset.oid
                AND reads.refclassid = 'pg_catalog.pg_class'::regclass
                AND reads.refobjid = preset.adrelid
                AND reads.refobjsubid <> preset.adnum
        ),
        '{}'
    ) AS uses,
    coalesce(
        (
            SELECT array_agg(DISTINCT calls.refobjid::regprocedure::text)
            FROM pg_catalog.pg_depend AS calls
            WHERE calls.classid = 'pg_catalog.pg_attrdef'::regclass
                AND calls.objid = preset.oid
                AND calls.refclassid = 'pg_catalog.pg_proc'::regclass
        ),
        '{}'
    ) AS functions
FROM pg_catalog.pg_attribute AS attribute
JOIN pg_catalog.pg_attrdef AS preset ON preset.adrelid = attribute.attrelid AND preset.adnum = attribute.attnum
WHERE attribute.attrelid = $1
    AND attribute.attname = $2
