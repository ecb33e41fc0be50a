//! What a real Prometheus says, and what a guard makes of it.

use std::time::Duration;

use alongside::engine::guard::{Silence, Verdict};
use serde_json::json;

use crate::scene::{Scene, breaches, guard, passes, sample_of, seconds, silence};

/// Requests per code, as a counter that rises by so much a second; the test's own clock drives it.
async fn count_up(scene: &Scene, series: &[(&str, f64)], steps: u32) {
    for step in 1..=steps {
        scene.exporter.set_all(series.iter().map(|&(name, by)| (name, by * f64::from(step))));
        scene.exporter.scraped().await;
    }
}

#[tokio::test]
async fn an_empty_result_holds_and_never_passes() {
    let scene = Scene::with(&[("present", 1.0)]).await;
    scene.guards(1, &[guard(&json!({"query": "max(nobody_exports_this)"}))]);
    scene.until(1, "it says that there is no data", |view| silence(view) == Some(Silence::NoData)).await;
    assert_eq!(scene.look(1).guarded_since, None);
    // Now it exists, and counts.
    scene.exporter.set("nobody_exports_this", 2.0);
    let view = scene.until(1, "it passes once there is data", passes).await;
    assert_eq!(view.value, Some(2.0));
}

#[tokio::test]
async fn a_division_of_nothing_by_nothing_holds_and_never_passes() {
    let scene = Scene::with(&[("errors", 0.0), ("requests", 0.0)]).await;
    scene.guards(1, &[guard(&json!({"query": "sum(errors) / sum(requests)"}))]);
    scene.until(1, "it says that the value is not a number", |view| silence(view) == Some(Silence::Nan)).await;
    scene.exporter.set_all([("errors", 1.0), ("requests", 0.0)]);
    scene.exporter.scraped().await;
    scene.until(1, "infinity is no number either", |view| silence(view) == Some(Silence::Nan)).await;
    scene.exporter.set_all([("errors", 1.0), ("requests", 4.0)]);
    assert_eq!(scene.until(1, "it passes once it is a number", passes).await.value, Some(0.25));
}

#[tokio::test]
async fn a_service_without_any_5xx_series_passes_by_ratio_and_says_nothing_by_plain_division() {
    let scene = Scene::with(&[("http_total{code=\"200\"}", 0.0)]).await;
    let ratio = json!({
        "name": "by-ratio", "max": 0.01,
        "ratio": {"errors": "sum(rate(http_total{code=~\"5..\"}[5s]))", "total": "sum(rate(http_total[5s]))"},
    });
    let plain = json!({
        "name": "by-division", "max": 0.01,
        "query": "sum(rate(http_total{code=~\"5..\"}[5s])) / sum(rate(http_total[5s]))",
    });
    scene.guards(1, &[guard(&ratio), guard(&plain)]);
    count_up(&scene, &[("http_total{code=\"200\"}", 40.0)], 5).await;
    let view = scene.until_guard(1, 0, "the ratio passes", passes).await;
    assert_eq!(view.value, Some(0.0));
    scene.until_guard(1, 1, "the division is empty", |view| silence(view) == Some(Silence::NoData)).await;
    // The first errors of all, a new series, are seen by both.
    count_up(&scene, &[("http_total{code=\"200\"}", 90.0), ("http_total{code=\"500\"}", 60.0)], 8).await;
    scene.until_guard(1, 0, "the ratio is breached", breaches).await;
    scene.until_guard(1, 1, "the division is breached", breaches).await;
}

#[tokio::test]
async fn a_ratio_without_enough_traffic_holds() {
    let scene = Scene::with(&[("all", 0.0)]).await;
    let ratio = json!({"ratio": {"errors": "sum(bad)", "total": "sum(all)", "minRate": 3}});
    scene.guards(1, &[guard(&ratio)]);
    let low = |total: f64| move |view: &_| silence(view) == Some(Silence::LowTraffic { total });
    scene.until(1, "no traffic is too little", low(0.0)).await;
    scene.exporter.set("all", 2.5);
    scene.until(1, "less than minRate is too little", low(2.5)).await;
    scene.exporter.set("all", 3.0);
    scene.until(1, "minRate itself is enough", passes).await;
}

#[tokio::test]
async fn errors_of_a_total_that_is_gone_are_not_zero() {
    let scene = Scene::with(&[("present", 1.0)]).await;
    scene.guards(1, &[guard(&json!({"ratio": {"errors": "sum(bad)", "total": "sum(all)"}}))]);
    scene.until(1, "nothing over nothing is no data", |view| silence(view) == Some(Silence::NoData)).await;
    scene.exporter.set("bad", 1.0);
    scene.exporter.scraped().await;
    scene.until(1, "errors over nothing are no data", |view| silence(view) == Some(Silence::NoData)).await;
}

#[tokio::test]
async fn a_sample_older_than_allowed_is_stale_though_the_query_still_answers() {
    let scene = Scene::with(&[("present", 1.0)]).await;
    scene.exporter.set_old("pushed", 1.0, Duration::from_secs(90));
    scene.guards(
        1,
        &[
            guard(&json!({"query": "max(pushed)", "maxAge": "1m"})),
            guard(&json!({"name": "patient", "query": "max(pushed)", "maxAge": "10m"})),
        ],
    );
    let view = scene.until(1, "it is stale", |view| matches!(silence(view), Some(Silence::Stale { .. }))).await;
    let Some(Silence::Stale { age }) = silence(&view) else { unreachable!() };
    assert!(age.0 >= Duration::from_secs(90), "{age}");
    assert_eq!(scene.prometheus.value("max(pushed)").await, Some(1.0), "the query doesn't answer any more");
    scene.until_guard(1, 1, "a guard that allows such an age passes on the same answer", passes).await;
}

