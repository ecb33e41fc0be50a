-- Sequences that tables use, and those that patterns name. $1 numbers of the tables; $2 patterns of `schema.name` for
-- LIKE. Takes no lock; a row a sequence.
SELECT
    schema.nspname::text AS schema,
    relation.relname::text AS name,
    pg_catalog.pg_sequence_last_value(relation.oid) AS last,
    sequence.seqincrement AS step,
    sequence.seqmin AS least,
    sequence.seqmax AS greatest,
    sequence.seqcache AS cache
FROM pg_catalog.pg_sequence AS sequence
JOIN pg_catalog.pg_class AS relation ON relation.oid = sequence.seqrelid
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
WHERE schema.nspname <> 'alongside'
    AND schema.nspname !~ '^alongside_[0-9a-f]{12}$'
    AND relation.relpersistence <> 't'
    AND (
        schema.nspname || '.' || relation.relname LIKE ANY ($2::text[])
        OR EXISTS (
            SELECT
            FROM pg_catalog.pg_depend AS owned
            WHERE owned.classid = 'pg_catalog.pg_class'::regclass
                AND owned.objid = relation.oid
                AND owned.refclassid = 'pg_catalog.pg_class'::regclass
                AND owned.refobjid = ANY ($1::oid[])
        )
        OR EXISTS (
            SELECT
            FROM pg_catalog.pg_depend AS used
            JOIN pg_catalog.pg_attrdef AS value ON value.oid = used.objid
            WHERE used.classid = 'pg_catalog.pg_attrdef'::regclass
                AND used.refclassid = 'pg_catalog.pg_class'::regclass
                AND used.refobjid = relation.oid
                AND value.adrelid = ANY ($1::oid[])
        )
    )
ORDER BY schema.nspname, relation.relname
