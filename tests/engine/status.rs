//! Status: conditions, times and sizes, and what deciding again does to it.

use alongside::{
    api::{MAX_HISTORY, MAX_MESSAGE, MAX_STATUS, MigrationStatus, PhaseState, State},
    engine::{effect::JobRole, guard::Silence, verdict_word, world::JobState},
};

use crate::{
    fixture::{STOCK, guard, job_switch_bake, migration, switch_bake},
    scene::{Scene, given, passing},
};

fn conditions(scene: &Scene) -> Vec<(&str, &str)> {
    let status = &scene.status;
    status.conditions.iter().map(|condition| (condition.type_.as_str(), condition.status.as_str())).collect()
}

#[test]
fn conditions_follow_kstatus_from_beginning_to_end() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle();
    assert_eq!(
        conditions(&scene),
        [("Ready", "False"), ("Reconciling", "True"), ("Stalled", "False"), ("GuardsHealthy", "True")]
    );
    scene.slow.clear();
    scene.run_to("bake").settle();
    assert_eq!(scene.condition("RollbackReady"), Some(("True", "Ready")));
    scene.run_to_state(State::Succeeded);
    assert_eq!(conditions(&scene)[..3], [("Ready", "True"), ("Reconciling", "False"), ("Stalled", "False")]);
    assert_eq!(scene.condition("RollbackReady"), None, "after the bake it means nothing any more");
}

#[test]
fn a_rollback_ends_stalled_and_never_ready() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").breach();
    scene.reconcile();
    assert_eq!(conditions(&scene)[..3], [("Ready", "False"), ("Reconciling", "True"), ("Stalled", "False")]);
    scene.run_to_state(State::RolledBack);
    assert_eq!(conditions(&scene)[..3], [("Ready", "False"), ("Reconciling", "False"), ("Stalled", "True")]);
}

#[test]
fn a_condition_keeps_its_time_until_it_turns() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle();
    let since = |scene: &Scene| scene.status.conditions[0].last_transition_time.clone();
    let before = since(&scene);
    scene.pass_time(120).settle();
    assert_eq!(since(&scene), before);
    scene.run_to_state(State::Succeeded);
    assert_ne!(since(&scene), before);
}

#[test]
fn a_way_back_that_cannot_be_looked_at_is_unknown_and_alarms_nobody() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle();
    let mut blind = scene.seen();
    blind.services.clear();
    let decision = scene.decide_in(&blind);
    let condition = decision.status.conditions.iter().find(|c| c.type_ == "RollbackReady").expect("it is there");
    assert_eq!(condition.status, "Unknown");
    assert!(decision.notes.is_empty(), "{:?}", decision.notes);
}

#[test]
fn a_hold_keeps_its_time_while_it_lasts() {
    let mut scene = given(migration().approval("sign-off"));
    scene.run_to_hold("Approval");
    let since = scene.status.hold.clone().expect("a hold").since;
    scene.pass_time(500).settle();
    assert_eq!(scene.status.hold.clone().expect("a hold").since, since);
}

#[test]
fn the_generation_that_was_seen_is_in_status() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle();
    scene.world.generation = 7;
    scene.settle();
    assert_eq!(scene.status.observed_generation, 7);
    assert!(scene.status.conditions.iter().all(|condition| condition.observed_generation == Some(7)));
}

#[test]
fn status_says_what_verbs_must_be_bound_to() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle();
    assert_eq!(scene.status.binding, Some(scene.bound("bake")));
}

#[test]
fn an_old_format_is_taken_over_and_a_newer_one_is_not_touched() {
    let mut scene = given(switch_bake());
    assert_eq!(scene.decide().status.format_version, alongside::api::FORMAT_VERSION);
    scene.status.format_version = alongside::api::FORMAT_VERSION + 1;
    let decision = scene.decide();
    assert_eq!(decision.status, scene.status);
    assert_eq!((decision.at_once.len(), decision.after.len()), (0, 0));
}

#[test]
fn history_keeps_the_last_entries_only() {
    let mut scene = given(job_switch_bake()).slow("expand");
    for _ in 0..30 {
        scene.run_until(|scene| scene.works("expand", JobRole::Do)).abort().run_to_state(State::RolledBack).retry();
    }
    assert_eq!(scene.status.history.len(), MAX_HISTORY);
    assert_eq!(scene.status.history.last().map(|entry| entry.what.as_str()), Some("RolledBack"));
}

/// The largest spec that admission lets through, with the longest texts that anyone could send.
fn largest() -> Scene {
    let long = |length: usize| "ö".repeat(length / 2);
    let mut plan = migration();
    for at in 0..16 {
        let mut large = guard(&format!("guard-{at}-{}", "g".repeat(50)));
        large.query = Some(long(2048));
        plan = plan.guard(large);
    }
    for at in 0..31 {
        plan = plan.job(&format!("phase-{at}-{}", "p".repeat(50))).retries(0);
    }
    let mut scene = given(plan.approval("sign-off"));
    scene.world.guards = scene.migration.spec.guards.iter().map(|guard| passing(&guard.name)).collect();
    for guard in &mut scene.world.guards {
        guard.limit = long(4096);
    }
    scene.world.verbs.approved_by = Some(long(200_000));
    scene
}

#[test]
fn status_stays_small_whatever_comes_in() {
    let mut scene = largest();
    let long = "ö".repeat(100_000);
    let mut most = 0;
    for _ in 0..400 {
        scene.reconcile();
        for job in scene.cluster.jobs.values_mut().filter(|job| job.state == JobState::Active) {
            job.state = JobState::Succeeded { message: long.clone() };
        }
        let size = serde_json::to_vec(&scene.status).expect("plain data").len();
        most = most.max(size);
        assert!(size <= MAX_STATUS, "{size} bytes");
        assert!(scene.status.message.len() <= MAX_MESSAGE);
        assert!(scene.status.phases.iter().filter_map(|phase| phase.message.as_ref()).all(|m| m.len() <= MAX_MESSAGE));
    }
    assert_eq!(scene.status.phases[30].state, PhaseState::Done, "{}", scene.why());
    assert!(most > MAX_STATUS / 2, "{most} bytes: the test doesn't reach the bound");
    let approve = scene.bound("sign-off");
    scene.world.verbs.approve = Some(approve);
    scene.run_to_state(State::Succeeded);
    let by = scene.status.history.iter().find(|entry| entry.what == "Approved").map(|entry| entry.by.len());
    assert!(by.is_some_and(|length| length <= 253), "{by:?}");
}

#[test]
fn a_verdict_is_one_word() {
    let words: std::collections::BTreeSet<_> = [
        Silence::NotAsked,
        Silence::NoData,
        Silence::Nan,
        Silence::Unavailable,
        Silence::Doubtful,
        Silence::LowTraffic { total: 0.0 },
        Silence::MultiSeries { series: 2 },
        Silence::Stale { age: alongside::api::Span::secs(3) },
    ]
    .map(|why| {
        verdict_word(&alongside::engine::guard::Verdict::Silent {
            why,
            since: alongside::api::Time(0),
            over_budget: false,
        })
    })
    .into();
    assert_eq!(words.len(), 8);
    assert!(words.iter().all(|word| !word.contains(' ')));
}

#[test]
fn an_empty_status_is_where_everything_begins() {
    let scene = given(switch_bake());
    assert_eq!(scene.status, MigrationStatus::default());
    assert_eq!(scene.status.state, State::Pending);
    let first = scene.decide().status;
    assert_eq!((first.attempt, first.state), (1, State::Preflight));
    assert_eq!(first.traffic[0].service, STOCK);
}
