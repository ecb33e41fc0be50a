//! Random changes on one side are found to the row, and none is invented.

use std::collections::BTreeSet;

use alongside::worker::verify::evidence::Finding;
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::bench::Bench;

const ROWS: i64 = 12_000;
const ROUNDS: u64 = 6;

#[derive(Clone, Debug)]
enum Change {
    Delete(i64),
    Insert(i64),
    Update(i64),
    Swap(i64, i64),
    Move(i64, i64),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let there = 1..=ROWS;
    let new = prop_oneof![ROWS + 1..ROWS * 3, -ROWS..0_i64];
    let change = prop_oneof![
        there.clone().prop_map(Change::Delete),
        new.clone().prop_map(Change::Insert),
        there.clone().prop_map(Change::Update),
        (there.clone(), 1..=ROWS).prop_map(|(one, other)| Change::Swap(one, other)),
        (there, new).prop_map(|(from, to)| Change::Move(from, to)),
    ];
    vec(change, 0..8)
}

fn sql(change: &Change) -> String {
    match change {
        Change::Delete(id) => format!("DELETE FROM t WHERE id = {id};"),
        Change::Insert(id) => format!("INSERT INTO t VALUES ({id}, 1, 'new') ON CONFLICT DO NOTHING;"),
        Change::Update(id) => format!("UPDATE t SET n = n + 1 WHERE id = {id};"),
        Change::Swap(one, other) => format!(
            "UPDATE t SET s = CASE t.id WHEN {one} THEN (SELECT s FROM t WHERE id = {other}) ELSE (SELECT s FROM t WHERE id = {one}) END
             WHERE id IN ({one}, {other});"
        ),
        Change::Move(from, to) => {
            format!("UPDATE t SET id = {to} WHERE id = {from} AND NOT EXISTS (SELECT FROM t WHERE id = {to});")
        }
    }
}

#[tokio::test]
async fn random_changes_are_found_to_the_row_and_none_is_invented() {
    let bench = Bench::at_rest("CREATE TABLE t (id bigint PRIMARY KEY, n bigint, s text)").await;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124_u64);
    for round in 0..ROUNDS {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(seed + round).to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let changes = changes().new_tree(&mut runner).expect("any changes do").current();
        bench
            .both(&format!(
                "TRUNCATE t; INSERT INTO t SELECT i, i % 100, 's' || i FROM generate_series(1, {ROWS}) AS i; ANALYZE t"
            ))
            .await;
        bench.green.run(&changes.iter().map(sql).collect::<String>()).await;
        // What differs by the rows themselves.
        let all = "SELECT id, n, s FROM t";
        let read = async |database: &crate::support::postgres::Database| {
            let rows = database.rows(all, &[]).await;
            rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect::<BTreeSet<(i64, i64, String)>>()
        };
        let (blue, green) = (read(&bench.blue).await, read(&bench.green).await);
        let expected: BTreeSet<String> = blue.symmetric_difference(&green).map(|(id, _, _)| id.to_string()).collect();
        let finding = if expected.is_empty() { Finding::Equal } else { Finding::Differs };
        let result = bench.finds(&bench.all(), finding).await;
        let found: BTreeSet<String> = result.table().rows.iter().map(|row| row.key[0].clone()).collect();
        assert_eq!(found, expected, "seed {seed}, round {round}: {changes:?}");
        assert_eq!(result.table().differing.total(), expected.len() as u64);
    }
}
