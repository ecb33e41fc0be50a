-- Begins a phase's run, in place of an earlier one. $1 migration UID, $2 phase, $3 migration, $4 format version,
-- $5 attempt, $6 checksum of the statement, $7 relation, $8 numbers of the columns, $9 how need is told, $10 print of the
-- sync trigger or NULL. Locks one row; no row.
INSERT INTO alongside.backfill_run
    (migration_uid, phase, migration, format_version, attempt, statement, relation, columns, need, sync, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'Running')
ON CONFLICT (migration_uid, phase) DO UPDATE
    SET format_version = excluded.format_version,
        attempt = excluded.attempt,
        statement = excluded.statement,
        relation = excluded.relation,
        columns = excluded.columns,
        need = excluded.need,
        sync = excluded.sync,
        state = 'Running',
        began_at = now(),
        ended_at = NULL
