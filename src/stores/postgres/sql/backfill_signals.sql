-- What users may feel of a backfill. $1 backends of our own, integer[]. Takes no lock; one row. `lag_seconds` is NULL
-- where some replica's isn't known; without a replica it is 0. `replicas` counts those connected.
SELECT
    (
        SELECT count(DISTINCT waiting.pid)
        FROM pg_catalog.pg_locks AS waiting
        JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = waiting.pid
        WHERE NOT waiting.granted
            AND activity.datname = pg_catalog.current_database()
            AND waiting.pid <> ALL ($1::integer[])
    ) AS lock_waits,
    (
        SELECT count(*)
        FROM pg_catalog.pg_stat_activity
        WHERE datid IS NOT NULL AND pid <> ALL ($1::integer[])
    ) AS connections,
    (SELECT count(*) FROM pg_catalog.pg_stat_replication) AS replicas,
    (
        SELECT
            CASE
                WHEN count(*) = count(replica.lag) THEN coalesce(max(replica.lag), 0)
            END
        FROM (
            SELECT
                CASE
                    WHEN replay_lsn >= pg_catalog.pg_current_wal_flush_lsn() THEN 0
                    ELSE extract(epoch FROM replay_lag)
                END::double precision AS lag
            FROM pg_catalog.pg_stat_replication
        ) AS replica
    ) AS lag_seconds
