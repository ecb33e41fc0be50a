//! Behaviours 27, 28 and 34: killed, stopped, cut off, frozen, robbed, and without its trigger.

use std::{sync::Arc, time::Duration};

use alongside::worker::{
    backfill::{controls::Controls, task::Task},
    verdict::Outcome,
};
use rustix::process::Signal;

use crate::{
    bench::{Bench, Running, again, ends, succeed},
    load::Load,
    support::postgres::Server,
};

const ROWS: i64 = 20_000;
/// True once some chunks are done and others aren't.
const MIDWAY: &str = "SELECT coalesce(sum(changed), 0) > 1000 FROM alongside.backfill_chunk";

/// Slow enough to be met in the middle.
fn slow(bench: &Bench) -> Task {
    let mut task = bench.split();
    task.action.rate = Some(8_000);
    task.action.chunk = serde_json::from_value(serde_json::json!({"rows": 200})).expect("good limits");
    task
}

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[tokio::test]
async fn killed_ten_times_under_writes_it_ends_as_if_it_had_not_been() {
    for seed in [1, 2] {
        let bench = Bench::with_customers(ROWS).await;
        let load = Load::start(&bench.database, 3, seed).await;
        let mut task = slow(&bench);
        let mut dice = Dice(seed);
        for kill in 0..10 {
            let mut worker = bench.spawn(&format!("worker-{kill}"), &task);
            tokio::time::sleep(Duration::from_millis(20 + dice.below(400))).await;
            worker.signal(Signal::KILL);
            worker.end().await;
            task = again(&task);
        }
        task.action.rate = None;
        let summary = succeed(&task).await.backfill.expect("figures");
        let written = load.stop().await;
        assert!(written.writes > 100, "seed {seed}: the load did nothing: {written:?}");
        assert_eq!(written.failed, 0, "seed {seed}: {written:?}");
        bench.all_split().await;
        assert!(summary.rows_changed <= ROWS, "seed {seed}: a row was changed twice: {summary:?}");
    }
}

#[tokio::test]
async fn told_to_stop_it_ends_between_two_chunks_and_goes_on_from_there() {
    let bench = Bench::with_customers(ROWS).await;
    let task = slow(&bench);
    let mut worker = bench.spawn("worker", &task);
    bench.until("some chunks are done", "SELECT to_regclass('alongside.backfill_chunk') IS NOT NULL").await;
    bench.until("some chunks are done", MIDWAY).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().await, Some(i32::from(Outcome::Stopped.exit_code())));
    let held = "SELECT count(*) FROM alongside.backfill_chunk WHERE state = 'Held'";
    assert_eq!(bench.database.count(held).await, 0, "it lets go of what it holds");
    let done = bench.database.count("SELECT sum(changed)::bigint FROM alongside.backfill_chunk").await;
    let filled = bench.database.count("SELECT count(*) FROM customers WHERE first_name IS NOT NULL").await;
    assert_eq!(done, filled, "rows and positions agree");
    assert!(filled < ROWS);
    let summary = succeed(&again(&task)).await.backfill.expect("figures");
    assert_eq!(summary.rows_changed, ROWS);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again() {
    let bench = Bench::with_customers(ROWS).await;
    let running = Running::start(&slow(&bench), Controls::default());
    bench.until("tables", "SELECT to_regclass('alongside.backfill_chunk') IS NOT NULL").await;
    for _ in 0..3 {
        bench.until("some chunks are done", MIDWAY).await;
        bench
            .database
            .run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'alongside shop%'")
            .await;
    }
    let verdict = running.end().await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    assert_eq!(verdict.backfill.expect("figures").rows_changed, ROWS);
    bench.all_split().await;
}

#[tokio::test]
async fn a_server_that_crashes_takes_no_row_with_it() {
    let server = Arc::new(Server::start());
    let bench = Bench::on(server.database().await);
    bench.add_customers(ROWS).await;
    let running = Running::start(&slow(&bench), Controls::default());
    bench.until("tables", "SELECT to_regclass('alongside.backfill_chunk') IS NOT NULL").await;
    bench.until("some chunks are done", MIDWAY).await;
    // One backend killed makes the server end all others and recover from its log.
    let victim = bench
        .database
        .rows("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'alongside shop%' LIMIT 1", &[])
        .await;
    let pid = rustix::process::Pid::from_raw(victim[0].get("pid")).expect("a process id");
    rustix::process::kill_process(pid, Signal::KILL).expect("the server is ours");
    let verdict = running.end().await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    bench.all_split().await;
}

