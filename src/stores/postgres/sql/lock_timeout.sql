-- The session's lock timeout, as the server shows it. Takes no lock; one row.
SELECT pg_catalog.current_setting('lock_timeout')
