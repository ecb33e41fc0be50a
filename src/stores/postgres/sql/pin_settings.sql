-- What the text of a value depends on, the same for each session; and what a short reading is better without. One row.
-- With row_security off the server refuses to read a table of which a policy would hide rows, instead of hiding them.
SELECT
    pg_catalog.set_config('DateStyle', 'ISO, YMD', false),
    pg_catalog.set_config('IntervalStyle', 'postgres', false),
    pg_catalog.set_config('TimeZone', 'UTC', false),
    pg_catalog.set_config('extra_float_digits', '3', false),
    pg_catalog.set_config('bytea_output', 'hex', false),
    pg_catalog.set_config('lc_monetary', 'C', false),
    pg_catalog.set_config('xmlbinary', 'base64', false),
    pg_catalog.set_config('xmloption', 'content', false),
    pg_catalog.set_config('search_path', 'pg_catalog', false),
    pg_catalog.set_config('row_security', 'off', false),
    pg_catalog.set_config('jit', 'off', false),
    pg_catalog.set_config('max_parallel_workers_per_gather', '0', false)