#[tokio::test]
async fn a_frozen_worker_is_taken_over_from_and_changes_nothing_when_it_thaws() {
    let bench = Bench::with_customers(ROWS).await;
    let mut task = slow(&bench);
    task.lease = alongside::api::Span::secs(4);
    let mut frozen = bench.spawn("frozen", &task);
    bench.until("tables", "SELECT to_regclass('alongside.backfill_chunk') IS NOT NULL").await;
    bench.until("some chunks are done", MIDWAY).await;
    frozen.signal(Signal::STOP);
    let mut second = again(&task);
    second.action.rate = None;
    let verdict = succeed(&second).await;
    assert_eq!(verdict.backfill.expect("figures").rows_changed, ROWS, "no row twice");
    bench.all_split().await;
    frozen.signal(Signal::CONT);
    assert_eq!(frozen.end().await, Some(i32::from(Outcome::Refused.exit_code())));
    assert!(frozen.verdict().message.contains("came late and did nothing"), "{:?}", frozen.verdict());
}

#[tokio::test]
async fn whoever_lost_a_chunk_to_another_changes_none_of_its_rows() {
    let bench = Bench::with_customers(ROWS).await;
    let mut task = slow(&bench);
    task.action.rate = Some(2_000);
    let running = Running::start(&task, Controls::default());
    bench.until("tables", "SELECT to_regclass('alongside.backfill_chunk') IS NOT NULL").await;
    bench.until("some chunks are done", MIDWAY).await;
    // A thief who then does nothing with what it has.
    bench
        .database
        .run("UPDATE alongside.backfill_chunk SET epoch = epoch + 1, holder = 'thief', state = 'Held', lease_until = 'infinity'
              WHERE state <> 'Done'")
        .await;
    let filled = "SELECT count(*) FROM customers WHERE first_name IS NOT NULL";
    let at_the_theft = bench.database.count(filled).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.database.count(filled).await, at_the_theft);
    bench.database.run("UPDATE alongside.backfill_chunk SET lease_until = now() WHERE holder = 'thief'").await;
    running.control(Controls { rate: Some(1_000_000), ..Controls::default() });
    let verdict = running.end().await;
    assert_eq!(verdict.backfill.expect("figures").rows_changed, ROWS, "each row once");
}

#[tokio::test]
async fn a_trigger_that_disappears_stops_the_run_and_the_next_try_mends_what_it_missed() {
    let harms = [
        "DROP TRIGGER \"{}\" ON customers",
        "ALTER TABLE customers DISABLE TRIGGER \"{}\"",
        "ALTER TABLE customers DISABLE TRIGGER \"{}\"; UPDATE customers SET full_name = 'a b' WHERE id = 1;
         ALTER TABLE customers ENABLE ALWAYS TRIGGER \"{}\"",
    ];
    for harm in harms {
        let bench = Bench::with_customers(ROWS).await;
        let task = slow(&bench);
        let running = Running::start(&task, Controls::default());
        bench.until("tables", "SELECT to_regclass('alongside.backfill_chunk') IS NOT NULL").await;
        bench.until("some chunks are done", MIDWAY).await;
        let rows =
            bench.database.rows("SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '~alongside%_2'", &[]).await;
        bench.database.run(&harm.replace("{}", rows[0].get(0))).await;
        let verdict = running.end().await;
        assert_eq!(verdict.outcome, Outcome::Refused, "{verdict:?}");
        assert!(verdict.message.contains("The sync trigger of \"public\".\"customers\""), "{verdict:?}");
        // A write that nobody kept up with, to a row that was filled.
        bench.database.run("ALTER TABLE customers DISABLE TRIGGER USER; UPDATE customers SET full_name = 'c d' WHERE id = 2; ALTER TABLE customers ENABLE TRIGGER USER").await;
        let mut next = again(&task);
        next.action.rate = None;
        succeed(&next).await;
        bench.all_split().await;
    }
}

#[tokio::test]
async fn another_text_is_not_carried_on_with() {
    let bench = Bench::with_customers(100).await;
    let task = bench.split();
    succeed(&task).await;
    let mut other = again(&task);
    other.action.set.insert("first_name".into(), "upper(full_name)".into());
    ends(&other, Outcome::Refused, "put the text back, or roll back and begin again").await;
    bench.database.run("UPDATE alongside.backfill_run SET format_version = 2").await;
    ends(&again(&other), Outcome::Refused, "format version 2, but this worker knows 1").await;
}
