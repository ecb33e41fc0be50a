-- Step 1: which steps were made, what scripts have done, and who may work.
CREATE TABLE IF NOT EXISTS alongside.layout (
    step integer PRIMARY KEY,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- One row each time that a script runs one way. The last row of (migration_uid, phase, version) says where it stands:
-- in effect, taken back, or with its first `done` statements in effect.
CREATE TABLE IF NOT EXISTS alongside.script_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration_uid text NOT NULL,
    migration text NOT NULL,
    phase text NOT NULL,
    version text NOT NULL,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('Up', 'Down')),
    attempt integer NOT NULL,
    try integer NOT NULL,
    checksum text NOT NULL,
    statements integer NOT NULL,
    done integer NOT NULL CHECK (done BETWEEN 0 AND statements),
    done_checksum text NOT NULL,
    begun integer CHECK (begun = done + 1),
    started_at timestamptz NOT NULL DEFAULT now(),
    applied_at timestamptz CHECK ((applied_at IS NOT NULL) = (done = statements))
);

CREATE INDEX IF NOT EXISTS script_history_by_script
    ON alongside.script_history (migration_uid, phase, version, id DESC);

-- The newest worker of a phase. An older one that comes late finds itself here and does nothing.
CREATE TABLE IF NOT EXISTS alongside.script_claim (
    migration_uid text NOT NULL,
    phase text NOT NULL,
    attempt integer NOT NULL,
    role text NOT NULL CHECK (role IN ('Up', 'Down')),
    try integer NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (migration_uid, phase)
);
