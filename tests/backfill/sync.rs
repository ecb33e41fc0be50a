//! What the sync trigger does with each kind of write, and what simpler ways would have done.

use crate::bench::{Bench, again, succeed};

async fn filled(rows: i64) -> Bench {
    let bench = Bench::with_customers(rows).await;
    succeed(&bench.split()).await;
    bench
}

async fn names(bench: &Bench, id: i64) -> (Option<String>, Option<String>) {
    let rows = bench.database.rows("SELECT first_name, last_name FROM customers WHERE id = $1", &[&id]).await;
    (rows[0].get(0), rows[0].get(1))
}

fn pair(first: &str, last: &str) -> (Option<String>, Option<String>) {
    (Some(first.to_owned()), Some(last.to_owned()))
}

#[tokio::test]
async fn an_old_versions_writes_fill_the_new_columns() {
    let bench = filled(3).await;
    bench.database.run("INSERT INTO customers (id, full_name) VALUES (10, 'Ada Lovelace')").await;
    assert_eq!(names(&bench, 10).await, pair("Ada", "Lovelace"));
    bench.database.run("UPDATE customers SET full_name = 'Grace Hopper' WHERE id = 1").await;
    assert_eq!(names(&bench, 1).await, pair("Grace", "Hopper"));
    bench
        .database
        .run(
            "INSERT INTO customers (id, full_name) VALUES (2, 'Alan Turing')
             ON CONFLICT (id) DO UPDATE SET full_name = excluded.full_name",
        )
        .await;
    assert_eq!(names(&bench, 2).await, pair("Alan", "Turing"));
    bench.all_split().await;
}

#[tokio::test]
async fn a_new_versions_writes_are_left_alone() {
    let bench = filled(3).await;
    bench
        .database
        .run("INSERT INTO customers (id, full_name, first_name, last_name) VALUES (10, 'Mary Ann Smith', 'Mary Ann', 'Smith')")
        .await;
    assert_eq!(names(&bench, 10).await, pair("Mary Ann", "Smith"));
    bench.database.run("UPDATE customers SET first_name = 'Jo Ann' WHERE id = 1").await;
    assert_eq!(names(&bench, 1).await, pair("Jo Ann", "last1"));
    bench.database.run("UPDATE customers SET first_name = NULL WHERE id = 2").await;
    assert_eq!(names(&bench, 2).await, (None, Some("last2".to_owned())), "it may say that there is none");
}

/// Told by values alone this looks like an old version's write: the new columns hold what they held before.
#[tokio::test]
async fn a_write_that_names_a_new_column_is_left_alone_though_its_value_stays() {
    let bench = filled(3).await;
    bench.database.run("UPDATE customers SET first_name = 'Mary Ann', last_name = 'Smith' WHERE id = 1").await;
    bench
        .database
        .run("UPDATE customers SET full_name = 'Mary Ann Smith', first_name = 'Mary Ann', last_name = 'Smith' WHERE id = 1")
        .await;
    assert_eq!(names(&bench, 1).await, pair("Mary Ann", "Smith"));
    // In the same transaction an old version's write is told apart again.
    bench
        .database
        .run(
            "BEGIN;
             UPDATE customers SET full_name = 'Mary Ann Jones', first_name = 'Mary Ann', last_name = 'Jones' WHERE id = 1;
             UPDATE customers SET full_name = 'Bob Stone' WHERE id = 2;
             COMMIT",
        )
        .await;
    assert_eq!(names(&bench, 1).await, pair("Mary Ann", "Jones"));
    assert_eq!(names(&bench, 2).await, pair("Bob", "Stone"));
}

#[tokio::test]
async fn a_row_that_the_expression_cannot_take_fails_no_write_and_is_named() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE orders (id int PRIMARY KEY, price text, cents int)").await;
    bench.database.run("INSERT INTO orders VALUES (1, '1.50'), (2, '2')").await;
    let task = bench.task(serde_json::json!({
        "store": "crm",
        "table": "orders",
        "set": {"cents": "price::numeric * 100"},
        "where": "cents IS NULL",
        "sync": "Trigger",
    }));
    succeed(&task).await;
    bench.database.run("UPDATE orders SET price = 'free' WHERE id = 1").await;
    bench.database.run("INSERT INTO orders VALUES (3, 'ask')").await;
    let blank = "SELECT count(*) FROM orders WHERE cents IS NULL AND id IN (1, 3)";
    assert_eq!(bench.database.count(blank).await, 2, "nothing stale is left either");
    let verdict = crate::bench::run(&again(&task)).await;
    assert!(verdict.message.contains("invalid input syntax for type numeric"), "{verdict:?}");
}

#[tokio::test]
async fn a_write_that_leaves_sources_alone_is_not_slowed_down() {
    let bench = filled(3).await;
    bench.database.run("UPDATE customers SET first_name = NULL WHERE id = 1").await;
    bench.database.run("UPDATE customers SET visits = 5 WHERE id = 1").await;
    assert_eq!(names(&bench, 1).await.0, None, "the trigger isn't even called");
}

#[tokio::test]
async fn values_are_equal_only_if_nothing_tells_them_apart() {
    let bench = Bench::new().await;
    bench
        .database
        .run(
            "CREATE TABLE zoo (id int PRIMARY KEY, n numeric, f float8, j jsonb, old json, t text,
                 n2 numeric(9, 2), f2 float8, j2 jsonb, old2 json, v varchar(9), c char(5));
             INSERT INTO zoo VALUES (1, 1.0, '-0', '{\"a\": 1.00}', '{\"b\":1}', 'x ', NULL, 0, '{\"a\": 1.0}', NULL, NULL, 'x'),
                 (2, 1.005, 'NaN', NULL, NULL, NULL, 7, 'NaN', NULL, NULL, NULL, NULL)",
        )
        .await;
    let task = bench.task(serde_json::json!({
        "store": "crm",
        "table": "zoo",
        "set": {"n2": "n", "f2": "f", "j2": "j", "old2": "old", "v": "t", "c": "t"},
    }));
    let summary = succeed(&task).await.backfill.expect("figures");
    assert_eq!(summary.rows_changed, 2);
    let rows = bench
        .database
        .rows("SELECT n2::text, f2::text, j2::text, old2::text, v, octet_length(c) FROM zoo ORDER BY id", &[])
        .await;
    let texts: Vec<Option<String>> = (0..5).map(|place| rows[0].get(place)).collect();
    assert_eq!(texts, ["1.00", "-0", "{\"a\": 1.00}", "{\"b\":1}", "x "].map(|text| Some(text.to_owned())));
    assert_eq!(rows[1].get::<_, Option<&str>>(0), Some("1.01"));
    succeed(&again(&task)).await;
}
