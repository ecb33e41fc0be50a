//! Behaviour 21: a lock that isn't to be had makes nobody wait long, is asked for again, and let go of when told to.

use std::time::Duration;

use alongside::{
    api::Span,
    worker::{
        ladder::Ladder,
        task::{Role, Task},
        verdict::Outcome,
    },
};
use rustix::process::Signal;

use crate::{
    bench::{Bench, DEADLINE, back, ends, run, succeed, versions},
    support::wait::within,
};

const ADD: &str = "ALTER TABLE items ADD COLUMN sku text;";
/// Whether somebody waits for a lock on the table, as everyone behind would have to.
const WAITS: &str = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = to_regclass('items') AND NOT granted)";

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE items (id int)").await;
    bench
}

/// Whether a script stands at the gate: the advisory lock 1, which the test holds.
const AT_THE_GATE: &str = "SELECT count(*) = 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE datname = current_database() AND locktype = 'advisory' AND objid = 1 AND NOT granted";

#[tokio::test]
async fn a_statement_that_waits_for_a_lock_lets_go_between_tries_and_gets_it_in_the_end() {
    let bench = bench().await;
    let reader = bench.database.connect().await;
    reader.batch_execute("BEGIN; SELECT * FROM items").await.unwrap();
    let task = bench.inline(ADD, None);
    let worker = tokio::spawn(async move { run(&task).await });
    // It waits, lets go, and waits again: in the gaps nobody stands in line behind it.
    for round in ["first", "second"] {
        bench.until(&format!("the {round} try waits for the lock"), WAITS).await;
        bench.until(&format!("the {round} try has let go"), &format!("SELECT NOT ({WAITS})")).await;
    }
    // In a gap a reader with no patience at all gets through.
    let hasty = bench.database.connect().await;
    hasty.batch_execute("SET lock_timeout = '1ms'").await.unwrap();
    within(DEADLINE, "a reader gets through", async || hasty.query("SELECT * FROM items", &[]).await).await;
    assert!(!worker.is_finished(), "it goes on trying");
    reader.batch_execute("COMMIT").await.unwrap();
    let verdict = worker.await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    assert_eq!(bench.database.count("SELECT count(sku) FROM items").await, 0);
}

