//! What a phase keeps up for as long as there is a way back, and how it is cleared away.

use alongside::{
    api::{PhaseState, RollbackReason, Span, State, TrafficStep, WorkStatus},
    engine::{
        effect::{Effect, JobRole},
        world::{JobState, Side},
    },
};

use crate::{
    fixture::{STOCK, backfilled, migration},
    scene::{Scene, given},
};

fn position(scene: &Scene, what: &str, is: impl Fn(&Effect) -> bool) -> usize {
    scene.effects.iter().position(is).unwrap_or_else(|| panic!("{what} was never asked for: {}", scene.why()))
}

fn makes(effect: &Effect, phase: &str, role: JobRole) -> bool {
    matches!(effect, Effect::CreateJob(order) if order.phase == phase && order.role == role && !order.tombstone)
}

/// At the point of no return, with the clean-up under way.
fn cleaning_up() -> Scene {
    let mut scene = given(backfilled());
    scene.slow.push(("backfill".to_owned(), JobRole::CleanUp));
    scene.run_to_hold("Approval").approve("contract").run_to_hold("CleaningUp");
    scene
}

#[test]
fn what_a_backfill_keeps_up_goes_before_the_point_of_no_return_and_before_the_marks() {
    let mut scene = given(backfilled());
    scene.run_to_hold("Approval");
    assert_eq!(scene.jobs_of("backfill", JobRole::CleanUp), 0, "the old side may still come back and write");
    scene.approve("contract").run_to_state(State::Succeeded);
    let cleaned = position(&scene, "the clean-up", |effect| makes(effect, "backfill", JobRole::CleanUp));
    let released = scene.effects.iter().rposition(|effect| matches!(effect, Effect::PatchService(_))).unwrap();
    let contracted = position(&scene, "the contract", |effect| makes(effect, "contract", JobRole::Do));
    assert!(cleaned < released && released < contracted, "{cleaned} {released} {contracted}");
    assert_eq!((scene.jobs_of("backfill", JobRole::CleanUp), scene.told("PhaseCleanedUp")), (1, 1));
    assert!(scene.status.phases[0].cleaned_up);
    assert_eq!(scene.phase("backfill"), PhaseState::Done);
}

#[test]
fn without_a_point_of_no_return_it_goes_with_the_last_phase() {
    let mut scene = given(migration().backfill("backfill").switch("cut-over", &[STOCK]).bake("bake", 600));
    scene.slow.push(("backfill".to_owned(), JobRole::CleanUp));
    scene.run_to_hold("CleaningUp");
    assert_eq!(scene.phase("bake"), PhaseState::Done);
    scene.slow.clear();
    scene.run_to_state(State::Succeeded);
    assert_eq!(scene.jobs_of("backfill", JobRole::CleanUp), 1);
}

#[test]
fn a_backfill_that_keeps_nothing_up_has_nothing_to_clear_away() {
    let plan = migration().backfill("backfill").change(|phase| {
        phase.backfill.as_mut().unwrap().sync = alongside::api::backfill::Sync::None;
    });
    let mut scene = given(plan);
    scene.run_to_state(State::Succeeded);
    assert_eq!(scene.jobs_of("backfill", JobRole::CleanUp), 0);
}

#[test]
fn the_way_back_is_open_until_everything_is_cleared_away() {
    let mut scene = cleaning_up();
    scene.breach();
    scene.reconcile();
    assert_eq!(scene.side(STOCK), Some(Side::From), "{}", scene.why());
    scene.run_to_state(State::RolledBack);
    assert_eq!(scene.status.rollback.as_ref().map(|rollback| rollback.reason), Some(RollbackReason::Breach));
    assert_eq!(scene.jobs_of("backfill", JobRole::Undo), 1);
    assert_eq!(scene.jobs_of("contract", JobRole::Do), 0);
    let stopped = position(&scene, "the clean-up's end", |effect| matches!(effect, Effect::StopJob { .. }));
    let undone = position(&scene, "the undo", |effect| makes(effect, "backfill", JobRole::Undo));
    assert!(stopped < undone, "a clean-up that goes on would meet the undo");
}

