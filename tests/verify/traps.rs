//! Each way that looks simpler, shown to let a difference pass or to invent one, beside ours.

use alongside::worker::verify::evidence::Finding;

use crate::bench::Bench;

const PAIRS: &str = "CREATE TABLE pairs (id int PRIMARY KEY, a bigint, b text)";

/// What a way that looks simpler makes of both sides.
async fn simpler(bench: &Bench, sum: &str) -> (String, String) {
    let sql = format!("SELECT coalesce(({sum})::text, '') FROM pairs");
    let blue = bench.blue.rows(&sql, &[]).await[0].get(0);
    let green = bench.green.rows(&sql, &[]).await[0].get(0);
    (blue, green)
}

#[tokio::test]
async fn two_rows_that_have_swapped_a_value_are_told_apart() {
    let bench = Bench::at_rest(PAIRS).await;
    bench.blue.run("INSERT INTO pairs VALUES (1, 10, 'x'), (2, 20, 'y')").await;
    bench.green.run("INSERT INTO pairs VALUES (1, 10, 'y'), (2, 20, 'x')").await;
    // A record's hash is 31 times one column's plus the next one's: their sum doesn't know which row they were in.
    let (blue, green) = simpler(&bench, "sum(hash_record_extended(pairs, 7))").await;
    assert_eq!(blue, green);
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    assert_eq!(seen.rows(), ["Different 1 b", "Different 2 b"]);
}

#[tokio::test]
async fn a_bigint_that_is_off_by_two_to_the_thirty_second_is_told_apart() {
    let bench = Bench::at_rest(PAIRS).await;
    bench.blue.run("INSERT INTO pairs VALUES (1, 1, 'x')").await;
    bench.green.run("INSERT INTO pairs VALUES (1, 4294967296, 'x')").await;
    let (blue, green) = simpler(&bench, "sum(hash_record_extended(pairs, 7))").await;
    assert_eq!(blue, green, "both are folded to 32 bits, under any seed");
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    assert_eq!(seen.rows(), ["Different 1 a"]);
}

#[tokio::test]
async fn two_elements_of_a_long_json_array_that_changed_places_are_told_apart() {
    let bench = Bench::at_rest("CREATE TABLE pairs (id int PRIMARY KEY, j jsonb)").await;
    let array = |first: i32, last: i32| {
        format!(
            "INSERT INTO pairs SELECT 1, jsonb_agg(CASE i WHEN 0 THEN {first} WHEN 32 THEN {last} ELSE i END ORDER BY i)
             FROM generate_series(0, 39) AS i"
        )
    };
    bench.blue.run(&array(0, 32)).await;
    bench.green.run(&array(32, 0)).await;
    let (blue, green) = simpler(&bench, "sum(jsonb_hash_extended(j, 7))").await;
    assert_eq!(blue, green);
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    assert_eq!(seen.rows(), ["Different 1 j"]);
}

#[tokio::test]
async fn rows_that_are_there_twice_do_not_cancel_out() {
    // Without an index on the new side a copy that ran twice leaves each row twice.
    let bench = Bench::of(PAIRS, "CREATE TABLE pairs (id int, a bigint, b text)").await;
    bench.blue.run("INSERT INTO pairs VALUES (1, 1, 'x')").await;
    bench.green.run("INSERT INTO pairs VALUES (1, 1, 'x'), (2, 2, 'y'), (2, 2, 'y')").await;
    let (blue, green) = simpler(&bench, "bit_xor(hash_record_extended(pairs, 7))").await;
    assert_eq!(blue, green, "a pair of equal rows vanishes under XOR");
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    assert_eq!(seen.rows(), ["Extra 2"]);
    assert_eq!((seen.table().rows_from, seen.table().rows_to), (1, 3));
}

#[tokio::test]
async fn null_the_empty_text_and_the_word_null_are_three_things() {
    let bench = Bench::at_rest(PAIRS).await;
    bench.blue.run("INSERT INTO pairs VALUES (1, 1, NULL), (2, 2, ''), (3, 3, 'NULL'), (4, 4, NULL)").await;
    bench.green.run("INSERT INTO pairs VALUES (1, 1, ''), (2, 2, 'NULL'), (3, 3, NULL), (4, 4, NULL)").await;
    let (blue, green) = simpler(&bench, "string_agg(coalesce(b, ''), ',' ORDER BY b) FILTER (WHERE id = 1)").await;
    assert_eq!(blue, green, "coalesce makes NULL and the empty text one");
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    assert_eq!(seen.rows(), ["Different 1 b", "Different 2 b", "Different 3 b"]);
}