#[tokio::test]
async fn earlier_statements_of_the_script_let_go_of_their_locks_too() {
    let bench = bench().await;
    bench.database.run("CREATE TABLE parts (id int)").await;
    let reader = bench.database.connect().await;
    reader.batch_execute("BEGIN; SELECT * FROM items").await.unwrap();
    let task = bench.inline(&format!("ALTER TABLE parts ADD COLUMN n int; {ADD}"), None);
    let worker = tokio::spawn(async move { run(&task).await });
    let on_parts = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = to_regclass('parts'))";
    bench.until("the first statement holds its lock", on_parts).await;
    bench.until("it has let go of it", &format!("SELECT NOT ({on_parts})")).await;
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(worker.await.unwrap().outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn a_lock_that_is_never_to_be_had_fails_the_try_and_changes_nothing() {
    let bench = bench().await;
    let reader = bench.database.connect().await;
    reader.batch_execute("BEGIN; SELECT * FROM items").await.unwrap();
    let retry = Ladder { give_up_after: Span::millis(700), ..bench.inline(ADD, None).retry };
    let task = Task { retry, lock_timeout: Span::millis(50), ..bench.inline(ADD, None) };
    let verdict = ends(&task, Outcome::Failed, "Nothing of it has taken effect. It took ").await;
    assert_eq!(verdict.sqlstate.as_deref(), Some("55P03"));
    assert!(!verdict.is_terminal(), "another try may get it");
}

#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let bench = bench().await;
    bench.database.run("CREATE TABLE parts (id int)").await;
    let other = bench.database.connect().await;
    other.batch_execute("SET deadlock_timeout = '1h'; BEGIN; SELECT * FROM items").await.unwrap();
    let up = format!("ALTER TABLE parts ADD COLUMN n int; {ADD}");
    // Longer than the server takes to look for deadlocks.
    let task = Task { lock_timeout: Span::secs(30), ..bench.inline(&up, None) };
    let worker = tokio::spawn(async move { run(&task).await });
    bench.until("the script waits for items", WAITS).await;
    other.batch_execute("SELECT * FROM parts; COMMIT").await.unwrap();
    assert_eq!(worker.await.unwrap().outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn a_worker_told_to_stop_while_it_waits_ends_at_once_and_leaves_nothing_behind() {
    let bench = bench().await;
    let reader = bench.database.connect().await;
    reader.batch_execute("BEGIN; SELECT * FROM items").await.unwrap();
    // It would wait for an hour.
    let task = Task { lock_timeout: Span::secs(3600), ..bench.inline(ADD, None) };
    let mut worker = bench.spawn("stopped", &task);
    bench.until("the worker waits for the lock", WAITS).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().await, Some(4));
    bench.until("the server has stopped waiting", &format!("SELECT NOT ({WAITS})")).await;
    let verdict = worker.verdict();
    assert_eq!(verdict.outcome, Outcome::Stopped);
    assert_eq!(verdict.message, "Stopped in expand. Nothing of it has taken effect.");
    reader.batch_execute("COMMIT").await.unwrap();
    succeed(&task).await;
}

#[tokio::test]
async fn a_worker_told_to_stop_between_two_tries_ends_at_once() {
    let bench = bench().await;
    let reader = bench.database.connect().await;
    reader.batch_execute("BEGIN; SELECT * FROM items").await.unwrap();
    let hour = Ladder { first: Span::secs(3600), longest: Span::secs(3600), give_up_after: Span::secs(7200) };
    let task = Task { retry: hour, lock_timeout: Span::millis(50), ..bench.inline(ADD, None) };
    let mut worker = bench.spawn("stopped", &task);
    bench.until("the worker waits for the lock", WAITS).await;
    bench.until("it has let go", &format!("SELECT NOT ({WAITS})")).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().await, Some(4));
    assert_eq!(worker.verdict().outcome, Outcome::Stopped);
}

#[tokio::test]
async fn of_two_workers_that_overlap_one_waits_and_finds_the_work_done() {
    let bench = bench().await;
    bench.database.run("CREATE TABLE counter (n int)").await;
    let gate = bench.database.connect().await;
    gate.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let task = Task {
        lock_timeout: Span::secs(60),
        ..bench.inline("INSERT INTO counter VALUES (1); SELECT pg_advisory_xact_lock(1);", None)
    };
    let tasks = [task.clone(), task.clone()];
    let workers = tasks.map(|task| tokio::spawn(async move { run(&task).await }));
    bench.until("one worker is in the midst of the script", AT_THE_GATE).await;
    bench
        .until(
            "the other asks for its turn",
            "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()
                 AND application_name LIKE 'alongside %' AND query LIKE '%pg_try_advisory_lock%'",
        )
        .await;
    gate.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    let mut messages = Vec::new();
    for worker in workers {
        let verdict = worker.await.unwrap();
        assert_eq!((verdict.outcome, verdict.applied), (Outcome::Succeeded, versions(&["expand"])));
        messages.push(verdict.message);
    }
    messages.sort();
    assert_eq!(messages, ["Applied expand.", "Everything was in effect already."]);
    assert_eq!(bench.database.count("SELECT count(*) FROM counter").await, 1);
}

#[tokio::test]
async fn a_worker_that_waits_for_its_turn_is_not_what_a_concurrent_build_waits_for() {
    let bench = bench().await;
    let writer = bench.database.connect().await;
    writer.batch_execute("BEGIN; INSERT INTO items VALUES (1)").await.unwrap();
    let task = bench.inline("CREATE INDEX CONCURRENTLY items_id ON items (id);", None);
    let tasks = [task.clone(), task.clone()];
    let workers = tasks.map(|task| tokio::spawn(async move { run(&task).await }));
    bench
        .until(
            "one builds and waits for the writer, the other asks for its turn",
            "SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database()
                 AND application_name LIKE 'alongside %'
                 AND (wait_event = 'virtualxid' OR query LIKE '%pg_try_advisory_lock%')",
        )
        .await;
    writer.batch_execute("COMMIT").await.unwrap();
    for worker in workers {
        let verdict = worker.await.unwrap();
        assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    }
}

