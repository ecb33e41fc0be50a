-- Whether there is a publication. $1 its name. Takes no lock; one row.
SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $1::text::name) AS found
