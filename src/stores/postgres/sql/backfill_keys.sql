-- Unique indexes of a table, the primary key first and then the shortest, with all that decides whether one can lead
-- through the table. $1 the table's OID. Takes no lock; a row an index.
-- A key of a domain is compared as what the domain is over. Types are without their length: a cast to char(1) would cut a
-- bound off.
SELECT
    named.relname::text AS name,
    index.indisprimary AS is_primary,
    index.indisvalid AND index.indisready AND index.indislive AS is_valid,
    index.indpred IS NOT NULL AS is_partial,
    index.indexprs IS NOT NULL AS has_expression,
    coalesce(parts.has_null, false) AS has_null,
    coalesce(parts.is_orderly, false) AS is_orderly,
    parts.columns,
    parts.types
FROM pg_catalog.pg_index AS index
JOIN pg_catalog.pg_class AS named ON named.oid = index.indexrelid
JOIN pg_catalog.pg_am AS method ON method.oid = named.relam AND method.amname = 'btree'
LEFT JOIN LATERAL (
    SELECT
        bool_or(NOT attribute.attnotnull) AS has_null,
        -- All in one direction, and in the order that plain comparison of the columns has.
        bool_and(
            index.indcollation[place.n - 1] = attribute.attcollation
            AND class.opcdefault
            AND (index.indoption[place.n - 1] & 1) = (index.indoption[0] & 1)
        ) AS is_orderly,
        array_agg(attribute.attname::text ORDER BY place.n) AS columns,
        array_agg(
            pg_catalog.format_type(base.oid, -1) ORDER BY place.n
        ) AS types
    FROM generate_series(1, index.indnkeyatts) AS place (n)
    JOIN pg_catalog.pg_attribute AS attribute
        ON attribute.attrelid = index.indrelid AND attribute.attnum = index.indkey[place.n - 1]
    CROSS JOIN LATERAL (
        WITH RECURSIVE over (oid, kind, base) AS (
            SELECT type.oid, type.typtype, type.typbasetype
            FROM pg_catalog.pg_type AS type
            WHERE type.oid = attribute.atttypid
            UNION ALL
            SELECT type.oid, type.typtype, type.typbasetype
            FROM over
            JOIN pg_catalog.pg_type AS type ON over.kind = 'd' AND type.oid = over.base
        )
        SELECT over.oid FROM over WHERE over.kind <> 'd'
    ) AS base
    JOIN pg_catalog.pg_opclass AS class ON class.oid = index.indclass[place.n - 1]
) AS parts ON true
WHERE index.indrelid = $1
    AND index.indisunique
ORDER BY index.indisprimary DESC, index.indnkeyatts, named.relname
