-- What every script begins with. $1 lock timeout, $2 statement timeout, $3 idle-in-transaction timeout, each in
-- milliseconds as text, 0 for none. Takes no lock; one row.
-- What is acknowledged has to outlive a crash of the server, so synchronous_commit is raised where it is off, and left
-- alone where it is stricter. Read committed, so that a script sees what it has waited for.
SELECT
    pg_catalog.set_config('lock_timeout', $1, false),
    pg_catalog.set_config('statement_timeout', $2, false),
    pg_catalog.set_config('idle_in_transaction_session_timeout', $3, false),
    pg_catalog.set_config('default_transaction_read_only', 'off', false),
    pg_catalog.set_config('default_transaction_isolation', 'read committed', false),
    pg_catalog.set_config('tcp_keepalives_idle', '30', false),
    pg_catalog.set_config('tcp_keepalives_interval', '10', false),
    pg_catalog.set_config('tcp_keepalives_count', '3', false),
    pg_catalog.set_config(
        'synchronous_commit',
        CASE pg_catalog.current_setting('synchronous_commit')
            WHEN 'off' THEN 'on'
            ELSE pg_catalog.current_setting('synchronous_commit')
        END,
        false
    )
