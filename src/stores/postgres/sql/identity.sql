-- Who the server is: system identifier, timeline, number of the database. Takes no lock; one row.
SELECT
    system.system_identifier::text AS system_identifier,
    checkpoint.timeline_id AS timeline,
    (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AS database
FROM pg_catalog.pg_control_system() AS system, pg_catalog.pg_control_checkpoint() AS checkpoint
