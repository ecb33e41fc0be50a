//! What the board does with what it hears: who is told what, when, and what is kept.

use alongside::{
    api::ObserveAction,
    engine::guard::{BaselineView, ObservationView, Silence, Verdict},
    guards::{Board, WatchSet},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::json;

use crate::{
    scene::{Heard, SOON, Scene, breaches, guard, key, passes, providers, sample_of, seconds, silence, watch},
    support::{prometheus::Prometheus, wait::within},
};

#[tokio::test]
async fn the_first_breach_does_not_wait_for_a_slow_sibling() {
    let scene = Scene::with(&[("load", 1.0)]).await;
    let frozen = Prometheus::start("200ms", &[]).await;
    let (board, events) = Board::start(providers(&[("default", &scene.prometheus.url), ("frozen", &frozen.url)]));
    let heard = Heard::listen(events);
    let slow = guard(&json!({"name": "slow", "query": "max(up)", "provider": "frozen", "timeout": "10m"}));
    let quick = guard(&json!({"name": "quick", "query": "max(load)"}));
    frozen.freeze();
    board.watch(key(1), watch(&[slow, quick]));
    scene.exporter.set("load", 9.0);
    assert_eq!(heard.breach_of(1).await, ["quick"]);
    let sibling = &board.look(&key(1).uid, board.now()).guards[0];
    assert_eq!(silence(sibling), Some(Silence::NotAsked), "the sibling has answered");
    frozen.thaw();
}

#[tokio::test]
async fn a_prometheus_that_hangs_is_unavailable_and_nothing_passes_on_what_it_said_before() {
    let scene = Scene::with(&[("load", 1.0)]).await;
    scene.guards(1, &[guard(&json!({"query": "max(load)", "timeout": "500ms", "maxAge": "1h"}))]);
    scene.until(1, "it passes", passes).await;
    scene.prometheus.freeze();
    scene.until(1, "it doesn't answer", |view| silence(view) == Some(Silence::Unavailable)).await;
    let why = scene.look(1).troubles[0].why.clone();
    assert_eq!(why, "Prometheus didn't answer within 500ms");
    scene.prometheus.thaw();
    scene.until(1, "it passes again", passes).await;
}

#[tokio::test]
async fn a_breach_is_told_once_and_kept_though_the_value_falls() {
    let scene = Scene::with(&[("load", 1.0)]).await;
    scene.guards(1, &[guard(&json!({"query": "max(load)"}))]);
    scene.until(1, "it passes", passes).await;
    scene.exporter.set("load", 9.0);
    assert_eq!(scene.events.breach_of(1).await, ["watched"]);
    scene.exporter.set("load", 1.0);
    scene.until(1, "the value is small again", |view| view.value == Some(1.0)).await;
    scene.until(1, "the breach is still told", breaches).await;
    assert_eq!(scene.events.breaches().len(), 1);
    assert_eq!(scene.look(1).guarded_since, None);
}

#[tokio::test]
async fn the_same_declaration_changes_nothing_and_another_attempt_begins_anew() {
    let scene = Scene::with(&[("load", 1.0), ("queue", 1.0)]).await;
    let (load, queue) =
        (guard(&json!({"query": "max(load)"})), guard(&json!({"name": "queue", "query": "max(queue)"})));
    let first = watch(&[load.clone(), queue.clone()]);
    scene.board.watch(key(1), first.clone());
    scene.until_guard(1, 0, "one passes", passes).await;
    scene.until_guard(1, 1, "the other passes", passes).await;
    let since = scene.look(1).guarded_since;
    scene.board.watch(key(1), first.clone());
    assert_eq!(scene.look(1).guarded_since, since);

    let stricter = guard(&json!({"name": "queue", "query": "max(queue)", "max": 4}));
    scene.board.watch(key(1), watch(&[load, stricter]));
    assert_eq!(scene.look(1).guards[0].verdict, Verdict::Pass, "a guard that is the same was forgotten");
    assert_eq!(silence(&scene.look(1).guards[1]), Some(Silence::NotAsked), "a guard that is another is known already");

    scene.board.watch(key(1), WatchSet { attempt: 2, ..first });
    let verdicts: Vec<_> = scene.look(1).guards.iter().map(silence).collect();
    assert_eq!(verdicts, [Some(Silence::NotAsked); 2], "another attempt began with old guards");
}

#[tokio::test]
async fn a_migration_that_is_gone_is_neither_asked_for_nor_told_of() {
    let scene = Scene::with(&[("load", 1.0)]).await;
    let mut registry = Registry::default();
    scene.board.register(&mut registry);
    let shown = || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| line.contains("move-1")).map(str::to_owned).collect::<Vec<_>>()
    };
    scene.guards(1, &[guard(&json!({"query": "max(load)"}))]);
    scene.until(1, "it passes", passes).await;
    let labels = "{namespace=\"shop\",migration=\"move-1\",guard=\"watched\"}";
    for (name, value) in [("guard_value", "1.0"), ("guard_upper_limit", "5.0"), ("guard_verdict", "1.0")] {
        let line = format!("{name}{labels} {value}");
        assert!(shown().contains(&line), "{line} isn't in {:#?}", shown());
    }
    scene.board.forget(&key(1).uid);
    assert_eq!(shown(), [""; 0]);
    assert_eq!(scene.look(1), alongside::guards::BoardView::default());
    // One poll may have been under way.
    scene.exporter.scraped().await;
    let asked = scene.prometheus.answered().await;
    for _ in 0..5 {
        scene.exporter.scraped().await;
    }
    assert_eq!(scene.prometheus.answered().await, asked);
}

