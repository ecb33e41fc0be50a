//! A zoo of schemas: every type that PostgreSQL has is equal to itself on the other side, and unequal to another value.

use std::fmt::Write as _;

use alongside::worker::verify::evidence::Finding;

use crate::bench::Bench;

/// A type with two values that differ.
const TYPES: &[(&str, &str, &str)] = &[
    ("smallint", "-32768", "32767"),
    ("integer", "-1", "1"),
    ("bigint", "-9223372036854775808", "9223372036854775807"),
    ("numeric", "'NaN'", "'Infinity'"),
    ("numeric(40,20)", "-0.00000000000000000001", "0"),
    ("real", "'-Infinity'", "'NaN'"),
    ("double precision", "1e-300", "0"),
    ("money", "12.34", "12.35"),
    ("boolean", "true", "NULL"),
    ("\"char\"", "'a'", "'b'"),
    ("char(5)", "'a'", "'b'"),
    ("varchar(9)", "''", "NULL"),
    ("text", "'NULL'", "NULL"),
    ("name", "'n'", "'m'"),
    ("bytea", "'\\x00'", "'\\x'"),
    ("date", "'infinity'", "'-infinity'"),
    ("time", "'24:00'", "'00:00'"),
    ("timetz", "'12:00+01'", "'12:00+02'"),
    ("timestamp", "'4713-01-01 BC'", "'294276-12-31'"),
    ("timestamptz", "'infinity'", "'2024-02-29 00:00:00.000001+00'"),
    ("interval", "'1 month'", "'31 days'"),
    ("uuid", "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
    ("inet", "'10.0.0.1/8'", "'::1'"),
    ("cidr", "'10.0.0.0/8'", "'10.0.0.0/9'"),
    ("macaddr", "'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'"),
    ("macaddr8", "'08:00:2b:01:02:03:04:05'", "'08:00:2b:01:02:03:04:06'"),
    ("bit(3)", "B'101'", "B'100'"),
    ("varbit", "B'0'", "B'00'"),
    ("point", "'(1,2)'", "'(2,1)'"),
    ("line", "'{1,2,3}'", "'{1,2,4}'"),
    ("lseg", "'((0,0),(1,1))'", "'((1,1),(0,0))'"),
    ("box", "'((2,2),(0,0))'", "'((1,4),(0,0))'"),
    ("path", "'((0,0),(1,1))'", "'[(0,0),(1,1)]'"),
    ("polygon", "'((0,0),(1,1),(2,0))'", "'((0,0),(1,1),(2,1))'"),
    ("circle", "'<(0,0),1>'", "'<(1,0),1>'"),
    ("json", "'{\"a\": null}'", "'{}'"),
    ("jsonb", "'[1, [2]]'", "'[1, 2]'"),
    ("xml", "'<a/>'", "'<b/>'"),
    ("tsvector", "'a:1 b:2'", "'a:2 b:1'"),
    ("tsquery", "'a & b'", "'a | b'"),
    ("pg_lsn", "'0/1'", "'0/2'"),
    ("oid", "1", "4294967295"),
    ("regclass", "'pg_class'", "'pg_type'"),
    ("regtype", "'int'", "'text'"),
    ("xid8", "'1'", "'4294967297'"),
    ("int4range", "'[1,3)'", "'empty'"),
    ("numrange", "'[1,3)'", "'[1,3]'"),
    ("tsrange", "'[2024-01-01,)'", "'(,2024-01-01]'"),
    ("tstzrange", "'(,)'", "NULL"),
    ("daterange", "'[2024-01-01,2024-01-02)'", "'empty'"),
    ("int8range", "'(,5)'", "'(,6)'"),
    ("int4multirange", "'{[1,2),[4,5)}'", "'{[1,2)}'"),
    ("datemultirange", "'{}'", "'{(,)}'"),
    ("integer[]", "'{1,NULL}'", "'{1}'"),
    ("text[]", "'{NULL}'", "'{\"NULL\"}'"),
    ("integer[][]", "'{{1,2},{3,4}}'", "'{{1,2},{4,3}}'"),
    ("text[]", "'[2:3]={a,b}'", "'{a,b}'"),
    ("jsonb[]", "'{\"{}\"}'", "'{\"[]\"}'"),
    ("mood", "'sad'", "'ok'"),
    ("mood[]", "'{sad,ok}'", "'{ok,sad}'"),
    ("positive", "1", "2"),
    ("pair", "ROW(1, 'a,b')", "ROW(1, 'a\"b')"),
    ("pair[]", "ARRAY[ROW(1, NULL)::pair]", "ARRAY[ROW(1, '')::pair]"),
    ("moods", "'[sad,ok)'", "'[sad,ok]'"),
];

const OWN_TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE TYPE pair AS (n int, t text); CREATE TYPE moods AS RANGE (subtype = mood);";

#[tokio::test]
async fn every_type_is_equal_to_itself_and_unequal_to_another_value() {
    let columns: Vec<_> = TYPES.iter().enumerate().map(|(at, (declared, _, _))| format!("c{at} {declared}")).collect();
    let first: Vec<_> = TYPES.iter().map(|(_, first, _)| *first).collect();
    let second: Vec<_> = TYPES.iter().map(|(_, _, second)| *second).collect();
    let table = format!("CREATE TABLE zoo (id int PRIMARY KEY, {})", columns.join(", "));
    // Other oids on the other side.
    let bench = Bench::of(
        &format!("{OWN_TYPES} {table}"),
        &format!("CREATE TYPE shift AS ENUM ('x', 'y', 'z'); {OWN_TYPES} {table}"),
    )
    .await;
    let mut rows = format!("INSERT INTO zoo VALUES (-1, {}), (-2, {});", first.join(", "), second.join(", "));
    for at in 0..TYPES.len() {
        let _ = write!(rows, "INSERT INTO zoo VALUES ({at}, {});", first.join(", "));
    }
    bench.both(&rows).await;
    let seen = bench.finds(&bench.all(), Finding::Equal).await;
    assert_eq!(seen.evidence.method.as_deref(), Some("binary"));
    for (at, second) in second.iter().enumerate() {
        bench.green.run(&format!("UPDATE zoo SET c{at} = {second} WHERE id = {at}")).await;
    }
    let seen = bench.finds(&bench.all(), Finding::Differs).await;
    assert_eq!(seen.table().differing.different, TYPES.len() as u64);
    for row in &seen.table().rows {
        assert_eq!(row.columns, [format!("c{}", row.key[0])], "{:?}", TYPES[row.key[0].parse::<usize>().unwrap()]);
    }
}

#[tokio::test]
async fn odd_names_places_and_sizes_are_compared() {
    let long = "x".repeat(63);
    let schema = format!(
        "CREATE SCHEMA \"Sch.ema\";
         CREATE TABLE \"Sch.ema\".\"{long}\" (\"{long}\" int PRIMARY KEY, \"select\" text, \"a\"\"b\" text, \"ü \" int);
         INSERT INTO \"Sch.ema\".\"{long}\" VALUES (1, 's', 'q', 2);
         CREATE TABLE toasted (id int PRIMARY KEY, t text, c bytea); ALTER TABLE toasted ALTER t SET STORAGE EXTERNAL;
         INSERT INTO toasted SELECT i, repeat('é' || i, 200000), decode(repeat(md5(i::text), 5000), 'hex') FROM generate_series(1, 5) AS i;
         CREATE TABLE \"order\" (\"table\" int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, g int GENERATED ALWAYS AS (\"table\" + 1) STORED);
         INSERT INTO \"order\" SELECT i FROM generate_series(1, 10) AS i"
    );
    let bench = Bench::at_rest(&schema).await;
    let mut task = bench.all();
    task.action.tables = vec!["public.*".into(), "\"Sch.ema\".*".into()];
    let seen = bench.finds(&task, Finding::Equal).await;
    assert_eq!((seen.short().tables, seen.short().rows), (3, 16));
    bench.green.run("UPDATE toasted SET t = t || 'x' WHERE id = 5").await;
    bench.green.run(&format!("UPDATE \"Sch.ema\".\"{long}\" SET \"a\"\"b\" = NULL")).await;
    let mut rows = bench.finds(&task, Finding::Differs).await.rows();
    rows.sort();
    assert_eq!(rows, ["Different 1 a\"b", "Different 5 t"]);
}
