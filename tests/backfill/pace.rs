//! Behaviour 35, and what can be changed while a backfill runs.

use alongside::worker::{
    backfill::{
        controls::{Controls, GuardReading},
        task::Task,
    },
    verdict::Outcome,
};
use serde_json::json;

use crate::bench::{Bench, Running};

fn throttled(bench: &Bench, throttle: serde_json::Value) -> Task {
    let mut task = bench.split();
    task.action.throttle = Some(serde_json::from_value(throttle).expect("a good throttle"));
    task
}

fn reading(value: f64, sample: u32) -> Controls {
    let guard = GuardReading {
        name: "p99".into(),
        value,
        limit: 10.0,
        is_lowest: false,
        sample: sample.to_string(),
        max_age: None,
    };
    Controls { guard: Some(guard), ..Controls::default() }
}

const BEGUN: &str = "SELECT to_regclass('alongside.backfill_chunk') IS NOT NULL";
const PLANNED: &str = "SELECT count(*) > 0 FROM alongside.backfill_chunk";
const NONE_FILLED: &str = "SELECT count(*) FROM customers WHERE first_name IS NOT NULL";

#[tokio::test]
async fn a_guard_that_nobody_has_read_pauses_and_a_stop_works_while_paused() {
    let bench = Bench::with_customers(2_000).await;
    let running = Running::start(&throttled(&bench, json!({"guard": "p99"})), Controls::default());
    bench.until("it has begun", BEGUN).await;
    bench.until("it has chunks", PLANNED).await;
    assert_eq!(bench.database.count(NONE_FILLED).await, 0);
    running.stop.cancel();
    assert_eq!(running.end().await.outcome, Outcome::Stopped);
    assert_eq!(bench.database.count(NONE_FILLED).await, 0);
}

#[tokio::test]
async fn a_reading_inside_its_limit_lets_it_go_on() {
    let bench = Bench::with_customers(2_000).await;
    let running = Running::start(&throttled(&bench, json!({"guard": "p99"})), Controls::default());
    bench.until("it has begun", BEGUN).await;
    bench.until("it has chunks", PLANNED).await;
    running.control(reading(1.0, 1));
    let verdict = running.end().await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    assert!(verdict.backfill.expect("figures").paused.0 > std::time::Duration::ZERO);
    bench.all_split().await;
}

#[tokio::test]
async fn a_person_can_pause_it_and_let_it_go_on_and_change_its_pace() {
    let bench = Bench::with_customers(5_000).await;
    let mut task = bench.split();
    task.action.rate = Some(200);
    task.action.chunk = serde_json::from_value(json!({"rows": 20})).expect("good limits");
    let running = Running::start(&task, Controls::default());
    bench.until("it has begun", BEGUN).await;
    bench.until("it works", "SELECT coalesce(sum(changed), 0) > 0 FROM alongside.backfill_chunk").await;
    running.control(Controls { pause: Some("the auditors are here".into()), ..Controls::default() });
    bench.until("it lets go", "SELECT count(*) = 0 FROM alongside.backfill_chunk WHERE state = 'Held'").await;
    assert!(bench.database.count(NONE_FILLED).await < 5_000);
    running.control(Controls { rate: Some(1_000_000), workers: Some(3), ..Controls::default() });
    assert_eq!(running.end().await.outcome, Outcome::Succeeded);
    bench.all_split().await;
}

#[tokio::test]
async fn lock_waits_beyond_their_limit_pause_it_until_they_are_gone() {
    let bench = Bench::with_customers(2_000).await;
    let (holder, waiter) = (bench.database.connect().await, bench.database.connect().await);
    holder.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1)").await.expect("a holder");
    let waiting = tokio::spawn(async move { waiter.batch_execute("SELECT pg_advisory_xact_lock(1)").await });
    bench.until("it waits", "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted").await;
    let running = Running::start(&throttled(&bench, json!({"maxLockWaits": 0})), Controls::default());
    bench.until("it has begun", BEGUN).await;
    bench.until("it has chunks", PLANNED).await;
    holder.batch_execute("COMMIT").await.expect("a holder");
    waiting.await.expect("it doesn't panic").expect("it gets the lock");
    assert_eq!(running.end().await.outcome, Outcome::Succeeded);
    bench.all_split().await;
}

#[tokio::test]
async fn limits_without_replicas_or_crowds_hold_nothing_up() {
    let bench = Bench::with_customers(2_000).await;
    let running = Running::start(
        &throttled(&bench, json!({"maxLag": "1s", "maxConnections": 90, "duty": "50%"})),
        Controls::default(),
    );
    assert_eq!(running.end().await.outcome, Outcome::Succeeded);
    bench.all_split().await;
}

#[tokio::test]
async fn controls_come_by_a_file_while_the_worker_runs() {
    let bench = Bench::with_customers(2_000).await;
    bench.write("controls", &json!({"pause": "not yet"}).to_string());
    let mut worker = bench.spawn("worker", &bench.split());
    bench.until("it has begun", BEGUN).await;
    bench.until("it has chunks", PLANNED).await;
    assert!(!worker.has_ended());
    bench.write("controls", "{\"rate\": 100000}");
    assert_eq!(worker.end().await, Some(0));
    assert_eq!(worker.verdict().outcome, Outcome::Succeeded);
    bench.all_split().await;
}