#[tokio::test]
async fn identical_queries_are_asked_once() {
    let scene = Scene::with(&[("load", 1.0)]).await;
    let asked_meanwhile = async || {
        let before = scene.prometheus.answered().await;
        for _ in 0..10 {
            scene.exporter.scraped().await;
        }
        scene.prometheus.answered().await - before
    };
    scene.guards(0, &[guard(&json!({"query": "max(load)"}))]);
    scene.until(0, "it passes", passes).await;
    let for_one = asked_meanwhile().await;
    for number in 1..50 {
        // The limits are each Migration's own.
        scene.guards(number, &[guard(&json!({"query": "max(load)", "max": 5 + number}))]);
        scene.until(number, "it passes", passes).await;
    }
    let for_fifty = asked_meanwhile().await;
    assert!(for_fifty < 5 * for_one.max(1), "{for_one} requests for one, {for_fifty} for fifty");
    scene.exporter.set("load", 20.5);
    scene.until(15, "the one with the limit 20 is breached", breaches).await;
    assert!(passes(&scene.look(16).guards[0]), "the one with the limit 21 doesn't pass");
}

#[tokio::test]
async fn after_a_flip_no_sample_is_missed_though_the_interval_is_long() {
    let scene = Scene::scraped_every("1s", &[("load", 1.0)]).await;
    let slow = guard(&json!({"query": "max(load)", "interval": "1h", "maxAge": "2h", "consecutive": 4}));
    let set = watch(&[slow]);
    scene.board.watch(key(1), set.clone());
    scene.until(1, "it passes", passes).await;
    scene.exporter.set("load", 9.0);
    scene.board.watch(key(1), WatchSet { hot: true, flipped_at: Some(scene.board.now()), ..set });
    scene.until(1, "the first sample is a doubt", |view| silence(view) == Some(Silence::Doubtful)).await;
    let first = scene.prometheus.value("max(timestamp(load))").await.unwrap();
    let fourth = scene.until(1, "the fourth is a breach", breaches).await;
    let took = seconds(sample_of(&fourth)) - first;
    assert!(took <= 3.1, "four samples in a row were seen over {took} s");
}

