//! Which tables and columns are compared: by name, whatever their order, and nothing is passed over in silence.

use alongside::worker::verify::evidence::Finding;

use crate::bench::Bench;

#[tokio::test]
async fn columns_go_by_name_whatever_their_order_and_their_past() {
    let bench = Bench::of(
        "CREATE TABLE t (gone text, id int PRIMARY KEY, a text, b int); INSERT INTO t VALUES ('x', 1, 'a', 2);
         ALTER TABLE t DROP COLUMN gone",
        "CREATE TABLE t (b int, a text, id int PRIMARY KEY, more text DEFAULT 'new'); INSERT INTO t VALUES (2, 'a', 1)",
    )
    .await;
    let seen = bench.finds(&bench.all(), Finding::Equal).await;
    assert_eq!(seen.table().columns, ["id", "a", "b"]);
    assert_eq!(seen.table().only_new, ["more"], "what is not compared is said");
}

#[tokio::test]
async fn a_column_that_the_new_side_lacks_is_refused_unless_it_is_ignored() {
    let bench = Bench::of(
        "CREATE TABLE t (id int PRIMARY KEY, old text); INSERT INTO t VALUES (1, 'x')",
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
    )
    .await;
    bench.refuses(&bench.all(), "has no column old on the new side").await;
    let mut task = bench.all();
    task.action.ignore = vec!["public.t.o*".into()];
    assert_eq!(bench.finds(&task, Finding::Equal).await.table().ignored, ["old"]);
    task.action.ignore = vec!["t.id".into(), "t.old".into()];
    bench.refuses(&task, "belongs to the key").await;
}

#[tokio::test]
async fn what_a_pattern_takes_in_and_is_not_compared_is_listed_with_its_reason() {
    let bench = Bench::at_rest(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE VIEW v AS SELECT * FROM t;
         CREATE MATERIALIZED VIEW m AS SELECT * FROM t; CREATE UNLOGGED TABLE u (id int PRIMARY KEY);
         CREATE EXTENSION file_fdw; CREATE SERVER f FOREIGN DATA WRAPPER file_fdw;
         CREATE FOREIGN TABLE f (id int) SERVER f OPTIONS (filename '/dev/null')",
    )
    .await;
    let seen = bench.finds(&bench.all(), Finding::Equal).await;
    let left_out: Vec<_> = seen.evidence.left_out.iter().map(|left| left.name.as_str()).collect();
    assert_eq!(left_out, ["\"public\".\"f\"", "\"public\".\"m\"", "\"public\".\"u\"", "\"public\".\"v\""]);
    for (name, why) in [("f", "foreign table"), ("m", "materialized view"), ("u", "unlogged"), ("v", "is a view")] {
        let mut task = bench.all();
        task.action.tables = vec![format!("public.{name}")];
        bench.refuses(&task, why).await;
    }
}

#[tokio::test]
async fn a_table_that_the_new_side_lacks_or_that_has_no_key_is_refused_by_name() {
    let bench = Bench::of(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int); CREATE TABLE c (id int NOT NULL);
         CREATE UNIQUE INDEX lower_c ON c ((id + 1)); CREATE TABLE d (id int NOT NULL UNIQUE DEFERRABLE)",
        "CREATE TABLE b (id int); CREATE TABLE c (id int); CREATE TABLE d (id int)",
    )
    .await;
    for sentence in [
        "\"public\".\"a\" is not there in store green",
        "\"public\".\"b\" has no primary key and no unique index",
        "its unique index lower_c is on an expression",
        "its unique index d_id_key is deferrable",
    ] {
        bench.refuses(&bench.all(), sentence).await;
    }
}

#[tokio::test]
async fn a_partitioned_table_is_one_table_even_if_it_is_cut_otherwise_on_the_other_side() {
    let rows = "INSERT INTO events SELECT i, i % 4, 'e' || i FROM generate_series(1, 8000) AS i";
    let bench = Bench::of(
        "CREATE TABLE events (id int, kind int, note text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
         CREATE TABLE events_0 PARTITION OF events FOR VALUES IN (0, 1);
         CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2, 3)",
        "CREATE TABLE events (id int, kind int, note text, PRIMARY KEY (id, kind)) PARTITION BY RANGE (id);
         CREATE TABLE events_low PARTITION OF events FOR VALUES FROM (MINVALUE) TO (4000);
         CREATE TABLE events_high PARTITION OF events FOR VALUES FROM (4000) TO (MAXVALUE)",
    )
    .await;
    bench.both(rows).await;
    let seen = bench.finds(&bench.all(), Finding::Equal).await;
    assert_eq!((seen.table().name.as_str(), seen.table().rows_from), ("\"public\".\"events\"", 8_000));
    bench.green.run("UPDATE events SET note = '' WHERE id = 5000").await;
    assert_eq!(bench.finds(&bench.all(), Finding::Differs).await.rows(), ["Different 5000/0 note"]);
}

#[tokio::test]
async fn rows_of_a_table_that_inherits_are_its_own() {
    let bench = Bench::at_rest(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
         INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1), (2)",
    )
    .await;
    let seen = bench.finds(&bench.all(), Finding::Equal).await;
    assert_eq!(seen.of("\"public\".\"parent\"").rows_from, 1);
    assert_eq!(seen.of("\"public\".\"child\"").rows_from, 2);
}

#[tokio::test]
async fn text_keys_that_the_sides_sort_differently_are_compared_all_the_same() {
    let bench = Bench::of(
        "CREATE COLLATION german (provider = icu, locale = 'de');
         CREATE TABLE t (k text COLLATE german PRIMARY KEY, n int)",
        "CREATE TABLE t (k text COLLATE \"C\" PRIMARY KEY, n int)",
    )
    .await;
    bench.both("INSERT INTO t SELECT (ARRAY['ä', 'a', 'B', 'Z', 'ß'])[i % 5 + 1] || i, i FROM generate_series(1, 9000) AS i").await;
    let seen = bench.finds(&bench.all(), Finding::Equal).await;
    assert!(seen.table().portions.contains("the sides sort k by other collations"), "{}", seen.table().portions);
    bench
        .green
        .run("DELETE FROM t WHERE n = 17; UPDATE t SET n = 0 WHERE n = 4004; INSERT INTO t VALUES ('Ä', 1)")
        .await;
    let mut rows = bench.finds(&bench.all(), Finding::Differs).await.rows();
    rows.sort();
    assert_eq!(rows, ["Different ß4004 n", "Extra Ä", "Missing B17"]);
}

#[tokio::test]
async fn a_new_side_without_its_indexes_yet_is_compared_by_whole_scans() {
    let bench = Bench::of("CREATE TABLE t (k int PRIMARY KEY, n int)", "CREATE TABLE t (k int, n int)").await;
    bench.both("INSERT INTO t SELECT i, i FROM generate_series(1, 9000) AS i").await;
    let seen = bench.finds(&bench.all(), Finding::Equal).await;
    assert_eq!(seen.table().portions, "buckets, since the new side has no index on its key");
}
