//! Two stores at rest: what differs is found, named and counted, and nothing that doesn't.

use alongside::{
    api::Span,
    worker::{
        verdict::Outcome,
        verify::{
            evidence::{Finding, Kind},
            task::{VerifyRole, VerifyTask},
        },
    },
};

use crate::bench::Bench;

const ORDERS: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, total numeric, note text);
    INSERT INTO orders SELECT i, i * 1.5, 'note ' || i FROM generate_series(1, 60000) AS i; ANALYZE orders";

#[tokio::test]
async fn each_kind_of_difference_is_found_in_a_large_table() {
    let bench = Bench::at_rest(ORDERS).await;
    let seen = bench.finds(&bench.all(), Finding::Equal).await;
    assert_eq!((seen.short().rows, seen.short().tables, seen.short().covered.as_str()), (60_000, 1, "100%"));
    bench
        .green
        .run(
            "DELETE FROM orders WHERE id = 31000; UPDATE orders SET total = total + 1 WHERE id = 59999;
             INSERT INTO orders VALUES (-5, 0, ''), (9000000000, 0, '')",
        )
        .await;
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    let kinds = seen.table().differing;
    assert_eq!((kinds.missing, kinds.extra, kinds.different), (1, 2, 1));
    let mut rows = seen.rows();
    rows.sort();
    assert_eq!(rows, ["Different 59999 total", "Extra -5", "Extra 9000000000", "Missing 31000"]);
    assert!(seen.verdict.message.contains("1 missing, 2 too many, 1 different"), "{}", seen.verdict.message);
    assert_eq!((seen.table().rows_from, seen.table().rows_to), (60_000, 60_001));
    let ranges: u64 = seen.table().ranges.iter().map(|range| range.rows_from).sum();
    assert_eq!(ranges, 60_000, "the ranges listed are all of it");
}

#[tokio::test]
async fn a_table_that_differs_throughout_is_said_to_without_end_of_detail() {
    let bench = Bench::at_rest(ORDERS).await;
    bench.green.run("UPDATE orders SET note = note || '!'").await;
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    let table = seen.table();
    assert!(table.differing.different >= 10_000, "{table:?}");
    assert!(table.not_looked_into > 0 && table.rows.len() == 20, "{}", table.not_looked_into);
    assert_eq!(seen.short().first.len(), 20);
    assert!(serde_json::to_string(&seen.verdict).unwrap().len() < 4_096);
}

#[tokio::test]
async fn a_verification_that_found_no_row_has_not_passed() {
    let bench = Bench::at_rest("CREATE TABLE empty (id int PRIMARY KEY)").await;
    let seen = bench.finds(&bench.all(), Finding::ComparedNothing).await;
    assert!(seen.verdict.message.contains("Nothing was compared"), "{}", seen.verdict.message);
    let pass = bench.task(serde_json::json!({"from": "blue", "to": "green", "tables": ["public.*"], "empty": "Pass"}));
    assert_eq!(bench.run(&pass).await.verdict.outcome.exit_code(), 0);
    // One with rows beside it: it is equal, and the empty one is named.
    bench.both("CREATE TABLE one (id int PRIMARY KEY); INSERT INTO one VALUES (1)").await;
    let seen = bench.finds(&bench.all(), Finding::Equal).await;
    assert!(seen.verdict.message.contains("Without a row: \"public\".\"empty\""), "{}", seen.verdict.message);
    // Rows on the new side alone are no nothing.
    bench.green.run("INSERT INTO empty VALUES (7)").await;
    assert_eq!(bench.finds(&bench.all(), Finding::Differs).await.rows(), ["Extra 7"]);
}

#[tokio::test]
async fn a_store_compared_with_itself_is_refused() {
    let bench = Bench::at_rest("CREATE TABLE one (id int PRIMARY KEY)").await;
    bench.write_uri("green", &bench.blue.uri());
    bench.refuses(&bench.all(), "are one database").await;
}

#[tokio::test]
async fn preflight_asks_everything_and_compares_nothing() {
    let bench = Bench::at_rest(ORDERS).await;
    bench.green.run("DELETE FROM orders").await;
    let preflight = |mut task: VerifyTask| {
        task.role = VerifyRole::Preflight;
        task
    };
    let seen = bench.run(&preflight(bench.all())).await;
    assert_eq!((seen.verdict.outcome, seen.evidence.tables.len()), (Outcome::Succeeded, 0), "{:?}", seen.verdict);
    let expect = serde_json::json!({"store": "blue", "table": "orders", "expect": ["total > 1000000"]});
    assert_eq!(bench.run(&preflight(bench.task(expect))).await.verdict.outcome, Outcome::Succeeded);
    bench.green.run("DROP TABLE orders").await;
    bench.refuses(&preflight(bench.all()), "is not there in store green").await;
}

