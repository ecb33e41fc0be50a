-- History that others have left. $1 migration UIDs (its own and those it adopts), $2 migration, $3 checksums of the
-- scripts about to run. Takes no lock; a row an other UID of the same name, or a script of the same text that is in
-- effect by another migration.
SELECT DISTINCT ON (last.migration_uid, last.same_name, last.version)
    last.migration_uid, last.migration, last.phase, last.version, last.name, last.checksum, last.same_name
FROM (
    SELECT DISTINCT ON (migration_uid, phase, version)
        migration_uid, migration, phase, version, name, checksum, role, migration = $2 AS same_name
    FROM alongside.script_history
    WHERE NOT migration_uid = ANY ($1)
    ORDER BY migration_uid, phase, version, id DESC
) AS last
WHERE last.role = 'Up'
    AND (last.same_name OR last.checksum = ANY ($3))
ORDER BY last.migration_uid, last.same_name, last.version
LIMIT 20
