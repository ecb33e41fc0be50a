-- Where each script of a phase stands: the last row of each version. $1 migration UIDs (its own and those it adopts),
-- $2 phase. Takes no lock; a row a version.
SELECT DISTINCT ON (version)
    id, version, name, role, attempt, checksum, statements, done, done_checksum, begun,
    to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS started_at
FROM alongside.script_history
WHERE migration_uid = ANY ($1)
    AND phase = $2
ORDER BY version, id DESC
