-- The tables of backfills. Creates only what is absent.
-- One row a phase: what is computed, how it is bound, who leads. `statement` is a checksum of what the user wrote,
-- `columns` are the numbers of the columns set, `sync` is what the trigger was like when it was made.
CREATE TABLE IF NOT EXISTS alongside.backfill_run (
    migration_uid text NOT NULL,
    phase text NOT NULL,
    migration text NOT NULL,
    format_version integer NOT NULL,
    attempt integer NOT NULL,
    statement text NOT NULL,
    relation oid NOT NULL,
    columns smallint[] NOT NULL,
    need text NOT NULL CHECK (need IN ('Marked', 'Differing')),
    state text NOT NULL CHECK (state IN ('Running', 'Done', 'SyncLost', 'Undone', 'Finished')),
    sync text,
    leader text,
    leader_backend integer,
    leader_since timestamptz,
    beat_at timestamptz,
    began_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    PRIMARY KEY (migration_uid, phase)
);

-- One row a stretch of the key, (lower, upper], NULL being no bound. `position` is the last key done; it changes in the
-- transaction of the rows. Keys are text under pinned settings; only the table's own index says how they are ordered.
-- A claim is a committed row: holder, epoch and lease. Each claim raises the epoch, and nobody writes under an old one.
CREATE TABLE IF NOT EXISTS alongside.backfill_chunk (
    migration_uid text NOT NULL,
    phase text NOT NULL,
    number integer NOT NULL,
    lower text[],
    upper text[] NOT NULL,
    position text[],
    state text NOT NULL DEFAULT 'Free' CHECK (state IN ('Free', 'Held', 'Done')),
    holder text,
    epoch integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    backend integer,
    backend_since timestamptz,
    pass integer NOT NULL DEFAULT 1,
    scanned bigint NOT NULL DEFAULT 0,
    changed bigint NOT NULL DEFAULT 0,
    left_behind bigint NOT NULL DEFAULT 0,
    transactions bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (migration_uid, phase, number),
    FOREIGN KEY (migration_uid, phase) REFERENCES alongside.backfill_run ON DELETE CASCADE
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
