//! Within one store: each row meets each expression, or is named.

use alongside::{api::Span, worker::verify::evidence::Finding};

use crate::bench::Bench;

const CUSTOMERS: &str = "CREATE TABLE customers (id int PRIMARY KEY, full_name text, first_name text);
    INSERT INTO customers SELECT i, 'Ada Nr' || i, 'Ada' FROM generate_series(1, 30000) AS i; ANALYZE customers";

fn expect(bench: &Bench, expressions: &[&str]) -> alongside::worker::verify::task::VerifyTask {
    bench.task(serde_json::json!({"store": "blue", "table": "customers", "expect": expressions}))
}

const FIRST_NAME: &str = "first_name = split_part(full_name, ' ', 1)";

#[tokio::test]
async fn rows_that_do_not_meet_an_expression_are_counted_and_named() {
    let bench = Bench::at_rest(CUSTOMERS).await;
    let task = expect(&bench, &[FIRST_NAME, "customers.id > 0 -- a comment, and the table by its name"]);
    let seen = bench.finds(&task, Finding::Equal).await;
    assert_eq!(seen.verdict.message, "As expected: 30000 rows.");
    bench.blue.run("UPDATE customers SET first_name = 'Eve' WHERE id IN (7, 29999)").await;
    bench.blue.run("UPDATE customers SET first_name = NULL WHERE id = 8").await;
    let seen = bench.finds(&task, Finding::Differs).await;
    let [first, second] = seen.evidence.expectations.as_slice() else { panic!("{:?}", seen.evidence.expectations) };
    assert_eq!((first.holds, first.fails, first.is_null), (29_997, 2, 1), "NULL doesn't hold");
    assert_eq!(first.keys, [["7"], ["8"], ["29999"]]);
    assert_eq!((second.holds, second.fails, second.keys.len()), (30_000, 0, 0));
    assert_eq!(seen.short().unmet, 3);
}

#[tokio::test]
async fn a_table_without_rows_proves_nothing() {
    let bench = Bench::at_rest("CREATE TABLE customers (id int PRIMARY KEY, first_name text, full_name text)").await;
    bench.finds(&expect(&bench, &[FIRST_NAME]), Finding::ComparedNothing).await;
}

#[tokio::test]
async fn only_the_first_twenty_are_named_and_all_are_counted() {
    let bench = Bench::at_rest(CUSTOMERS).await;
    let seen = bench.finds(&expect(&bench, &["id % 3 <> 0"]), Finding::Differs).await;
    let seen = &seen.evidence.expectations[0];
    assert_eq!((seen.fails, seen.keys.len()), (10_000, 20));
    assert_eq!((seen.keys[0].clone(), seen.keys[19].clone()), (vec!["3".to_owned()], vec!["60".to_owned()]));
}

#[tokio::test]
async fn a_row_that_makes_an_expression_raise_an_error_is_found() {
    let bench = Bench::at_rest(CUSTOMERS).await;
    bench.blue.run("UPDATE customers SET first_name = '0' WHERE id = 12345").await;
    bench.blue.run("UPDATE customers SET first_name = '5' WHERE id <> 12345").await;
    let seen = bench.finds(&expect(&bench, &["1 / first_name::int >= 0", "id > 0"]), Finding::Differs).await;
    let seen = &seen.evidence.expectations;
    assert_eq!((seen[0].holds, seen[0].raises, seen[0].keys.clone()), (29_999, 1, vec![vec!["12345".to_owned()]]));
    assert!(seen[0].error.as_ref().unwrap().contains("division by zero"), "{seen:?}");
    assert_eq!((seen[1].holds, seen[1].raises), (30_000, 0), "one expression isn't in the way of the other");
}

#[tokio::test]
async fn what_is_no_condition_over_the_row_is_refused_with_its_text() {
    let bench = Bench::at_rest(CUSTOMERS).await;
    for (expression, why) in [
        ("first_nam = 'x'", "column \"first_nam\" does not exist"),
        ("first_name", "must be type boolean"),
        ("true; DROP TABLE customers", "syntax error"),
        ("count(*) > 0", "aggregate"),
        ("pg_catalog.setval('nope', 1) > 0", "does not exist"),
    ] {
        bench.refuses(&expect(&bench, &[expression]), expression).await;
        bench.refuses(&expect(&bench, &[expression]), why).await;
    }
}

