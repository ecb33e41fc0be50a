-- Who a store is: the cluster of files with its timeline, which tells a failover, and the database in it. One row.
SELECT
    (
        SELECT pg_catalog.concat_ws('/', system.system_identifier::text, checkpoint.timeline_id::text)
        FROM pg_catalog.pg_control_system() AS system, pg_catalog.pg_control_checkpoint() AS checkpoint
    ) AS system_identifier,
    pg_catalog.current_database()::text AS database,
    pg_catalog.current_setting('server_version') AS version
