-- Tables with a trigger that is switched on. $1 the trigger's name. Takes no lock; a row a table.
SELECT schema.nspname::text AS schema, relation.relname::text AS name
FROM pg_catalog.pg_trigger AS trigger
JOIN pg_catalog.pg_class AS relation ON relation.oid = trigger.tgrelid
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
WHERE trigger.tgname = $1::text::name AND trigger.tgenabled IN ('O', 'A') AND NOT trigger.tgisinternal
ORDER BY schema.nspname, relation.relname
