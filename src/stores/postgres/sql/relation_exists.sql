-- Whether a relation is there. $1 its name as the script spells it. Takes no lock; one row.
SELECT pg_catalog.to_regclass($1) IS NOT NULL
