-- What kind of server this is and who we are on it. Takes no lock; one row.
SELECT
    pg_catalog.current_setting('server_version_num')::integer AS version_number,
    pg_catalog.current_setting('server_version') AS version,
    pg_catalog.pg_is_in_recovery() AS in_recovery,
    EXISTS (
        SELECT
        FROM pg_catalog.pg_settings
        WHERE name = 'default_transaction_read_only' AND reset_val = 'on'
    ) AS read_only,
    current_user::text AS role
