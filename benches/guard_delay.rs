//! How long it takes from Prometheus's taking the sample that shows a breach to the board's telling it, and what polling
//! costs: alone, and beside a thousand other guarded Migrations asked every second.
//!
//! `cargo run --release --example guard_delay`; Prometheus runs on the same machine, and takes its part of the processor.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use alongside::{
    api::Guard,
    engine::guard::Verdict,
    guards::{Board, EventKind, Events, Providers, WatchKey, WatchSet},
};
use serde_json::{Value, json};
use support::{
    prometheus::{Exporter, Prometheus, processor_time},
    wait::within,
};

/// Breaches per row: the 99th percentile of fewer says little.
const TRIALS: u32 = 100;
/// Other guarded Migrations in the crowd.
const CROWD: usize = 1_000;
/// How long the processor time of polling alone is measured.
const IDLE: Duration = Duration::from_secs(20);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("| scrape interval | beside | p50 ms | p99 ms | worst ms | operator CPU | Prometheus CPU |");
    println!("|---|---|---|---|---|---|---|");
    for interval in ["1s", "200ms"] {
        for crowd in [0, CROWD] {
            println!("{}", runtime.block_on(row(interval, crowd)));
        }
    }
}

async fn row(interval: &str, crowd: usize) -> String {
    let exporter = Exporter::start().await;
    exporter.set("load", 1.0);
    for number in 0..crowd {
        exporter.set(&format!("other_total{{n=\"{number}\"}}"), 7.0);
        exporter.set(&format!("other_errors_total{{n=\"{number}\"}}"), 0.0);
    }
    let prometheus = Prometheus::start(interval, &[&exporter]).await;
    let list = json!([{"name": "default", "url": prometheus.url, "allowedNamespaces": "*"}]);
    let (board, mut events) = Board::start(Providers::set_up(serde_json::from_value(list).unwrap()).unwrap());
    for number in 0..crowd {
        let rate = |name: &str| format!("sum(rate({name}{{n=\"{number}\"}}[5s]))");
        let ratio = json!({"errors": rate("other_errors_total"), "total": rate("other_total")});
        let guard = json!({"name": "other", "ratio": ratio, "max": 0.5, "interval": "1s"});
        board.watch(key(number + 1), watch(&guard, 1, false));
    }
    within(Duration::from_mins(1), "the crowd is asked", async || {
        let heard = |number: &usize| {
            let view = board.look(&key(*number).uid, board.now());
            !matches!(view.guards[0].verdict, Verdict::Silent { why: alongside::engine::guard::Silence::NotAsked, .. })
        };
        let asked = (1..=crowd).filter(heard).count();
        if asked == crowd { Ok(()) } else { Err(format!("{asked} of {crowd}")) }
    })
    .await;

    let mut delays = Vec::new();
    let (began, ours, theirs) = (Instant::now(), processor_time("self"), prometheus.processor_time());
    for attempt in 1..=TRIALS {
        delays.push(breach(&board, &exporter, &mut events, attempt).await);
    }
    board.forget(&key(0).uid);
    let (mut took, mut ours, mut theirs) = (
        began.elapsed(),
        processor_time("self").checked_sub(ours).unwrap(),
        prometheus.processor_time().checked_sub(theirs).unwrap(),
    );
    if crowd > 0 {
        // What the crowd alone costs.
        let (began, before, before_theirs) = (Instant::now(), processor_time("self"), prometheus.processor_time());
        tokio::time::sleep(IDLE).await;
        took = began.elapsed();
        ours = processor_time("self").checked_sub(before).unwrap();
        theirs = prometheus.processor_time().checked_sub(before_theirs).unwrap();
    }
    delays.sort_unstable();
    let at = |share: usize| delays[(delays.len() * share / 100).min(delays.len() - 1)];
    let percent = |time: Duration| 100.0 * time.as_secs_f64() / took.as_secs_f64();
    format!(
        "| {interval} | {crowd} | {} | {} | {} | {:.1} % | {:.1} % |",
        at(50),
        at(99),
        delays.last().unwrap(),
        percent(ours),
        percent(theirs)
    )
}

/// One breach from calm: milliseconds from its sample to the event.
async fn breach(board: &Board, exporter: &Exporter, events: &mut Events, attempt: u32) -> i64 {
    let guard = json!({"name": "load", "query": "max(load)", "max": 5, "interval": "1s"});
    exporter.set("load", 1.0);
    exporter.scraped().await;
    board.watch(key(0), watch(&guard, attempt, true));
    within(Duration::from_mins(1), "it passes", async || {
        let view = board.look(&key(0).uid, board.now()).guards.remove(0);
        if view.verdict == Verdict::Pass { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    // The hot window has begun some samples ago.
    for _ in 0..2 {
        exporter.scraped().await;
    }
    exporter.set("load", 9.0);
    loop {
        let event = events.next().await;
        let told_at = board.now();
        if event.key == key(0)
            && let EventKind::Breach { .. } = event.kind
        {
            let view = board.look(&key(0).uid, told_at).guards.remove(0);
            let Verdict::Breach { sample_at: Some(sample_at), .. } = view.verdict else { panic!("{view:?}") };
            return told_at.0 - sample_at.0;
        }
    }
}

fn key(number: usize) -> WatchKey {
    WatchKey { namespace: "bench".to_owned(), name: format!("m{number}"), uid: format!("u{number}") }
}

fn watch(guard: &Value, attempt: u32, hot: bool) -> WatchSet {
    let guard: Guard = serde_json::from_value(guard.clone()).unwrap();
    WatchSet { guards: vec![guard], attempt, hot, ..WatchSet::default() }
}
