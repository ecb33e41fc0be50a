-- Schemas in which the role may not create. $1 their names as the scripts spell them, NULL for the one that unqualified
-- names go to. Takes no lock; a row a schema.
SELECT DISTINCT schema.nspname::text AS name
FROM unnest($1::text[]) AS wanted (name)
JOIN pg_catalog.pg_namespace AS schema
    ON schema.oid = pg_catalog.to_regnamespace(coalesce(wanted.name, pg_catalog.quote_ident(pg_catalog.current_schema())))
WHERE NOT pg_catalog.has_schema_privilege(schema.oid, 'CREATE')
ORDER BY name
