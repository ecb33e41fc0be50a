//! What counts as equal, by type: the policies of the spec, each both ways.

use alongside::worker::verify::{evidence::Finding, task::VerifyTask};

use crate::bench::Bench;

fn with(bench: &Bench, equality: &serde_json::Value) -> VerifyTask {
    bench.task(serde_json::json!({"from": "blue", "to": "green", "tables": ["public.*"], "equality": equality}))
}

/// A column of this type with a value on each side that is written differently: equal under the default, or under
/// nothing.
async fn judged(declared: &str, blue: &str, green: &str, policy: &str) -> (bool, bool) {
    let bench = Bench::at_rest(&format!("CREATE TABLE pairs (id int PRIMARY KEY, v {declared})")).await;
    bench.blue.run(&format!("INSERT INTO pairs VALUES (1, {blue}), (2, {blue})")).await;
    bench.green.run(&format!("INSERT INTO pairs VALUES (1, {green}), (2, {blue})")).await;
    let by_value = bench.run(&with(&bench, &serde_json::json!({policy: "Value"}))).await;
    let as_text = bench.run(&with(&bench, &serde_json::json!({policy: "Text"}))).await;
    let equal = |finding: Finding| match finding {
        Finding::Equal => true,
        Finding::Differs => false,
        other => panic!("{other:?}: {declared}, {blue}, {green}"),
    };
    (equal(by_value.evidence.finding), equal(as_text.evidence.finding))
}

#[tokio::test]
async fn one_and_one_point_naught_naught_are_equal_where_the_type_says_so() {
    assert_eq!(judged("numeric", "1.0", "1.00", "numeric").await, (true, false));
    assert_eq!(judged("numeric", "1.0", "1.01", "numeric").await, (false, false));
    assert_eq!(judged("text", "'1.0'", "'1.00'", "numeric").await, (false, false));
    assert_eq!(judged("numeric[]", "'{1.0,NaN}'", "'{1.00,NaN}'", "numeric").await, (true, false));
}

#[tokio::test]
async fn minus_zero_equals_zero() {
    assert_eq!(judged("float8", "'-0'", "'0'", "float").await, (true, false));
    assert_eq!(judged("float4", "'-0'", "'0'", "float").await, (true, false));
    assert_eq!(judged("float8", "'NaN'", "'0'", "float").await, (false, false));
    // What the processor makes of it has another bit than what is read from text.
    assert!(judged("float8", "'NaN'", "'Infinity'::float8 - 'Infinity'::float8", "float").await.0);
}

#[tokio::test]
async fn a_day_equals_twenty_four_hours() {
    assert_eq!(judged("interval", "'1 day'", "'24 hours'", "interval").await, (true, false));
    assert_eq!(judged("interval", "'1 day'", "'25 hours'", "interval").await, (false, false));
}

#[tokio::test]
async fn json_is_compared_by_value_if_it_is_binary_and_as_written_if_not() {
    let (one, other) = (r#"'{"a": [1.0, null]}'"#, r#"'{"a": [1.00, null]}'"#);
    assert_eq!(judged("jsonb", one, other, "jsonb").await, (true, false));
    assert_eq!(judged("jsonb", one, r#"'{"a": [1.0]}'"#, "jsonb").await, (false, false));
    assert_eq!(judged("json", one, other, "jsonb").await, (false, false));
    // Binary JSON has forgotten spaces, the order of keys and doubles by itself.
    assert_eq!(judged("jsonb", r#"'{"a":1,"b":2,"a":3}'"#, r#"'{"b": 2, "a": 3}'"#, "jsonb").await, (true, true));
}

#[tokio::test]
async fn times_are_equal_whatever_zone_they_were_written_in() {
    let (one, other) = ("'2024-01-01 12:00:00+00'", "'2024-01-01 17:30:00+05:30'");
    assert_eq!(judged("timestamptz", one, other, "other").await, (true, true));
    assert_eq!(judged("timetz", "'12:00+00'", "'17:30+05:30'", "other").await, (false, false));
}

#[tokio::test]
async fn what_is_equal_by_value_only_is_counted() {
    let bench = Bench::at_rest("CREATE TABLE pairs (id int PRIMARY KEY, v interval, w text)").await;
    bench.blue.run("INSERT INTO pairs VALUES (1, '1 day', 'a'), (2, '1 day', 'b'), (3, '2 days', 'c')").await;
    bench.green.run("INSERT INTO pairs VALUES (1, '24:00', 'a'), (2, '24:00', 'x'), (3, '2 days', 'c')").await;
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    assert_eq!(seen.rows(), ["Different 2 w"], "the column that is equal by value isn't named");
    assert_eq!((seen.table().equal_by_value, seen.table().differing.different), (1, 1));
}

#[tokio::test]
async fn a_column_that_has_another_type_on_the_new_side_is_compared_by_what_it_says() {
    let bench = Bench::of(
        "CREATE TABLE pairs (id int PRIMARY KEY, a int, b varchar(20), c numeric(10, 1), d char(5), e float4)",
        "CREATE TABLE pairs (id bigint PRIMARY KEY, a bigint, b text, c numeric(12, 3), d char(8), e float8)",
    )
    .await;
    let row = "INSERT INTO pairs SELECT i, i * 7, 'b' || i, i / 10.0, 'd', 0.5 FROM generate_series(1, 2000) AS i";
    bench.both(row).await;
    let seen = bench.finds(&bench.all(), Finding::Equal).await;
    assert!(
        seen.table().portions.contains("id is integer on the old side and bigint on the new"),
        "{:?}",
        seen.table()
    );
    bench.green.run("UPDATE pairs SET a = a + 1 WHERE id = 3; UPDATE pairs SET c = c + 0.001 WHERE id = 4").await;
    assert_eq!(bench.finds(&bench.all(), Finding::Differs).await.rows(), ["Different 3 a", "Different 4 c"]);
}
