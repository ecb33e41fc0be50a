-- Keeps a session that evaluates the user's expressions from writing, and from policies that would hide rows: the server
-- refuses to read such a table then. One row.
SELECT
    pg_catalog.set_config('default_transaction_read_only', 'on', false),
    pg_catalog.set_config('row_security', 'off', false),
    pg_catalog.set_config('jit', 'off', false),
    pg_catalog.set_config('max_parallel_workers_per_gather', '0', false)
