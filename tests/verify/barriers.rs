//! Two stores that logical replication joins, under writes that never stop: no false alarm, no difference overlooked, and
//! writers wait for milliseconds.

use alongside::worker::{verdict::Outcome, verify::evidence::Finding};

use crate::{
    bench::{Bench, DEADLINE},
    support::wait::within,
};

const ORDERS: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, total numeric, note text)";
const ROWS: &str = "INSERT INTO orders SELECT i, i, 'note' FROM generate_series(0, 59999) AS i; ANALYZE orders";
const SUM: &str = "SELECT count(*), coalesce(sum(hash_record_extended(orders, 7)), 0)::text FROM orders";

#[tokio::test]
async fn rows_in_flight_are_not_taken_for_drift_while_drift_is_found() {
    let bench = Bench::replicated(ORDERS, ROWS).await;
    let load = bench.load(4);
    load.runs_on(200).await;
    // The simpler way: repeatable read on both sides, one after the other.
    let (blue, green) = (bench.blue.connect().await, bench.green.connect().await);
    let mut false_alarms = 0;
    for _ in 0..5 {
        blue.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
        let here = blue.query_one(SUM, &[]).await.unwrap();
        load.runs_on(5).await;
        green.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
        let there = green.query_one(SUM, &[]).await.unwrap();
        let pair = |row: &tokio_postgres::Row| (row.get::<_, i64>(0), row.get::<_, String>(1));
        false_alarms += i32::from(pair(&here) != pair(&there));
        blue.batch_execute("COMMIT").await.unwrap();
        green.batch_execute("COMMIT").await.unwrap();
    }
    assert!(false_alarms > 0, "snapshots a moment apart are expected to differ");
    for _ in 0..3 {
        let before = load.done();
        let seen = bench.finds(&bench.joined(&["orders"]), Finding::Equal).await;
        assert!(load.done() > before, "the load ran meanwhile");
        let table = seen.table();
        assert_eq!(
            (table.settled, table.differing.total()),
            (0, 0),
            "under a barrier not even the first look is wrong"
        );
        assert_eq!(table.rows_from, table.rows_to);
        let held: Vec<_> = table.barriers.iter().map(|barrier| barrier.held_us).collect();
        println!(
            "barriers {held:?} us held, {} missed, longest transaction {:?}",
            table.barriers_missed,
            load.longest()
        );
    }
    // Drift that nobody writes about any more.
    bench.green.run("UPDATE orders SET note = 'drifted' WHERE id = 55555; DELETE FROM orders WHERE id = 50001").await;
    let seen = bench.finds(&bench.joined(&["orders"]), Finding::Differs).await;
    let mut rows = seen.rows();
    rows.sort();
    assert_eq!(rows, ["Different 55555 note", "Missing 50001"]);
}

#[tokio::test]
async fn a_writer_that_stays_in_its_transaction_costs_patience_and_nobody_else_more_than_the_wait() {
    let bench = Bench::replicated(ORDERS, "INSERT INTO orders VALUES (1, 1, '')").await;
    let holder = bench.blue.connect().await;
    holder.batch_execute("BEGIN; UPDATE orders SET total = 2").await.unwrap();
    let task = bench.joined(&["orders"]);
    let ((), seen) = tokio::join!(
        async {
            let waits =
                "SELECT count(*) FROM pg_locks WHERE mode = 'ShareLock' AND NOT granted AND locktype = 'relation'";
            within(DEADLINE, "the lock is asked for", async || match bench.blue.count(waits).await {
                0 => Err("nobody waits"),
                _ => Ok(()),
            })
            .await;
            holder.batch_execute("COMMIT").await.unwrap();
        },
        bench.run(&task)
    );
    assert_eq!(seen.evidence.finding, Finding::Equal, "{:?}", seen.verdict);
    let missed = seen.table().last_missed.clone();
    assert!(missed.is_none_or(|why| why.contains("(test) has been writing to it")), "the holder is named");
}

#[tokio::test]
async fn a_stream_that_stands_still_holds_no_writer_up() {
    let bench = Bench::replicated(ORDERS, "INSERT INTO orders VALUES (1, 1, '')").await;
    // A lock on the new side keeps the stream from applying anything.
    let holder = bench.green.connect().await;
    holder.batch_execute("BEGIN; LOCK orders, heartbeat IN SHARE MODE").await.unwrap();
    bench.blue.run("UPDATE orders SET total = 2").await;
    let mut task = bench.joined(&["orders"]);
    task.retry.give_up_after = alongside::api::Span::secs(2);
    let seen = bench.run(&task).await;
    assert_eq!((seen.verdict.outcome, seen.evidence.finding), (Outcome::Failed, Finding::Incomplete));
    assert!(seen.verdict.message.contains("did not show the heartbeat"), "{}", seen.verdict.message);
    // It never even asked for the lock.
    assert_eq!(seen.table().barriers.len(), 0);
    holder.batch_execute("COMMIT").await.unwrap();
    bench.finds(&bench.joined(&["orders"]), Finding::Equal).await;
}

#[tokio::test]
async fn a_table_that_the_heartbeat_says_nothing_of_is_refused() {
    let bench = Bench::replicated(ORDERS, ROWS).await;
    bench.both("CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1)").await;
    bench.refuses(&bench.joined(&["late"]), "comes by no subscription of store green").await;
    bench.green.run("ALTER SUBSCRIPTION forward DISABLE").await;
    bench.refuses(&bench.joined(&["orders"]), "the subscription forward that feeds it is disabled").await;
}

#[tokio::test]
async fn a_connection_that_is_lost_costs_the_round_and_not_the_run() {
    let bench = Bench::replicated(ORDERS, ROWS).await;
    let load = bench.load(2);
    load.runs_on(20).await;
    let killer = bench.blue.connect().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let task = bench.joined(&["orders"]);
    let kill = async {
        let mut ended = 0;
        while !stop.is_cancelled() && ended < 4 {
            let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name LIKE 'alongside %' AND query LIKE '%hash_array%'";
            ended += killer.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        }
        ended
    };
    let run = async {
        let seen = bench.run(&task).await;
        stop.cancel();
        seen
    };
    let (ended, seen) = tokio::join!(kill, run);
    assert!(ended > 0, "nothing was killed");
    assert_eq!(seen.evidence.finding, Finding::Equal, "{:?}", seen.verdict);
    let ranges: u64 = seen.table().ranges.iter().map(|range| range.rows_from).sum();
    assert_eq!(ranges, seen.table().rows_from, "no range counts twice");
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_ends_with_its_statements() {
    let bench = Bench::at_rest(
        "CREATE TABLE orders (id int PRIMARY KEY, note text);
         INSERT INTO orders SELECT i, repeat(md5(i::text), 2000) FROM generate_series(1, 20000) AS i; ANALYZE orders",
    )
    .await;
    let mut worker = bench.spawn(&bench.all());
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'alongside %' AND state = 'active' AND query LIKE '%hash_array%'";
    within(DEADLINE, "the worker reads", async || match bench.blue.count(busy).await {
        0 => Err("it doesn't"),
        _ => Ok(()),
    })
    .await;
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(worker.end().await, Some(4));
    assert_eq!(worker.verdict().outcome, Outcome::Stopped);
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'alongside %' AND state = 'active'";
    within(DEADLINE, "nothing runs on", async || match bench.blue.count(left).await {
        0 => Ok(()),
        _ => Err("a statement"),
    })
    .await;
}
