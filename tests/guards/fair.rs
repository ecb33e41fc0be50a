//! Nobody waits for another's Prometheus, nor for two hundred other Migrations.

use alongside::{engine::guard::Silence, guards::Board};
use serde_json::json;

use crate::{
    scene::{Heard, Scene, guard, key, passes, providers, sample_of, silence, watch},
    support::prometheus::Prometheus,
};

#[tokio::test]
async fn a_prometheus_that_hangs_delays_no_other_migration() {
    let scene = Scene::with(&[("load", 1.0)]).await;
    let frozen = Prometheus::start("200ms", &[]).await;
    let (board, events) = Board::start(providers(&[("default", &scene.prometheus.url), ("frozen", &frozen.url)]));
    let heard = Heard::listen(events);
    frozen.freeze();
    // More of them than may be under way at once.
    for number in 1..=200 {
        let query = format!("max(up) + {number}");
        let slow = guard(&json!({"query": query, "provider": "frozen", "timeout": "10m"}));
        board.watch(key(number), watch(&[slow]));
    }
    board.watch(key(0), watch(&[guard(&json!({"query": "max(load)"}))]));
    scene.exporter.set("load", 9.0);
    assert_eq!(heard.breach_of(0).await, ["watched"]);
    for number in 1..=200 {
        let slow = &board.look(&key(number).uid, board.now()).guards[0];
        assert_eq!(silence(slow), Some(Silence::NotAsked), "number {number} has been answered");
    }
    frozen.thaw();
}

/// Two hundred Migrations, each with a guard and a query of its own, asked every second; all are breached by one and
/// the same sample.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_two_hundredth_sees_its_breach_as_soon_as_the_first() {
    const ALL: usize = 200;
    let scene = Scene::scraped_every("1s", &[("load", 1.0)]).await;
    for number in 0..ALL {
        let query = format!("max(load) + 0 * {number}");
        scene.guards(number, &[guard(&json!({"query": query, "interval": "1s"}))]);
    }
    for number in 0..ALL {
        scene.until(number, "it passes", passes).await;
    }
    scene.exporter.scraped().await;
    scene.exporter.set("load", 9.0);
    let mut seen = Vec::new();
    for number in 0..ALL {
        scene.events.breach_of(number).await;
        let view = &scene.look(number).guards[0];
        let alongside::engine::guard::Verdict::Breach { seen_at, .. } = view.verdict else { panic!("{view:?}") };
        seen.push((sample_of(view), seen_at));
    }
    let first_sample = seen.iter().map(|(sample, _)| *sample).min().unwrap();
    let by_first = seen.iter().filter(|(sample, _)| *sample == first_sample).count();
    // A poll that comes a moment before the next sample can see that one instead; a crowd that does so has been waiting.
    assert!(by_first >= ALL * 9 / 10, "only {by_first} of {ALL} were breached by the first sample that showed it");
    let middle = |part: &[(alongside::api::Time, alongside::api::Time)]| {
        let mut delays: Vec<_> = part.iter().map(|(_, seen_at)| seen_at.since(first_sample)).collect();
        delays.sort();
        delays[delays.len() / 2]
    };
    let (early, late) = (middle(&seen[..ALL / 2]), middle(&seen[ALL / 2..]));
    assert!(late.0 < early.0 * 2, "the first hundred saw it after {early}, the last hundred after {late}");
}
