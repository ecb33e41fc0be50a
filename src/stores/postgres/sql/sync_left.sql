-- What is left of a sync. $1 the triggers' names, $2 the function's name in the schema alongside. Takes no lock; a row a
-- thing.
SELECT format('trigger %I on %s', live.tgname, live.tgrelid::regclass) AS what
FROM pg_catalog.pg_trigger AS live
WHERE live.tgname = ANY ($1::text[])
UNION ALL
SELECT format('function alongside.%I', code.proname)
FROM pg_catalog.pg_proc AS code
JOIN pg_catalog.pg_namespace AS schema ON schema.oid = code.pronamespace
WHERE schema.nspname = 'alongside'
    AND code.proname = $2
