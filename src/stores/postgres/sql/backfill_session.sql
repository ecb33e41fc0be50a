-- What each session of a backfill begins with. $1 lock timeout, $2 statement timeout, in milliseconds as text, 0 for
-- none; $3 'off' to have the server take indexes wherever it can. Takes no lock; one row.
-- A key that travels as text must come back as what it was. Row security off makes the server refuse what it would
-- otherwise leave out in silence. A statement that is run thousands of times isn't planned anew, and not compiled.
SELECT
    pg_catalog.set_config('lock_timeout', $1, false),
    pg_catalog.set_config('statement_timeout', $2, false),
    pg_catalog.set_config('row_security', 'off', false),
    pg_catalog.set_config('TimeZone', 'UTC', false),
    pg_catalog.set_config('DateStyle', 'ISO, YMD', false),
    pg_catalog.set_config('IntervalStyle', 'postgres', false),
    pg_catalog.set_config('extra_float_digits', '1', false),
    pg_catalog.set_config('bytea_output', 'hex', false),
    pg_catalog.set_config('jit', 'off', false),
    pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', false),
    pg_catalog.set_config('enable_seqscan', $3, false),
    pg_catalog.set_config('enable_bitmapscan', $3, false),
    pg_catalog.set_config('enable_hashjoin', $3, false),
    pg_catalog.set_config('enable_mergejoin', $3, false)
