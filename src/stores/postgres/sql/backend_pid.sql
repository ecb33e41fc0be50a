-- The server process behind this session at this moment. Takes no lock; one row.
SELECT pg_catalog.pg_backend_pid()