#[tokio::test]
async fn a_target_that_disappears_stops_passing_though_its_rate_still_has_a_value() {
    let mut scene = Scene::with(&[("work_total", 0.0)]).await;
    let query = "sum(rate(work_total[10m]))";
    scene.guards(1, &[guard(&json!({"query": query, "max": 1e9}))]);
    count_up(&scene, &[("work_total", 10.0)], 3).await;
    scene.until(1, "it passes", passes).await;
    // The exporter is gone, and Prometheus marks its series as ended.
    scene.exporter = crate::support::prometheus::Exporter::start().await;
    scene.until(1, "its series has ended", |view| silence(view) == Some(Silence::NoData)).await;
    assert!(scene.prometheus.value(query).await.is_some(), "the query is empty by itself");
}

#[tokio::test]
async fn several_series_are_rejected_and_neither_pass_nor_breach() {
    let scene = Scene::with(&[("load{pod=\"a\"}", 1.0), ("load{pod=\"b\"}", 99.0)]).await;
    scene.guards(1, &[guard(&json!({"query": "load", "noData": "Breach", "nan": "Breach"}))]);
    scene.until(1, "it is rejected", |view| silence(view) == Some(Silence::MultiSeries { series: 2 })).await;
    assert_eq!(scene.events.breaches(), []);
}

#[tokio::test]
async fn a_query_that_prometheus_can_not_evaluate_is_no_answer_and_says_why() {
    let scene = Scene::with(&[("a{x=\"1\"}", 1.0), ("a{x=\"2\"}", 1.0), ("b", 1.0)]).await;
    scene.guards(1, &[guard(&json!({"query": "sum(a * on() b)"}))]);
    scene.until(1, "there is no answer", |view| silence(view) == Some(Silence::Unavailable)).await;
    let troubles = scene.look(1).troubles;
    assert!(troubles[0].why.contains("many-to-one matching"), "{troubles:?}");
}

#[tokio::test]
async fn prometheus_down_is_no_breach_and_one_answer_resets_its_budget() {
    let mut scene = Scene::with(&[("load", 1.0)]).await;
    scene.guards(1, &[guard(&json!({"query": "max(load)", "holdBudget": "1s"}))]);
    scene.until(1, "it passes", passes).await;
    for _ in 0..2 {
        scene.prometheus.stop();
        let over = |wanted: bool| move |view: &alongside::engine::guard::GuardView| matches!(view.verdict, Verdict::Silent { why: Silence::Unavailable, over_budget, .. } if over_budget == wanted);
        scene.until(1, "a Prometheus that is down is waited for", over(false)).await;
        scene.until(1, "past its budget it is no ordinary wait", over(true)).await;
        let troubles = scene.look(1).troubles;
        assert!(troubles[0].why.contains("can't be reached"), "{troubles:?}");
        scene.prometheus.resume().await;
        scene.until(1, "it passes again", passes).await;
        assert_eq!(scene.look(1).troubles, []);
    }
    assert_eq!(scene.events.breaches(), []);
}

#[tokio::test]
async fn one_sample_polled_many_times_is_one_breach_of_three() {
    let scene = Scene::scraped_every("1s", &[("load", 1.0)]).await;
    scene.guards(1, &[guard(&json!({"query": "max(load)", "consecutive": 3}))]);
    scene.until(1, "it passes", passes).await;
    scene.exporter.set("load", 9.0);
    scene.until(1, "the first sample is a doubt", |view| silence(view) == Some(Silence::Doubtful)).await;
    let first = scene.prometheus.value("max(timestamp(load))").await.unwrap();
    let view = scene.until(1, "the third is a breach", breaches).await;
    let third = seconds(sample_of(&view));
    assert!(third - first >= 1.9, "breached by the sample {} s after the first", third - first);
}

#[tokio::test]
async fn a_dry_run_reports_its_breach_and_nobody_acts_on_it() {
    let scene = Scene::with(&[("load", 9.0)]).await;
    let dry = guard(&json!({"name": "dry", "query": "max(load)", "dryRun": true}));
    let pausing = guard(&json!({"name": "pausing", "query": "max(load)", "onBreach": "Pause"}));
    scene.guards(1, &[dry, pausing]);
    scene.until_guard(1, 0, "the dry run is breached", breaches).await;
    scene.until_guard(1, 1, "so is the one that pauses", breaches).await;
    scene.exporter.scraped().await;
    assert_eq!(scene.events.breaches(), []);
    assert!(!scene.events.all().is_empty(), "nobody was told that there is something to see");
}

#[tokio::test]
async fn a_dry_run_that_says_nothing_does_not_end_guarded_time() {
    let scene = Scene::with(&[("load", 1.0)]).await;
    let dry = guard(&json!({"name": "dry", "query": "max(nobody_exports_this)", "dryRun": true}));
    scene.guards(1, &[guard(&json!({"query": "max(load)"})), dry]);
    scene.until(1, "it passes", passes).await;
    assert!(scene.look(1).guarded_since.is_some());
}
