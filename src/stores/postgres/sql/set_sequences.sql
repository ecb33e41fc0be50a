-- Sets sequences to last numbers. $1 their names, quoted; $2 the numbers. Not transactional; a row each.
SELECT pg_catalog.setval(wanted.name::regclass, wanted.number, true) AS number
FROM unnest($1::text[], $2::bigint[]) AS wanted (name, number)
