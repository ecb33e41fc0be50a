-- Roles that may write a table, but not call what its sync trigger would call on their behalf: their writes would be left
-- without values. $1 the table's OID, $2 the functions, as regprocedure spells them. Takes no lock; a row a pair.
SELECT role.rolname::text AS role, called.name AS function
FROM unnest($2::text[]) AS called (name)
JOIN pg_catalog.pg_proc AS code ON code.oid = called.name::regprocedure
CROSS JOIN pg_catalog.pg_roles AS role
WHERE role.rolcanlogin
    AND (
        pg_catalog.has_any_column_privilege(role.oid, $1::oid, 'UPDATE')
        OR pg_catalog.has_any_column_privilege(role.oid, $1::oid, 'INSERT')
    )
    AND NOT (
        pg_catalog.has_function_privilege(role.oid, code.oid, 'EXECUTE')
        AND pg_catalog.has_schema_privilege(role.oid, code.pronamespace, 'USAGE')
    )
ORDER BY role.rolname, called.name
LIMIT 10
