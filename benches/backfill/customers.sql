DROP TABLE IF EXISTS customers;
DROP SCHEMA IF EXISTS alongside CASCADE;
CREATE TABLE customers (
    id bigint PRIMARY KEY,
    full_name text NOT NULL,
    visits int NOT NULL DEFAULT 0,
    first_name text,
    last_name text
);
INSERT INTO customers (id, full_name)
SELECT n, 'first' || n || ' last' || n FROM generate_series(1, :rows) AS n;
VACUUM ANALYZE customers;