#[tokio::test]
async fn a_phase_that_another_worker_does_not_leave_fails_the_try_and_names_it() {
    let bench = bench().await;
    let gate = bench.database.connect().await;
    gate.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let long = Task { lock_timeout: Span::secs(60), ..bench.inline("SELECT pg_advisory_xact_lock(1);", None) };
    let first = tokio::spawn({
        let long = long.clone();
        async move { run(&long).await }
    });
    bench.until("the first worker is at it", AT_THE_GATE).await;
    let hasty = Task { retry: Ladder { give_up_after: Span::millis(300), ..long.retry }, ..long };
    let verdict = ends(&hasty, Outcome::Failed, "alongside shop/inventory-v2 expand (backend ").await;
    assert!(verdict.message.contains("has been at this phase's scripts for more than 300ms"), "{verdict:?}");
    gate.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    assert_eq!(first.await.unwrap().outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn other_phases_do_not_wait_for_each_other() {
    let bench = bench().await;
    let gate = bench.database.connect().await;
    gate.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let long = Task { lock_timeout: Span::secs(60), ..bench.inline("SELECT pg_advisory_xact_lock(1);", None) };
    let first = tokio::spawn(async move { run(&long).await });
    bench.until("the first worker is at it", AT_THE_GATE).await;
    let other = Task { phase: "other".into(), ..bench.inline("CREATE TABLE a ();", Some("DROP TABLE a;")) };
    succeed(&other).await;
    succeed(&back(&other)).await;
    succeed(&Task { role: Role::Preflight, ..other }).await;
    gate.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    assert_eq!(first.await.unwrap().outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn a_frozen_worker_does_not_keep_its_locks() {
    let bench = bench().await;
    let gate = bench.database.connect().await;
    gate.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let task =
        Task { lock_timeout: Span::secs(60), ..bench.inline(&format!("{ADD} SELECT pg_advisory_xact_lock(1);"), None) };
    let worker = bench.spawn("frozen", &task);
    bench.until("the worker holds a lock", AT_THE_GATE).await;
    worker.signal(Signal::STOP);
    gate.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    // The server ends what has been idle inside a transaction.
    let reader = bench.database.connect().await;
    reader.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    within(Duration::from_secs(90), "a reader gets through", async || reader.query("SELECT * FROM items", &[]).await)
        .await;
    assert_eq!(bench.database.count("SELECT count(*) FROM pg_attribute WHERE attname = 'sku'").await, 0);
    worker.signal(Signal::CONT);
    let mut worker = worker;
    assert_eq!(worker.end().await, Some(0), "thawed, it asks the store and goes on: {:?}", worker.verdict());
    assert_eq!(bench.database.count("SELECT count(*) FROM pg_attribute WHERE attname = 'sku'").await, 1);
}

#[tokio::test]
async fn a_statement_may_run_only_as_long_as_the_phase_says() {
    let bench = bench().await;
    let task = Task { statement_timeout: Some(Span::millis(100)), ..bench.inline("SELECT pg_sleep(3600);", None) };
    let verdict = ends(&task, Outcome::Failed, "statement timeout").await;
    assert_eq!(verdict.sqlstate.as_deref(), Some("57014"));
}

#[tokio::test]
async fn workers_of_several_phases_may_begin_at_once_on_a_new_store() {
    let bench = Bench::new().await;
    let workers: Vec<_> = (0..8)
        .map(|number| {
            let task = Task {
                phase: format!("phase-{number}"),
                lock_timeout: Span::secs(60),
                ..bench.inline(&format!("CREATE TABLE t{number} ();"), None)
            };
            tokio::spawn(async move { run(&task).await })
        })
        .collect();
    for worker in workers {
        let verdict = worker.await.unwrap();
        assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    }
}