#[test]
fn a_clean_up_that_was_only_announced_can_not_begin_during_a_rollback() {
    let mut scene = given(backfilled());
    scene.run_to_hold("Approval").approve("contract");
    // Announced by a leader that freezes before it makes the Job.
    for _ in 0..20 {
        let decision = scene.decide();
        scene.status = decision.status.clone();
        if scene.status.phases[0].cleanup_job.is_some() {
            break;
        }
        scene.perform(&decision);
    }
    let late = scene.decide().after;
    scene.abort().run_to_state(State::RolledBack);
    for effect in &late {
        scene.cluster.apply(effect);
    }
    assert_eq!(scene.jobs_of("backfill", JobRole::CleanUp), 0, "{late:?}");
}

#[test]
fn a_failed_clean_up_is_tried_again_and_then_asks_for_a_person() {
    let mut scene = cleaning_up();
    for tries in 1..=5_u32 {
        scene.run_until(|scene| scene.works("backfill", JobRole::CleanUp));
        let failed = JobState::Failed { message: format!("no lock, {tries}"), terminal: false };
        scene.job_ends("backfill", JobRole::CleanUp, failed);
    }
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("CleanUpFailed"), State::Stalled), "{}", scene.why());
    assert!(scene.status.message.contains("no lock, 5"), "{}", scene.status.message);
    assert_eq!(scene.traffic_step(STOCK), Some(TrafficStep::Drained), "nothing has been given up yet");
    scene.slow.clear();
    scene.follow_advice("retry").run_to_state(State::Succeeded);
    assert_eq!(scene.status.phases[0].cleanup_tries, 6);
}

#[test]
fn a_worker_is_shown_while_it_works_and_not_with_every_word_it_says() {
    let mut scene = given(backfilled()).slow("backfill");
    scene.run_until(|scene| scene.works("backfill", JobRole::Do));
    let job = scene.status.phases[0].job.clone().unwrap().name;
    let says = |scene: &mut Scene, done, throttled: Option<&str>| {
        let work = WorkStatus {
            stage: "filling".to_owned(),
            done,
            total: Some(1_000),
            rate: 10,
            throttled: throttled.map(str::to_owned),
            ..WorkStatus::default()
        };
        scene.world.work.insert(job.clone(), work);
    };
    let shown = |scene: &Scene| scene.status.phases[0].work.clone().map(|work| work.done);
    says(&mut scene, 100, None);
    scene.settle();
    assert_eq!(shown(&scene), Some(100));
    assert_eq!(scene.status.message, "phase backfill: filling, 100 of 1,000 rows (10 %), 10 a second");
    says(&mut scene, 110, None);
    scene.pass_time(2).settle();
    assert_eq!(shown(&scene), Some(100), "it goes on as before");
    says(&mut scene, 120, Some("replicas lag"));
    scene.settle();
    assert_eq!(shown(&scene), Some(120), "that it is throttled is news");
    says(&mut scene, 130, Some("replicas lag"));
    scene.pass_time(5).settle();
    assert_eq!(shown(&scene), Some(130));
    scene.slow.clear();
    scene.run_until(|scene| scene.phase("backfill") == PhaseState::Done);
    assert_eq!(scene.status.phases[0].work, None);
    assert!(scene.now.since(scene.status.phases[0].started_at.unwrap()) >= Span::secs(7));
}

#[test]
fn a_backfill_is_asked_about_once_the_column_that_it_fills_is_there() {
    let mut scene = given(migration().sql("expand").backfill("backfill")).slow("expand");
    scene.run_until(|scene| scene.works("expand", JobRole::Do)).settle();
    assert_eq!(scene.jobs_of("expand", JobRole::Preflight), 1);
    assert_eq!(scene.jobs_of("backfill", JobRole::Preflight), 0);
    scene.slow.clear();
    scene.run_to("backfill");
    let asked = position(&scene, "the question", |effect| makes(effect, "backfill", JobRole::Preflight));
    let done = position(&scene, "the backfill", |effect| makes(effect, "backfill", JobRole::Do));
    assert!(asked < done);
}
