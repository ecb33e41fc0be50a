-- Whether our schema and our first table are there. Takes no lock; one row of two booleans.
-- Reads the catalogue itself: to_regclass answers out of a cache, which within one transaction doesn't hear of what
-- another worker has committed while this one waited for the layout's lock.
SELECT
    EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'alongside') AS has_schema,
    EXISTS (
        SELECT
        FROM pg_catalog.pg_class AS relation
        JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
        WHERE schema.nspname = 'alongside' AND relation.relname = 'layout'
    ) AS has_layout
