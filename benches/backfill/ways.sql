-- The least that a chunked backfill can be: find the chunk's end, update, commit. It waits for locked rows, keeps no
-- position and proves nothing.
CREATE OR REPLACE PROCEDURE bare_loop(size int) LANGUAGE plpgsql AS $$
DECLARE
    last bigint := 0;
    upper bigint;
BEGIN
    LOOP
        SELECT max(id) INTO upper
        FROM (SELECT id FROM customers WHERE id > last ORDER BY id LIMIT size) AS chunk;
        EXIT WHEN upper IS NULL;
        UPDATE customers
        SET first_name = split_part(full_name, ' ', 1), last_name = split_part(full_name, ' ', 2)
        WHERE id > last AND id <= upper AND first_name IS NULL;
        COMMIT;
        last := upper;
    END LOOP;
END
$$;
-- Batches that touch each row, so that the trigger computes it.
CREATE OR REPLACE PROCEDURE touch_loop(size int) LANGUAGE plpgsql AS $$
DECLARE
    last bigint := 0;
    reached bigint;
BEGIN
    LOOP
        WITH batch AS (
            SELECT id FROM customers WHERE id > last ORDER BY id LIMIT size FOR NO KEY UPDATE
        ),
        touched AS (
            UPDATE customers SET id = customers.id FROM batch WHERE customers.id = batch.id RETURNING customers.id
        )
        SELECT max(id) INTO reached FROM touched;
        EXIT WHEN reached IS NULL;
        COMMIT;
        last := reached;
    END LOOP;
END
$$;
