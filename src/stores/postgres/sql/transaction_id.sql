-- The id of the present transaction, as text. Gives it one if it has none. Takes no lock; one row.
SELECT pg_catalog.pg_current_xact_id()::text