#[tokio::test]
async fn an_expression_can_not_write() {
    let bench = Bench::at_rest(CUSTOMERS).await;
    bench
        .blue
        .run("CREATE FUNCTION harm(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN DELETE FROM customers WHERE id = $1; RETURN true; END'")
        .await;
    let seen = bench.finds(&expect(&bench, &["harm(id)"]), Finding::Differs).await;
    assert!(seen.evidence.expectations[0].error.as_ref().unwrap().contains("read-only"));
    assert_eq!(bench.blue.count("SELECT count(*) FROM customers").await, 30_000);
}

#[tokio::test]
async fn a_table_without_a_usable_key_or_that_is_a_view_is_refused_with_the_reason() {
    let bench = Bench::at_rest("CREATE TABLE customers (id int); CREATE UNIQUE INDEX by_id ON customers (id)").await;
    bench.refuses(&expect(&bench, &["id > 0"]), "its unique index by_id is on columns that can be NULL").await;
    bench.blue.run("DROP TABLE customers; CREATE VIEW customers AS SELECT 1 AS id").await;
    bench.refuses(&expect(&bench, &["id > 0"]), "is a view").await;
    bench.blue.run("DROP VIEW customers").await;
    bench.refuses(&expect(&bench, &["id > 0"]), "no table is named customers").await;
}

#[tokio::test]
async fn keys_of_every_kind_are_walked_from_the_first_row_to_the_last() {
    let bench = Bench::at_rest(
        "CREATE COLLATION german (provider = icu, locale = 'de-u-co-phonebk');
         CREATE TABLE negative (k bigint PRIMARY KEY, n int);
         CREATE TABLE composite (a int, \"B b\" text, n int, PRIMARY KEY (a, \"B b\"));
         CREATE TABLE icu (k text COLLATE german PRIMARY KEY, n int);
         CREATE TABLE uuids (k uuid PRIMARY KEY, n int);
         CREATE TABLE bytes (k bytea PRIMARY KEY, n int);
         CREATE TABLE times (k timestamptz PRIMARY KEY, n int);
         CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TABLE enums (k mood, i int, n int, PRIMARY KEY (k, i));
         CREATE TABLE descending (a int, b int, n int); CREATE UNIQUE INDEX ON descending (a DESC, b);
         ALTER TABLE descending ALTER a SET NOT NULL, ALTER b SET NOT NULL;
         CREATE TABLE gaps (k bigint PRIMARY KEY, n int);
         INSERT INTO negative SELECT i - 25000, i FROM generate_series(1, 50000) AS i;
         INSERT INTO composite SELECT i / 100, 'k' || i, i FROM generate_series(1, 50000) AS i;
         INSERT INTO icu SELECT (ARRAY['ä', 'a', 'Ä', 'z', 'ß'])[i % 5 + 1] || i, i FROM generate_series(1, 50000) AS i;
         INSERT INTO uuids SELECT md5(i::text)::uuid, i FROM generate_series(1, 50000) AS i;
         INSERT INTO bytes SELECT decode(md5(i::text), 'hex'), i FROM generate_series(1, 50000) AS i;
         INSERT INTO times SELECT '2024-01-01'::timestamptz + i * interval '1 us', i FROM generate_series(1, 50000) AS i;
         INSERT INTO enums SELECT (ARRAY['sad', 'ok'])[i % 2 + 1]::mood, i, i FROM generate_series(1, 50000) AS i;
         INSERT INTO descending SELECT i % 7, i, i FROM generate_series(1, 50000) AS i;
         INSERT INTO gaps SELECT i * 1000000000::bigint, i FROM generate_series(1, 50000) AS i; ANALYZE",
    )
    .await;
    for table in ["negative", "composite", "icu", "uuids", "bytes", "times", "enums", "descending", "gaps"] {
        let task = bench.task(serde_json::json!({"store": "blue", "table": table, "expect": ["n <> 49999"]}));
        let seen = bench.finds(&task, Finding::Differs).await;
        let seen = &seen.evidence.expectations[0];
        assert_eq!((seen.holds, seen.fails, seen.keys.len()), (49_999, 1, 1), "{table}");
    }
}

#[tokio::test]
async fn an_expression_that_is_slow_gets_smaller_ranges() {
    let bench = Bench::at_rest(CUSTOMERS).await;
    let mut task = expect(&bench, &["length(md5(repeat(full_name, 4000))) = 32"]);
    task.statement_timeout = Span::millis(100);
    let seen = bench.finds(&task, Finding::Equal).await;
    assert_eq!(seen.short().rows, 30_000);
}
