-- Other row triggers of a table that an UPDATE of these columns fires. $1 the table's OID, $2 our triggers' names, $3 the
-- numbers of the columns. Takes no lock; a row a trigger. `comes_last`: it runs after ours and can undo what they do.
SELECT
    live.tgname::text AS name,
    (live.tgtype & 2) = 2 AS is_before,
    (live.tgtype & 2) = 2 AND live.tgname::text COLLATE "C" > (SELECT max(ours.name COLLATE "C") FROM unnest($2::text[]) AS ours (name))
        AS comes_last,
    (live.tgtype & 16) = 16
        AND (live.tgattr = ''::int2vector OR live.tgattr::smallint[] && $3::smallint[]) AS on_update
FROM pg_catalog.pg_trigger AS live
WHERE live.tgrelid = $1
    AND NOT live.tgisinternal
    AND live.tgenabled <> 'D'
    AND (live.tgtype & 1) = 1
    AND live.tgname <> ALL ($2::text[])
ORDER BY live.tgname
