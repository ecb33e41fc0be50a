-- Whether our schema and our first table are there. Takes no lock; one row of two booleans.
SELECT
    pg_catalog.to_regnamespace('alongside') IS NOT NULL AS has_schema,
    pg_catalog.to_regclass('alongside.layout') IS NOT NULL AS has_layout
