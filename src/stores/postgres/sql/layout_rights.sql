-- Whether the role may make our own tables, or use those that are there. Takes no lock; one row of two booleans.
SELECT
    CASE
        WHEN pg_catalog.to_regnamespace('alongside') IS NULL
            THEN pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
        ELSE pg_catalog.has_schema_privilege('alongside', 'CREATE, USAGE')
    END AS may_make,
    CASE
        WHEN pg_catalog.to_regclass('alongside.script_history') IS NULL THEN true
        WHEN NOT pg_catalog.has_schema_privilege('alongside', 'USAGE') THEN false
        ELSE
            pg_catalog.has_table_privilege('alongside.layout', 'SELECT')
            AND pg_catalog.has_table_privilege('alongside.script_history', 'SELECT')
            AND pg_catalog.has_table_privilege('alongside.script_history', 'INSERT')
            AND pg_catalog.has_table_privilege('alongside.script_history', 'UPDATE')
            AND pg_catalog.has_table_privilege('alongside.script_claim', 'SELECT')
            AND pg_catalog.has_table_privilege('alongside.script_claim', 'INSERT')
            AND pg_catalog.has_table_privilege('alongside.script_claim', 'UPDATE')
    END AS may_use
