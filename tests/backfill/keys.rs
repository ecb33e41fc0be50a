//! Behaviours 29 and 30: whatever the key, each row is met once; without one, a refusal says why.

use alongside::worker::{
    backfill::task::{Role, Task},
    verdict::Outcome,
};

use crate::bench::{Bench, ends, role, succeed};

/// Doubles `n` into `twice`, in chunks of few rows so that bounds are met often.
fn double(bench: &Bench, table: &str) -> Task {
    bench.task(serde_json::json!({
        "store": "crm",
        "table": table,
        "set": {"twice": "n * 2"},
        "where": "twice IS NULL",
        "sync": "Trigger",
        "workers": 2,
        "chunk": {"rows": 97},
    }))
}

/// Fills a table made by `create` with `insert`, and expects each row to be met once.
async fn walks_through(create: &str, insert: &str, table: &str) {
    let bench = Bench::new().await;
    bench.database.run(create).await;
    bench.database.run(&format!("{insert}; ANALYZE")).await;
    let rows = bench.database.count(&format!("SELECT count(*) FROM {table}")).await;
    assert!(rows > 1_000, "too few to mean anything");
    let task = double(&bench, table);
    succeed(&role(&task, Role::Preflight)).await;
    let summary = succeed(&task).await.backfill.expect("figures");
    assert_eq!((summary.rows_scanned, summary.rows_changed, summary.rows_swept), (rows, rows, 0), "{create}");
    let wrong = format!("SELECT count(*) FROM {table} WHERE twice IS DISTINCT FROM n * 2");
    assert_eq!(bench.database.count(&wrong).await, 0, "{create}");
}

#[tokio::test]
async fn keys_of_every_kind_are_walked_through() {
    let plain = "n int NOT NULL, twice int";
    let kinds = [
        ("id smallint PRIMARY KEY", "i::smallint - 2000"),
        ("id bigint PRIMARY KEY", "-9000000000000000000 + i * 1000"),
        ("id uuid PRIMARY KEY", "md5(i::text)::uuid"),
        ("id bytea PRIMARY KEY", "decode(md5(i::text), 'hex')"),
        ("id text PRIMARY KEY", "md5(i::text) || E' \\'\"{},\\\\ é'"),
        ("id text COLLATE \"en-x-icu\" PRIMARY KEY", "(ARRAY['a','A','á','b','B','Z','z','-'])[i % 8 + 1] || i"),
        ("id varchar(40) PRIMARY KEY", "'v' || i"),
        ("id char(12) PRIMARY KEY", "'c' || i"),
        ("id numeric(12, 3) PRIMARY KEY", "i / 7.0"),
        ("id double precision PRIMARY KEY", "i / 7.0::double precision"),
        (
            "id timestamptz PRIMARY KEY",
            "timestamptz '1999-12-31 23:59:59.999999-11' + i * interval '1 day 1 microsecond'",
        ),
        ("id interval PRIMARY KEY", "i * interval '1 hour'"),
        ("id inet PRIMARY KEY", "inet '10.0.0.0' + i"),
        ("id date PRIMARY KEY", "date '4000-01-01 BC' + i * 100"),
        ("id int4range PRIMARY KEY", "int4range(i, i + 1)"),
        ("id bigint UNIQUE NOT NULL", "i"),
    ];
    for (column, value) in kinds {
        walks_through(
            &format!("CREATE TABLE things ({column}, {plain})"),
            &format!("INSERT INTO things (id, n) SELECT {value}, i FROM generate_series(1, 3000) AS i"),
            "things",
        )
        .await;
    }
}

#[tokio::test]
async fn composite_partitioned_and_oddly_named_tables_are_walked_through() {
    let insert = "SELECT i % 13 - 6, 'k' || i % 17, i, i FROM generate_series(1, 3000) AS i";
    let columns = "(a int, b text, c int, n int NOT NULL, twice int, PRIMARY KEY (a, b, c))";
    walks_through(&format!("CREATE TABLE things {columns}"), &format!("INSERT INTO things {insert}"), "things").await;
    walks_through(
        &format!(
            "CREATE TABLE things {columns} PARTITION BY LIST (a);
             CREATE TABLE low PARTITION OF things FOR VALUES IN (-6, -5, -4, -3, -2, -1);
             CREATE TABLE rest PARTITION OF things DEFAULT"
        ),
        &format!("INSERT INTO things {insert}"),
        "things",
    )
    .await;
    let odd = "\"Odd \"\"Schema\"\"\".\"select; DROP\"";
    walks_through(
        &format!(
            "CREATE SCHEMA \"Odd \"\"Schema\"\"\"; CREATE DOMAIN \"Key\" AS bigint CHECK (VALUE > 0);
             CREATE TABLE {odd} (gone int, \"Group\" \"Key\" PRIMARY KEY, n int NOT NULL, twice int);
             ALTER TABLE {odd} DROP COLUMN gone"
        ),
        &format!("INSERT INTO {odd} (\"Group\", n) SELECT i, i FROM generate_series(1, 3000) AS i"),
        odd,
    )
    .await;
    walks_through(
        "CREATE TABLE things (a int NOT NULL, b int NOT NULL, n int NOT NULL, twice int);
         CREATE UNIQUE INDEX ON things (a DESC, b DESC)",
        "INSERT INTO things SELECT i % 10, i, i FROM generate_series(1, 3000) AS i",
        "things",
    )
    .await;
}

#[tokio::test]
async fn a_gap_of_a_billion_costs_one_probe() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE things (id bigint PRIMARY KEY, n int NOT NULL, twice int)").await;
    bench
        .database
        .run(
            "INSERT INTO things SELECT i, i FROM generate_series(1, 100) AS i;
             INSERT INTO things SELECT i + 1000000000, i FROM generate_series(1, 100) AS i",
        )
        .await;
    let summary = succeed(&double(&bench, "things")).await.backfill.expect("figures");
    assert_eq!((summary.rows_changed, summary.transactions), (200, 3), "200 rows are two chunks of 97 and a rest");
}

#[tokio::test]
async fn a_table_without_a_usable_key_is_refused_with_its_reason() {
    let cases = [
        ("", "has no unique key without NULLs by which it could be walked through. Add a primary key"),
        ("CREATE UNIQUE INDEX i ON things (maybe)", "(i has a column that may be NULL)"),
        ("CREATE UNIQUE INDEX i ON things (id) WHERE id > 0", "(i covers only a part of the rows)"),
        ("CREATE UNIQUE INDEX i ON things ((id + 1))", "(i is over an expression)"),
        ("CREATE UNIQUE INDEX i ON things (id, other DESC)", "(i isn't in the columns' own order)"),
    ];
    for (index, reason) in cases {
        let bench = Bench::new().await;
        bench
            .database
            .run("CREATE TABLE things (id int NOT NULL, other int NOT NULL, maybe int, n int, twice int)")
            .await;
        bench.database.run(index).await;
        let task = double(&bench, "things");
        ends(&role(&task, Role::Preflight), Outcome::Refused, reason).await;
        ends(&task, Outcome::Refused, reason).await;
        assert_eq!(bench.ours().await, 0);
    }
}
