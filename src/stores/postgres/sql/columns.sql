-- The columns of tables. $1 their oids. Takes no lock; a row each, in the table's order.
-- binary: the type's binary form is the same on every server: a type of PostgreSQL's own under a fixed oid, not a
-- reference to something by its oid, and no access list, which has none.
-- The collation counts for the order only where it isn't plainly by byte.
SELECT
    attribute.attrelid AS table,
    attribute.attname::text AS name,
    attribute.attnotnull AS not_null,
    attribute.attgenerated <> '' AS generated,
    type.oid AS type,
    pg_catalog.format_type(type.oid, NULL) AS type_name,
    pg_catalog.format_type(type.oid, attribute.atttypmod) AS full_type_name,
    attribute.atttypmod AS modifier,
    type.oid < 10000
        AND type.typsend <> 0
        AND coalesce(element.typname, type.typname) NOT LIKE 'reg%'
        AND coalesce(element.typname, type.typname) <> 'aclitem' AS binary,
    CASE
        WHEN attribute.attcollation = 0 OR sorting.collcollate IN ('C', 'POSIX') THEN NULL
        WHEN sorting.collprovider = 'd' THEN (
            SELECT
                CASE
                    WHEN database.datcollate IN ('C', 'POSIX')
                        AND coalesce(pg_catalog.to_jsonb(database) ->> 'datlocprovider', 'c') = 'c' THEN NULL
                    ELSE pg_catalog.concat_ws(
                        '/',
                        coalesce(pg_catalog.to_jsonb(database) ->> 'datlocprovider', 'c'),
                        database.datcollate,
                        coalesce(
                            pg_catalog.to_jsonb(database) ->> 'daticulocale',
                            pg_catalog.to_jsonb(database) ->> 'datlocale'
                        ),
                        coalesce(pg_catalog.to_jsonb(database) ->> 'datcollversion', pg_catalog.version())
                    )
                END
            FROM pg_catalog.pg_database AS database
            WHERE database.datname = pg_catalog.current_database()
        )
        ELSE pg_catalog.concat_ws(
            '/',
            sorting.collprovider::text,
            sorting.collcollate,
            coalesce(
                pg_catalog.to_jsonb(sorting) ->> 'colliculocale',
                pg_catalog.to_jsonb(sorting) ->> 'colllocale'
            ),
            pg_catalog.to_jsonb(sorting) ->> 'collicurules',
            sorting.collisdeterministic::text,
            coalesce(pg_catalog.pg_collation_actual_version(sorting.oid), pg_catalog.version())
        )
    END AS collation
FROM pg_catalog.pg_attribute AS attribute
JOIN pg_catalog.pg_type AS type ON type.oid = attribute.atttypid
LEFT JOIN pg_catalog.pg_type AS element ON element.oid = type.typelem AND type.typelem <> 0
LEFT JOIN pg_catalog.pg_collation AS sorting ON sorting.oid = attribute.attcollation
WHERE attribute.attrelid = ANY ($1::oid[])
    AND attribute.attnum > 0
    AND NOT attribute.attisdropped
ORDER BY attribute.attrelid, attribute.attnum
