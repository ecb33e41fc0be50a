//! Guards on a real Prometheus: that breaches, says nothing, lies, is slow, and is gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alongside::api::{PhaseState, RollbackReason, State};
use serde_json::json;

use crate::{
    home::Home,
    journey::{phase, told},
    phases::{approval, bake, cut_over, figure_query, guard, guard_with, guarded, phases},
    story::{Story, stories},
    tally::nothing_is_left,
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![
        a_breach_takes_traffic_back_and_says_what_was_seen,
        a_breach_takes_traffic_back_from_a_side_that_is_gone,
        a_side_that_has_crashed_holds_nobody_and_is_not_waited_for,
        a_breach_while_a_person_is_awaited_takes_traffic_back,
        a_guard_that_only_reports_changes_nothing,
        a_guard_that_only_pauses_holds_until_it_passes_again,
        a_rise_over_the_window_before_the_flip_takes_traffic_back,
        a_guard_that_does_not_pass_keeps_a_migration_from_starting,
        a_guard_that_says_nothing_holds_and_never_passes,
        a_guard_whose_newest_sample_is_old_holds_and_never_passes,
        a_prometheus_that_is_gone_is_no_breach_and_its_first_answer_ends_the_hold,
        a_prometheus_that_does_not_answer_delays_no_rollback,
    ]
}

async fn a_breach_takes_traffic_back_and_says_what_was_seen(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let migration = home.migrates("to-v2", guarded([guard(&home, "trouble")], [cut_over("web"), bake("1h")])).await;
    migration.holds_for("Baking").await;
    app.serves("v2").await;
    let visitor = app.is_visited().await;
    home.figure_is("trouble", 0.9).await;
    let status = migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    visitor.was_always_served().await;
    let rollback = status.rollback.as_ref().expect("it was rolled back");
    assert_eq!(rollback.reason, RollbackReason::Breach);
    assert_eq!(rollback.message, "guard trouble is breached: 0.9 against max 0.5");
    let lanes = [
        rollback.sample_at,
        Some(rollback.seen_at),
        rollback.new_connections_restored,
        rollback.drained,
        rollback.done,
    ];
    let lanes: Vec<_> = lanes.into_iter().map(|at| at.expect("each lane has its time")).collect();
    assert!(lanes.is_sorted(), "{lanes:?}");
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}

async fn a_breach_takes_traffic_back_from_a_side_that_is_gone(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let migration = home.migrates("to-v2", guarded([guard(&home, "trouble")], [cut_over("web"), bake("1h")])).await;
    migration.holds_for("Baking").await;
    app.stops("v2").await;
    home.figure_is("trouble", 1.0).await;
    migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
}

async fn a_side_that_has_crashed_holds_nobody_and_is_not_waited_for(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let migration = home.migrates("to-v2", guarded([guard(&home, "trouble")], [cut_over("web"), bake("1h")])).await;
    migration.holds_for("Baking").await;
    app.crashes("v2").await;
    home.figure_is("trouble", 1.0).await;
    let status = migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    assert_eq!(told(&status, "DrainCutShort"), 0);
}

async fn a_breach_while_a_person_is_awaited_takes_traffic_back(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let migration = home.migrates("to-v2", guarded([guard(&home, "trouble")], [cut_over("web"), approval()])).await;
    migration.holds_for("Approval").await;
    migration.is_paused().await;
    migration.holds_for("Paused").await;
    home.figure_is("trouble", 0.9).await;
    migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
}

async fn a_guard_that_only_reports_changes_nothing(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.9).await;
    let reports = guard_with(&home, "trouble", &json!({ "dryRun": true }));
    let migration = home.migrates("to-v2", guarded([reports], [cut_over("web"), approval(), bake("1s")])).await;
    let status = migration.hears("trouble", "Breach").await;
    assert!(status.guards.iter().all(|guard| guard.dry_run));
    migration.holds_for("Approval").await;
    migration.is_approved().await;
    let status = migration.comes_to(State::Succeeded).await;
    app.serves("v2").await;
    assert_eq!(told(&status, "RollingBack"), 0);
}

async fn a_guard_that_only_pauses_holds_until_it_passes_again(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let pauses = guard_with(&home, "trouble", &json!({ "onBreach": "Pause" }));
    let migration = home.migrates("to-v2", guarded([pauses], [cut_over("web"), approval(), bake("1s")])).await;
    migration.holds_for("Approval").await;
    home.figure_is("trouble", 0.9).await;
    migration.hears("trouble", "Breach").await;
    migration.is_approved().await;
    let status = migration.holds_for("PausedByBreach").await;
    assert_eq!(phase(&status, "bake").state, PhaseState::Pending);
    home.figure_is("trouble", 0.1).await;
    migration.comes_to(State::Succeeded).await;
    app.serves("v2").await;
}

async fn a_rise_over_the_window_before_the_flip_takes_traffic_back(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("latency", 100.0).await;
    let rises = json!({
        "name": "latency",
        "query": figure_query(&home, "latency"),
        "maxIncrease": "10%",
        "baselineWindow": "6s",
        "interval": "500ms",
    });
    let migration = home.migrates("to-v2", guarded([rises], [cut_over("web"), bake("1h")])).await;
    let status = migration.holds_for("Baking").await;
    assert_eq!(status.baselines.iter().map(|baseline| baseline.value).collect::<Vec<_>>(), [100.0]);
    home.figure_is("latency", 109.0).await;
    assert_eq!(migration.status().await.state, State::Running);
    home.figure_is("latency", 111.0).await;
    let status = migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    assert_eq!(status.rollback.map(|rollback| rollback.reason), Some(RollbackReason::Breach));
}

