-- What the role may do of what replication needs. Takes no lock; one row.
SELECT
    role.rolname::text AS role,
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create,
    role.rolsuper OR role.rolreplication AS may_replicate,
    role.rolsuper
        OR EXISTS (
            SELECT
            FROM pg_catalog.pg_roles AS needed
            WHERE needed.rolname = 'pg_create_subscription' AND pg_catalog.pg_has_role(role.oid, needed.oid, 'USAGE')
        ) AS may_subscribe,
    pg_catalog.has_parameter_privilege('session_replication_role', 'SET') AS may_set_role,
    pg_catalog.has_function_privilege('pg_catalog.pg_replication_origin_advance(text, pg_lsn)', 'EXECUTE')
        AS may_begin_after,
    pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
        AND pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE') AS may_identify
FROM pg_catalog.pg_roles AS role
WHERE role.rolname = current_user
