-- A subscription of this database. $1 its name. Takes no lock; 0 or 1 rows.
SELECT
    subscription.subenabled AS enabled,
    (
        SELECT min(activity.pid)
        FROM pg_catalog.pg_stat_subscription AS activity
        WHERE activity.subid = subscription.oid AND activity.pid IS NOT NULL AND activity.relid IS NULL
    ) AS worker,
    coalesce(
        (
            SELECT (pg_catalog.to_jsonb(stats) ->> 'apply_error_count')::bigint
            FROM pg_catalog.pg_stat_subscription_stats AS stats
            WHERE stats.subid = subscription.oid
        ),
        0
    ) AS errors
FROM pg_catalog.pg_subscription AS subscription
WHERE subscription.subname = $1::text::name
    AND subscription.subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
