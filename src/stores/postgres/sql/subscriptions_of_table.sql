-- The subscriptions that feed a table, itself or its partitions. $1 its quoted name. Takes no lock; a row each.
SELECT
    subscription.subname::text AS subscription,
    subscription.subenabled AS enabled,
    pg_catalog.bool_and(part.srsubstate = 'r') AS in_step
FROM pg_catalog.pg_subscription_rel AS part
JOIN pg_catalog.pg_subscription AS subscription ON subscription.oid = part.srsubid
WHERE part.srrelid = pg_catalog.to_regclass($1::text)
    OR part.srrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1::text)))
GROUP BY subscription.subname, subscription.subenabled
ORDER BY subscription.subname
