-- What repairs have changed on this side. Takes no lock where it is there.
CREATE SCHEMA IF NOT EXISTS alongside;
CREATE TABLE IF NOT EXISTS alongside.repair (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repaired_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    migration_uid text NOT NULL,
    phase text NOT NULL,
    attempt integer NOT NULL,
    table_name text NOT NULL,
    columns text[] NOT NULL,
    key text[] NOT NULL,
    kind text NOT NULL,
    before text[],
    after text[]
);
