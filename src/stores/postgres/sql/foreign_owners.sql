-- Relations that exist and that the role doesn't own, so that it can't change them. $1 their names as the scripts spell
-- them. Takes no lock; a row a relation.
SELECT wanted.name, pg_catalog.pg_get_userbyid(relation.relowner)::text AS owner
FROM unnest($1::text[]) AS wanted (name)
JOIN pg_catalog.pg_class AS relation ON relation.oid = pg_catalog.to_regclass(wanted.name)
WHERE NOT pg_catalog.pg_has_role(relation.relowner, 'USAGE')
ORDER BY wanted.name
