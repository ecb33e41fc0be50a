-- Sets the session's lock timeout. $1 milliseconds, or a number with its unit, as text. Takes no lock; one row.
SELECT pg_catalog.set_config('lock_timeout', $1, false)
