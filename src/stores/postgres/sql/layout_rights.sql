-- Whether the role may make our own tables, or use those that are there. Takes no lock; one row of two booleans.
-- Looks tables up in the catalogue: naming them takes a right that may be just what is missing.
WITH ours AS (
    SELECT schema.oid AS schema, relation.oid AS relation, relation.relname AS name
    FROM pg_catalog.pg_namespace AS schema
    LEFT JOIN pg_catalog.pg_class AS relation ON relation.relnamespace = schema.oid AND relation.relkind = 'r'
    WHERE schema.nspname = 'alongside'
)
SELECT
    CASE
        WHEN EXISTS (SELECT FROM ours)
            THEN (
                SELECT
                    bool_and(
                        pg_catalog.has_schema_privilege(schema, 'CREATE')
                        AND pg_catalog.has_schema_privilege(schema, 'USAGE')
                    )
                FROM ours
            )
        ELSE pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
    END AS may_make,
    coalesce(
        (
            SELECT
                bool_and(
                    pg_catalog.has_table_privilege(relation, 'SELECT')
                    AND (
                        name = 'layout'
                        OR (
                            pg_catalog.has_table_privilege(relation, 'INSERT')
                            AND pg_catalog.has_table_privilege(relation, 'UPDATE')
                        )
                    )
                )
            FROM ours
            WHERE relation IS NOT NULL
        ),
        true
    ) AS may_use
