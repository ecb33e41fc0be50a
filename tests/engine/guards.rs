//! Guards: what their verdicts do, and what their silence never does.

use alongside::{
    api::{BaselineStatus, OnBreach, PhaseState, Span, State, Time},
    engine::{
        guard::{BaselineView, Silence, Verdict},
        world::Side,
    },
};

use crate::{
    fixture::{ERRORS, STOCK, guard, job_switch_bake, migration, switch_bake},
    scene::{given, passing},
};

const ALL_SILENCES: [Silence; 8] = [
    Silence::NotAsked,
    Silence::NoData,
    Silence::Stale { age: Span::secs(400) },
    Silence::Nan,
    Silence::Unavailable,
    Silence::LowTraffic { total: 0.1 },
    Silence::MultiSeries { series: 12 },
    Silence::Doubtful,
];

#[test]
fn a_guard_that_says_nothing_never_passes_whatever_the_reason() {
    for why in ALL_SILENCES {
        let mut scene = given(job_switch_bake()).slow("expand");
        scene.run_to("expand").settle().silence(why).job_succeeds("expand").settle().pass_time(4000).settle();
        assert_eq!(scene.phase("cut-over"), PhaseState::Pending, "{why:?} let the switch begin");
        assert_eq!(scene.hold(), Some("GuardSilent"), "{why:?}");
        assert_eq!(scene.status.rollback, None, "{why:?} is not a breach");
        scene.guards_pass().run_to_state(State::Succeeded);
    }
}

#[test]
fn a_silent_guard_keeps_a_bake_from_ending() {
    for why in ALL_SILENCES {
        let mut scene = given(switch_bake());
        scene.run_to("bake").settle().pass_time(599).settle().silence(why).pass_time(4000).settle();
        assert_eq!(scene.phase("bake"), PhaseState::Running, "{why:?}");
    }
}

#[test]
fn a_guard_without_data_holds_the_very_first_step() {
    let mut scene = given(job_switch_bake());
    scene.silence(Silence::NoData).settle();
    assert_eq!(scene.effects, []);
    assert_eq!((scene.hold(), scene.status.state), (Some("GuardSilent"), State::Preflight));
}

#[test]
fn a_guard_that_is_missing_from_the_board_has_not_passed() {
    let mut scene = given(job_switch_bake());
    scene.world.guards.clear();
    scene.settle();
    assert_eq!(scene.hold(), Some("GuardSilent"));
    assert_eq!(scene.condition("GuardsHealthy"), Some(("False", "NotAsked")));
}

#[test]
fn past_its_budget_a_silent_guard_pauses_and_says_so() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle().job_succeeds("expand");
    let since = scene.now;
    let verdict = |over_budget| Verdict::Silent { why: Silence::Unavailable, since, over_budget };
    scene.guard_says(ERRORS, verdict(false)).settle();
    let hold = scene.status.hold.clone().expect("a hold");
    assert_eq!((hold.deadline, hold.on_deadline.as_deref()), (Some(since.after(Span::secs(300))), Some("Pause")));
    scene.guard_says(ERRORS, verdict(true)).settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("PausedByGuard"), State::Waiting));
    scene.guards_pass().run_to_state(State::Succeeded);
}

#[test]
fn a_dry_run_breach_changes_nothing() {
    let with = |dry| {
        let mut trial = guard("trial");
        trial.dry_run = true;
        let mut scene = given(if dry { switch_bake().guard(trial) } else { switch_bake() });
        if dry {
            let mut view = passing("trial");
            view.dry_run = true;
            view.verdict = Verdict::Breach { sample_at: None, seen_at: scene.now };
            scene.world.guards.retain(|known| known.name != view.name);
            scene.world.guards.push(view);
        }
        scene.run_to_state(State::Succeeded);
        scene
    };
    let (plain, trial) = (with(false), with(true));
    assert_eq!(plain.effects.len(), trial.effects.len());
    assert_eq!(plain.status.history.len(), trial.status.history.len());
    assert_eq!(trial.side(STOCK), Some(Side::To));
    let shown = trial.status.guards.iter().find(|guard| guard.name == "trial").expect("it is reported");
    assert_eq!((shown.verdict.as_str(), shown.dry_run), ("Breach", true));
}

#[test]
fn a_guard_that_only_pauses_holds_and_takes_nothing_back() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.world.guards[0].on_breach = OnBreach::Pause;
    scene.run_to("expand").settle().breach().job_succeeds("expand").settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("PausedByBreach"), State::Waiting));
    assert_eq!(scene.status.rollback, None);
    scene.guards_pass().run_to_state(State::Succeeded);
}