#[tokio::test]
async fn values_that_run_into_each_other_when_joined_are_told_apart() {
    let bench = Bench::at_rest("CREATE TABLE pairs (id int PRIMARY KEY, a text, b text)").await;
    bench.blue.run("INSERT INTO pairs VALUES (1, 'x,y', 'z')").await;
    bench.green.run("INSERT INTO pairs VALUES (1, 'x', 'y,z')").await;
    let (blue, green) = simpler(&bench, "sum(hashtextextended(concat_ws(',', a, b), 7))").await;
    assert_eq!(blue, green);
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    assert_eq!(seen.rows(), ["Different 1 a,b"]);
}

#[tokio::test]
async fn an_enum_is_compared_by_its_label_and_not_by_its_number() {
    let bench = Bench::of(
        "CREATE TYPE state AS ENUM ('new', 'paid'); CREATE TABLE pairs (id int PRIMARY KEY, s state)",
        "CREATE TYPE other AS ENUM ('x', 'y', 'z'); CREATE TYPE state AS ENUM ('new', 'paid');
         CREATE TABLE pairs (id int PRIMARY KEY, s state)",
    )
    .await;
    bench.both("INSERT INTO pairs VALUES (1, 'new'), (2, 'paid')").await;
    let (blue, green) = simpler(&bench, "sum(hash_record_extended(ROW(s), 7))").await;
    assert_ne!(blue, green, "an enum's hash is of its oid, which each server gives anew");
    bench.finds(&bench.all(), Finding::Equal).await;
    bench.green.run("UPDATE pairs SET s = 'new' WHERE id = 2").await;
    assert_eq!(bench.finds(&bench.all(), Finding::Differs).await.rows(), ["Different 2 s"]);
}

#[tokio::test]
async fn the_session_of_a_role_with_odd_settings_sees_the_same_text() {
    let bench =
        Bench::at_rest("CREATE TABLE pairs (id timestamptz PRIMARY KEY, r regclass, d float8, i interval)").await;
    bench
        .green
        .run(&format!(
            "ALTER DATABASE {db} SET DateStyle = 'SQL, DMY'; ALTER DATABASE {db} SET TimeZone = 'Asia/Kolkata';
             ALTER DATABASE {db} SET IntervalStyle = 'sql_standard'; ALTER DATABASE {db} SET extra_float_digits = 0;
             ALTER DATABASE {db} SET search_path = pg_catalog; ALTER DATABASE {db} SET bytea_output = 'escape'",
            db = bench.green.name()
        ))
        .await;
    let rows = "INSERT INTO public.pairs VALUES
        ('2024-02-03 04:05:06+00', 'public.pairs', 0.1::float8 + 0.2::float8, '1 day -2 hours')";
    bench.both(rows).await;
    let (blue, green) = (
        bench.blue.rows("SELECT pairs::text FROM public.pairs", &[]).await[0].get::<_, String>(0),
        bench.green.rows("SELECT pairs::text FROM public.pairs", &[]).await[0].get::<_, String>(0),
    );
    assert_ne!(blue, green, "as text under the sessions' own settings they differ");
    bench.finds(&bench.all(), Finding::Equal).await;
}

#[tokio::test]
async fn rows_that_a_policy_hides_are_not_taken_for_absent() {
    let bench = Bench::at_rest(PAIRS).await;
    bench.both("INSERT INTO pairs VALUES (1, 1, 'mine')").await;
    bench.green.run("INSERT INTO pairs VALUES (2, 2, 'theirs')").await;
    let (role, database) = (format!("reader_{}", bench.green.name()), bench.green.name());
    bench
        .green
        .run(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'reader'; GRANT pg_monitor TO {role}; GRANT SELECT ON pairs TO {role};
             ALTER TABLE pairs ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON pairs USING (b = 'mine')"
        ))
        .await;
    let port = bench.green.server().port();
    bench.write_uri("green", &format!("postgres://{role}:reader@127.0.0.1:{port}/{database}"));
    bench.refuses(&bench.all(), "row-level security").await;
}