#[tokio::test]
async fn an_observation_holds_since_its_bound_was_kept() {
    let scene = Scene::with(&[("lag", 9.0)]).await;
    let observe: ObserveAction =
        serde_json::from_value(json!({"query": "max(lag)", "max": 2, "for": "30s", "interval": "200ms"})).unwrap();
    scene.board.watch(key(1), WatchSet { observation: Some(observe), ..watch(&[]) });
    let until = async |sentence: &str, wanted: &dyn Fn(ObservationView) -> bool| {
        within(SOON, sentence, async || {
            let seen = scene.look(1).observation.unwrap();
            if wanted(seen) { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
        .await
    };
    until("it fails", &|seen| seen == ObservationView::Fails { value: 9.0 }).await;
    scene.exporter.set("lag", 1.0);
    let first = until("it holds", &|seen| matches!(seen, ObservationView::HoldsSince(_))).await;
    scene.exporter.scraped().await;
    scene.exporter.scraped().await;
    assert_eq!(scene.look(1).observation, Some(first), "it holds since another time");
    scene.exporter.set("lag", 3.0);
    until("it fails again", &|seen| seen == ObservationView::Fails { value: 3.0 }).await;
    scene.exporter.set("lag", 1.0);
    let second = until("it holds anew", &|seen| matches!(seen, ObservationView::HoldsSince(_))).await;
    let (ObservationView::HoldsSince(first), ObservationView::HoldsSince(second)) = (first, second) else {
        unreachable!()
    };
    assert!(second > first, "what broke in between has been forgotten");
}

#[tokio::test]
async fn a_calm_window_makes_a_baseline_and_a_noisy_one_is_refused_with_its_figures() {
    let scene = Scene::with(&[("calm", 40.0), ("noisy", 10.0), ("bad", 3.0), ("all", 12.0)]).await;
    let relative = |name: &str, query: &str| {
        guard(&json!({"name": name, "query": query, "max": 1000, "maxIncrease": "5%", "baselineWindow": "3s"}))
    };
    let share = guard(&json!({
        "name": "share", "ratio": {"errors": "sum(bad)", "total": "sum(all)"}, "max": 1, "maxIncrease": "5%", "baselineWindow": "3s",
    }));
    // Of another phase, and so asked for its baseline only.
    let later = relative("later", "max(calm) * 2");
    let set = WatchSet {
        want_baselines: true,
        baseline_guards: watch(&[later, relative("calm", "max(calm)")]).guards,
        ..watch(&[relative("calm", "max(calm)"), relative("noisy", "max(noisy)"), share])
    };
    for step in 0..16 {
        scene.exporter.set("noisy", if step % 2 == 0 { 10.0 } else { 20.0 });
        scene.exporter.scraped().await;
    }
    scene.board.watch(key(1), set.clone());
    let found = within(SOON, "each baseline is taken or refused", async || {
        let found = scene.look(1).baselines;
        if found.len() == 4 && !found.contains(&BaselineView::NotYet) { Ok(found) } else { Err(format!("{found:?}")) }
    })
    .await;
    let taken = |view: &BaselineView| match view {
        BaselineView::Taken(taken) => (taken.guard.clone(), taken.value, taken.samples >= 10),
        other => panic!("{other:?}"),
    };
    assert_eq!(taken(&found[0]), ("calm".to_owned(), 40.0, true));
    assert_eq!(taken(&found[2]), ("share".to_owned(), 0.25, true));
    assert_eq!(taken(&found[3]), ("later".to_owned(), 80.0, true));
    let BaselineView::Refused { guard: refused, why } = &found[1] else { panic!("{found:?}") };
    assert_eq!(refused, "noisy");
    assert!(why.starts_with("the limit is inside the baseline's own noise: over the last 3s the value was 1"), "{why}");

    // Once in status, it makes the limit.
    let BaselineView::Taken(calm) = found[0].clone() else { unreachable!() };
    scene.board.watch(key(1), WatchSet { want_baselines: false, baselines: vec![calm], ..set });
    assert_eq!(scene.look(1).guards[0].limit, "max 42 (baseline 40 + 5%)");
    scene.exporter.set("calm", 42.5);
    assert_eq!(scene.events.breach_of(1).await, ["calm"]);
}

#[tokio::test]
async fn a_window_without_enough_data_makes_no_baseline_until_it_has() {
    let scene = Scene::with(&[("present", 1.0)]).await;
    let spec = guard(&json!({"query": "max(late)", "maxIncrease": "5%", "baselineWindow": "2s"}));
    scene.board.watch(key(1), WatchSet { want_baselines: true, ..watch(&[spec]) });
    let until = async |sentence: &str, wanted: &dyn Fn(&BaselineView) -> bool| {
        within(SOON, sentence, async || {
            let found = scene.look(1).baselines;
            if found.first().is_some_and(wanted) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    };
    until("it is refused", &|view| {
        matches!(view, BaselineView::Refused { why, .. } if why == "the window of 2s before the flip holds no data")
    })
    .await;
    scene.exporter.set("late", 7.0);
    until("it is taken", &|view| matches!(view, BaselineView::Taken(taken) if (taken.value - 7.0).abs() < 1e-9)).await;
}