#[test]
fn a_guard_of_another_phase_has_no_say() {
    let mut scene = given(job_switch_bake().change(|bake| bake.guards.push(guard("slow-queries")))).slow("expand");
    scene.run_to("expand").settle();
    let mut view = passing("slow-queries");
    view.verdict = Verdict::Breach { sample_at: None, seen_at: scene.now };
    scene.world.guards.push(view);
    scene.settle();
    assert_eq!(scene.status.rollback, None, "a guard of the bake took back a Job before the flip");
    scene.job_succeeds("expand").run_until(|scene| scene.status.rollback.is_some());
    assert_eq!(scene.phase("cut-over"), PhaseState::Done);
}

#[test]
fn a_breach_before_the_start_begins_nothing() {
    let mut scene = given(job_switch_bake());
    scene.breach().settle();
    assert_eq!((scene.effects.len(), scene.hold()), (0, Some("PausedByBreach")));
    scene.guards_pass().run_to_state(State::Succeeded);
}

#[test]
fn the_first_breach_acts_while_other_guards_are_silent() {
    let mut scene = given(switch_bake().guard(guard("latency")));
    scene.world.guards.insert(0, passing("latency"));
    scene.run_to("bake").settle();
    let since = scene.now;
    scene.guard_says("latency", Verdict::Silent { why: Silence::Unavailable, since, over_budget: false });
    scene.breach();
    assert_eq!(scene.decide().at_once.len(), 1);
}

#[test]
fn a_bake_counts_guarded_time_only() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle();
    scene.pass_time(300).settle();
    scene.silence(Silence::Unavailable).settle().pass_time(1000).settle();
    scene.guards_pass().settle();
    assert_eq!(scene.phase("bake"), PhaseState::Running);
    assert_eq!(scene.status.phases[1].baked, Some(Span::secs(300)));
    scene.pass_time(299).settle();
    assert_eq!(scene.phase("bake"), PhaseState::Running);
    scene.pass_time(1).settle();
    assert_eq!(scene.phase("bake"), PhaseState::Done);
}

#[test]
fn an_operator_that_was_away_has_not_baked() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle().pass_time(120).settle();
    let banked = scene.status.phases[1].baked;
    assert_eq!(banked, Some(Span::secs(120)));
    scene.pass_time(4000);
    scene.world.guarded_since = Some(scene.now);
    scene.settle();
    assert_eq!(scene.phase("bake"), PhaseState::Running);
    assert_eq!(scene.status.phases[1].baked, banked);
}

#[test]
fn a_bake_writes_few_checkpoints() {
    let mut scene = given(migration().switch("cut-over", &[STOCK]).bake("bake", 72 * 3600));
    scene.run_to("bake").settle();
    let mut writes = 0;
    while scene.phase("bake") == PhaseState::Running {
        let wake = scene.decide().wake.expect("a bake wakes by itself");
        scene.now = scene.now.after(wake);
        let before = scene.status.clone();
        scene.reconcile();
        writes += usize::from(scene.status != before);
    }
    assert!(writes <= 22, "{writes} writes");
}

#[test]
fn time_that_runs_backwards_bakes_nothing() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle().pass_time(120).settle();
    let banked = scene.status.phases[1].baked;
    scene.now = Time(scene.now.0 - 10_000_000);
    scene.settle();
    assert_eq!(scene.status.phases[1].baked, banked);
}

fn compares() -> alongside::api::Guard {
    let mut latency = guard("latency");
    latency.max_increase = Some(alongside::api::Percent(5.0));
    latency
}

#[test]
fn a_flip_waits_for_the_baseline_that_its_guard_compares_with() {
    let mut scene = given(switch_bake().guard(compares()));
    scene.world.guards.push(passing("latency"));
    scene.settle();
    assert_eq!(scene.hold(), Some("TakingBaseline"));
    scene.world.baselines = vec![BaselineView::NotYet];
    scene.settle();
    assert_eq!(scene.hold(), Some("TakingBaseline"));
    scene.world.baselines = vec![BaselineView::Refused { guard: "latency".to_owned(), why: "it is 0".to_owned() }];
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("BaselineRefused"), State::Stalled));
    let baseline = BaselineStatus { guard: "latency".to_owned(), value: 0.1, ..BaselineStatus::default() };
    scene.world.baselines = vec![BaselineView::Taken(baseline.clone())];
    scene.run_to("bake");
    assert_eq!(scene.status.baselines, [baseline]);
}

#[test]
fn a_dry_run_guard_without_a_baseline_holds_nothing_up() {
    let mut trial = compares();
    trial.dry_run = true;
    let mut scene = given(switch_bake().guard(trial));
    let mut view = passing("latency");
    view.dry_run = true;
    scene.world.guards.push(view);
    scene.world.baselines = vec![BaselineView::NotYet];
    scene.run_to_state(State::Succeeded);
}

#[test]
fn status_hears_of_changes_and_not_of_polls() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle();
    let before = scene.status.clone();
    for value in [0.001, 0.0035, 0.0072] {
        scene.world.guards[0].value = Some(value);
        scene.settle();
    }
    assert_eq!(scene.status, before);
}
