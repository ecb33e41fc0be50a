-- Lets the server look every 10 s, in the midst of a long statement, whether its client is still there (PostgreSQL 14).
-- Without it an index build of a killed worker goes on, and its lock with it. Takes no lock; one row, or an error.
SELECT pg_catalog.set_config('client_connection_check_interval', '10s', false)
