-- What the triggers and the function of a sync are like right now, as one text that changes with any change to them:
-- one that was dropped and made again, or switched off and on, isn't the same. $1 the table's OID, $2 the triggers'
-- names, $3 the function's name in the schema alongside. Takes no lock; one row, NULL if any of them is absent or
-- switched off.
SELECT
    CASE
        WHEN count(*) = cardinality($2::text[]) AND bool_and(part.is_on)
            THEN string_agg(part.print, ' ' ORDER BY part.name)
    END AS print
FROM (
    SELECT
        live.tgname AS name,
        live.tgenabled IN ('O', 'A') AS is_on,
        format('%s.%s.%s.%s', live.oid, live.xmin, code.oid, code.xmin) AS print
    FROM pg_catalog.pg_trigger AS live
    JOIN pg_catalog.pg_proc AS code ON code.oid = live.tgfoid
    JOIN pg_catalog.pg_namespace AS schema ON schema.oid = code.pronamespace
    WHERE live.tgrelid = $1
        AND live.tgname = ANY ($2::text[])
        AND schema.nspname = 'alongside'
        AND code.proname = $3
) AS part