async fn a_guard_that_does_not_pass_keeps_a_migration_from_starting(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.9).await;
    let before = app.service().await;
    let migration = home.migrates("to-v2", guarded([guard(&home, "trouble")], [cut_over("web"), approval()])).await;
    let status = migration.hears("trouble", "Breach").await;
    assert_eq!(status.begun, 0);
    home.stage().ledger().is_read().await;
    assert_eq!(app.service().await, before);
    home.figure_is("trouble", 0.1).await;
    migration.holds_for("Approval").await;
}

async fn a_guard_that_says_nothing_holds_and_never_passes(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let migration = home.migrates("to-v2", guarded([guard(&home, "trouble")], [cut_over("web"), bake("3s")])).await;
    migration.holds_for("Baking").await;
    let series = |labels: &str, value: &str| format!("trouble{{home=\"{}\"{labels}}} {value}", home.name());
    let lies = [
        ("NaN", series("", "NaN")),
        ("MultiSeries", format!("{}\n{}", series(",pod=\"a\"", "0.1"), series(",pod=\"b\"", "0.1"))),
        ("NoData", String::new()),
    ];
    for (verdict, lines) in lies {
        home.figure_reads("trouble", &lines).await;
        let status = migration.hears("trouble", verdict).await;
        assert_eq!(phase(&status, "bake").state, PhaseState::Running, "{verdict}");
        assert_eq!(told(&status, "RollingBack"), 0, "{verdict}");
        let healthy = status.conditions.iter().find(|condition| condition.type_ == "GuardsHealthy");
        assert_eq!(healthy.map(|condition| condition.status.as_str()), Some("False"), "{verdict}");
    }
    home.figure_is("trouble", 0.1).await;
    migration.comes_to(State::Succeeded).await;
    app.serves("v2").await;
}

async fn a_guard_whose_newest_sample_is_old_holds_and_never_passes(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let migration = home.migrates("to-v2", guarded([guard(&home, "trouble")], [cut_over("web"), bake("3s")])).await;
    migration.holds_for("Baking").await;
    // Another series, of an exporter that has stood still: what is older than a series' newest sample is not taken.
    let old = (SystemTime::now() - Duration::from_secs(30)).duration_since(UNIX_EPOCH).expect("it is after 1970");
    let still = format!("trouble{{home=\"{}\",exporter=\"still\"}} 0.1 {}", home.name(), old.as_millis());
    home.figure_reads("trouble", &still).await;
    let status = migration.hears("trouble", "Stale").await;
    assert_eq!((phase(&status, "bake").state, told(&status, "RollingBack")), (PhaseState::Running, 0));
    app.serves("v2").await;
}

async fn a_prometheus_that_is_gone_is_no_breach_and_its_first_answer_ends_the_hold(home: Home) {
    let app = home.app("web").await;
    let mut prometheus = home.prometheus().await;
    let operator = home.operator_asking("a", &prometheus);
    operator.leads().await;
    home.figure_is("trouble", 0.1).await;
    let migration = home.migrates("to-v2", guarded([guard(&home, "trouble")], [cut_over("web"), bake("2s")])).await;
    migration.holds_for("Baking").await;
    prometheus.is_killed();
    let status = migration.hears("trouble", "Unavailable").await;
    assert_eq!(phase(&status, "bake").state, PhaseState::Running);
    assert_eq!(status.hold.map(|hold| hold.reason).as_deref(), Some("GuardSilent"));
    app.serves("v2").await;
    prometheus.comes_back().await;
    let status = migration.comes_to(State::Succeeded).await;
    assert_eq!(told(&status, "RollingBack"), 0);
}

async fn a_prometheus_that_does_not_answer_delays_no_rollback(home: Home) {
    let app = home.app("web").await;
    let slow = home.prometheus().await;
    let operator = home.operator_asking("a", &slow);
    operator.leads().await;
    home.figure_is("trouble", 0.1).await;
    home.figure_is("backlog", 0.1).await;
    // The one that will breach is asked of a Prometheus that answers; its sibling, and another migration, wait for half
    // a minute for one that doesn't.
    let breaches = guard_with(&home, "trouble", &json!({ "provider": "shared" }));
    let hangs = guard_with(&home, "backlog", &json!({ "timeout": "30s" }));
    let other = home.migrates("other", guarded([hangs.clone()], [approval()])).await;
    other.holds_for("Approval").await;
    let migration = home.migrates("to-v2", guarded([hangs, breaches], [cut_over("web"), bake("1h")])).await;
    migration.holds_for("Baking").await;
    slow.freezes();
    home.figure_is("trouble", 0.9).await;
    let status = migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    // It has not even been found silent yet: it is still being waited for.
    assert!(status.guards.iter().all(|guard| guard.verdict != "Unavailable"), "{:?}", status.guards);
    other.is_aborted().await;
    other.comes_to(State::RolledBack).await;
    slow.thaws();
    let untouched = home.migrates("third", phases([approval()])).await;
    untouched.holds_for("Approval").await;
}