#[tokio::test]
async fn a_sample_says_which_share_it_came_to() {
    let bench = Bench::at_rest(ORDERS).await;
    let sample =
        serde_json::json!({"from": "blue", "to": "green", "tables": ["orders"], "checksum": {"sample": "10%"}});
    let task = bench.task(sample);
    let seen = bench.finds(&task, Finding::Equal).await;
    let table = seen.table();
    assert_eq!(table.rows_from + table.passed_over, 60_000, "what is not compared is counted");
    assert!((2_000..12_000).contains(&table.rows_from), "{}", table.rows_from);
    assert!(seen.short().covered.ends_with('%') && seen.short().covered != "100%", "{}", seen.short().covered);
    assert!(seen.verdict.message.contains("% of all)"), "{}", seen.verdict.message);
    assert_eq!(table.counted, Some((60_000, 60_000)), "counts are whole beside a sample");
    // A row that is gone outside the sample is not seen by it, but by the count.
    bench.green.run("DELETE FROM orders WHERE id = 30000").await;
    let seen = bench.finds(&task, Finding::Differs).await;
    assert_eq!(seen.table().counted, Some((60_000, 59_999)));
}

#[tokio::test]
async fn counts_alone_say_nothing_of_contents_and_say_so() {
    let bench = Bench::at_rest(ORDERS).await;
    bench.green.run("UPDATE orders SET total = 0 WHERE id = 5").await;
    let counts = bench.task(serde_json::json!({"from": "blue", "to": "green", "tables": ["orders"], "counts": true}));
    let seen = bench.finds(&counts, Finding::Equal).await;
    assert_eq!((seen.short().rows, seen.short().covered.as_str()), (60_000, "0%"));
    assert!(seen.verdict.message.contains("counted"), "{}", seen.verdict.message);
}

#[tokio::test]
async fn rows_that_a_unique_index_of_the_other_side_would_not_let_in_are_named() {
    let bench = Bench::at_rest("CREATE TABLE users (id int PRIMARY KEY, mail text, gone bool)").await;
    bench
        .both("INSERT INTO users VALUES (1, 'A@x', false), (2, 'a@x', false), (3, 'b@x', false), (4, 'a@x', true), (5, NULL, false), (6, NULL, false)")
        .await;
    bench.blue.run("CREATE UNIQUE INDEX ON users (id, mail)").await;
    bench.finds(&bench.all(), Finding::Equal).await;
    bench.both("CREATE INDEX plain ON users (mail)").await;
    // It can't be built with these rows, so it is on the other side of what it would refuse.
    bench.blue.run("CREATE UNIQUE INDEX mails ON users (id) WHERE mail = 'never'").await;
    bench.green.run("CREATE TABLE keep AS TABLE users; TRUNCATE users").await;
    bench.green.run("CREATE UNIQUE INDEX by_mail ON users (lower(mail)) WHERE NOT gone").await;
    bench.green.run("INSERT INTO users SELECT * FROM keep WHERE id NOT IN (1); DROP TABLE keep").await;
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    let doubled = &seen.table().duplicates;
    assert_eq!(doubled.len(), 1, "{doubled:?}");
    assert_eq!((doubled[0].index.as_str(), doubled[0].store.as_str(), doubled[0].rows), ("by_mail", "blue", 2));
    assert_eq!(doubled[0].values, [Some("a@x".to_owned())]);
    assert_eq!(doubled[0].keys, [["1"], ["2"]]);
    assert!(seen.verdict.message.contains("2 rows would break a unique index"), "{}", seen.verdict.message);
}

#[tokio::test]
async fn a_range_that_takes_too_long_is_cut_until_it_does_not() {
    let slow = "CREATE FUNCTION slow(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
        CREATE TABLE orders (id int PRIMARY KEY, note text);
        INSERT INTO orders SELECT i, repeat(md5(i::text), 300) FROM generate_series(1, 20000) AS i; ANALYZE orders";
    let bench = Bench::at_rest(slow).await;
    let mut task = bench.all();
    task.statement_timeout = Span::millis(100);
    task.action.parallelism = Some(1);
    let seen = bench.finds(&task, Finding::Equal).await;
    assert_eq!(seen.short().rows, 20_000);
    bench.green.run("UPDATE orders SET note = note || '.' WHERE id = 15000").await;
    assert_eq!(bench.finds(&task, Finding::Differs).await.rows(), ["Different 15000 note"]);
}

#[tokio::test]
async fn a_row_that_keeps_changing_between_stores_that_nothing_joins_is_not_judged() {
    let bench =
        Bench::at_rest("CREATE TABLE hot (id int PRIMARY KEY, n int); INSERT INTO hot VALUES (1, 0), (2, 0)").await;
    bench.green.run("UPDATE hot SET n = 7 WHERE id = 2").await;
    let uri = bench.blue.uri();
    let writer = tokio::spawn(async move {
        let (client, connection) = tokio_postgres::connect(&uri, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        loop {
            client.batch_execute("UPDATE hot SET n = n + 1 WHERE id = 1").await.unwrap();
        }
    });
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    writer.abort();
    assert_eq!(seen.rows(), ["Different 2 n"], "the one that stands still differs");
    assert_eq!(seen.table().unsettled, 1, "the one that moves is unsettled");
    assert_eq!(seen.table().rows[0].kind, Kind::Different);
}

#[tokio::test]
async fn parallel_connections_see_each_row_once() {
    let bench = Bench::at_rest(ORDERS).await;
    let mut task = bench.all();
    task.action.parallelism = Some(7);
    let seen = bench.finds(&task, Finding::Equal).await;
    assert_eq!((seen.table().rows_from, seen.table().rows_to), (60_000, 60_000));
}
