-- The unique indexes of tables. $1 their oids. Takes no lock; a row each, the primary key first.
-- columns: the plain columns that it is on; NULL where an expression is among them. parts: the same as SQL, whatever they
-- are. usable: it holds for each row at every moment, so that its columns tell rows apart if none can be NULL.
-- An index of a partitioned table is valid once it is so on each partition.
SELECT
    index.indrelid AS table,
    relation.relname::text AS name,
    index.indisprimary AS primary,
    index.indisvalid AS valid,
    index.indisvalid AND index.indisready AND index.indimmediate AND index.indpred IS NULL AS usable,
    coalesce((pg_catalog.to_jsonb(index) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_not_distinct,
    CASE
        WHEN index.indexprs IS NULL THEN (
            SELECT pg_catalog.array_agg(attribute.attname::text ORDER BY part.place)
            FROM pg_catalog.unnest(index.indkey::int2[]) WITH ORDINALITY AS part (number, place)
            JOIN pg_catalog.pg_attribute AS attribute
                ON attribute.attrelid = index.indrelid AND attribute.attnum = part.number
            WHERE part.place <= index.indnkeyatts
        )
    END AS columns,
    (
        SELECT pg_catalog.array_agg(pg_catalog.pg_get_indexdef(index.indexrelid, place, false) ORDER BY place)
        FROM pg_catalog.generate_series(1, index.indnkeyatts::integer) AS place
    ) AS parts,
    pg_catalog.pg_get_expr(index.indpred, index.indrelid) AS predicate
FROM pg_catalog.pg_index AS index
JOIN pg_catalog.pg_class AS relation ON relation.oid = index.indexrelid
WHERE index.indrelid = ANY ($1::oid[])
    AND index.indisunique
ORDER BY index.indrelid, NOT index.indisprimary, index.indnkeyatts, relation.relname
