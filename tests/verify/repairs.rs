//! Rows of the new side made equal where the spec asks for it, beside writes that go on.

use alongside::worker::verify::{evidence::Finding, task::VerifyTask};

use crate::bench::Bench;

const ORDERS: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, total numeric, note text)";

fn fixing(mut task: VerifyTask) -> VerifyTask {
    task.action.repair = alongside::api::verify::Repair::Fix;
    task
}

#[tokio::test]
async fn what_differs_is_made_equal_and_written_down_while_writes_go_on() {
    let rows = "INSERT INTO orders SELECT i, i, 'note' FROM generate_series(0, 59999) AS i; ANALYZE orders";
    let bench = Bench::replicated(ORDERS, rows).await;
    let load = bench.load(3);
    load.runs_on(20).await;
    bench
        .green
        .run(
            "UPDATE orders SET note = 'drifted' WHERE id BETWEEN 50000 AND 50029; DELETE FROM orders WHERE id BETWEEN 51000 AND 51009;
             INSERT INTO orders SELECT i, 0, 'extra' FROM generate_series(-9000007, -9000001) AS i",
        )
        .await;
    let seen = bench.finds(&fixing(bench.joined(&["orders"])), Finding::Repaired).await;
    let repaired = seen.table().repaired;
    assert_eq!((repaired.different, repaired.missing, repaired.extra), (30, 10, 7));
    assert!(seen.verdict.message.contains("47 rows were made equal"), "{}", seen.verdict.message);
    // The stream lives on: nothing that was repaired is in its way.
    load.runs_on(50).await;
    drop(load);
    bench.finds(&bench.joined(&["orders"]), Finding::Equal).await;
    let audit = "SELECT kind, count(*), count(before), count(after) FROM alongside.repair GROUP BY 1 ORDER BY 1";
    let rows = bench.green.rows(audit, &[]).await;
    let rows: Vec<(String, i64, i64, i64)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    assert_eq!(rows, [("Different".into(), 30, 30, 30), ("Extra".into(), 7, 7, 0), ("Missing".into(), 10, 0, 10)]);
    let blue = "SELECT count(*) FROM pg_namespace WHERE nspname = 'alongside'";
    assert_eq!(bench.blue.count(blue).await, 0, "nothing is written on the old side");
}

#[tokio::test]
async fn odd_columns_are_repaired_too_and_no_trigger_fires() {
    let schema = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE TABLE \"Odd \"\"t\" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \"select\" mood, d positive[],
            twice int GENERATED ALWAYS AS (id * 2) STORED, b bytea, j jsonb, n numeric, t timestamptz, f float8)";
    let bench = Bench::at_rest(schema).await;
    bench
        .both(
            "INSERT INTO \"Odd \"\"t\" (\"select\", d, b, j, n, t, f)
             SELECT 'ok', '{1,2}', '\\x00ff', '{\"a\": 1.50}', 'NaN', 'infinity', 0.1 FROM generate_series(1, 40)",
        )
        .await;
    bench
        .green
        .run(
            "DELETE FROM \"Odd \"\"t\" WHERE id IN (3, 4); UPDATE \"Odd \"\"t\" SET \"select\" = 'sad', d = NULL, f = 1 WHERE id = 7;
             CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''fired''; END';
             CREATE TRIGGER fires BEFORE INSERT OR UPDATE ON \"Odd \"\"t\" FOR EACH ROW EXECUTE FUNCTION fail()",
        )
        .await;
    let seen = bench.finds(&fixing(bench.all()), Finding::Repaired).await;
    assert_eq!(seen.table().repaired.total(), 3);
    bench.finds(&bench.all(), Finding::Equal).await;
}

#[tokio::test]
async fn so_much_difference_that_a_person_should_look_first_is_not_repaired() {
    let bench = Bench::at_rest(ORDERS).await;
    bench.blue.run("INSERT INTO orders SELECT i, i, '' FROM generate_series(1, 3000) AS i").await;
    let seen = bench.finds(&fixing(bench.all()), Finding::Differs).await;
    assert_eq!((seen.table().repaired.total(), seen.table().differing.missing), (0, 3_000));
    assert_eq!(bench.green.count("SELECT count(*) FROM orders").await, 0);
}
