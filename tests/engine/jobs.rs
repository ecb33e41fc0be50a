//! Jobs: retries, timeouts, and what is made of a Job that isn't where it should be.

use alongside::{
    api::{PhaseState, RollbackReason, Span, State},
    engine::{
        effect::{Effect, JobRole, job_name},
        world::{JobState, Lifecycle},
    },
};

use crate::{
    cluster::Landed,
    fixture::{migration, phase},
    scene::{Scene, given},
};

fn working() -> Scene {
    let mut scene = given(migration().job("expand").job("widen")).slow("expand").slow("widen");
    scene.run_to("expand").settle();
    scene
}

fn failed(message: &str) -> JobState {
    JobState::Failed { message: message.to_owned(), terminal: false }
}

#[test]
fn a_failed_try_is_followed_by_another_after_a_growing_delay() {
    let mut scene = working();
    let mut waits = Vec::new();
    for _ in 0..2 {
        scene.job_fails("expand", "connection refused").settle();
        assert_eq!(scene.hold(), Some("RetryLater"));
        let failed_at = scene.now;
        scene.run_until(|scene| scene.works("expand", JobRole::Do));
        waits.push(scene.now.since(failed_at));
    }
    assert_eq!(waits, [Span::secs(5), Span::secs(10)]);
    scene.job_succeeds("expand").settle();
    assert_eq!(scene.phase("expand"), PhaseState::Done);
    assert_eq!(scene.status.phases[0].tries, 3);
}

#[test]
fn the_last_failed_try_takes_everything_back() {
    let mut scene = working();
    for tries in 1..=3 {
        scene.run_until(|scene| scene.works("expand", JobRole::Do));
        scene.job_fails("expand", &format!("no column sku, {tries}"));
    }
    scene.run_to_state(State::RolledBack);
    let rollback = scene.status.rollback.clone().expect("a rollback");
    assert_eq!(rollback.reason, RollbackReason::PhaseFailed);
    assert!(rollback.message.contains("no column sku, 3"), "{}", rollback.message);
    assert_eq!(scene.jobs_of("expand", JobRole::Do), 3);
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 1);
}

#[test]
fn a_terminal_failure_is_not_tried_again() {
    let mut scene = working();
    let state = JobState::Failed { message: "syntax error".to_owned(), terminal: true };
    scene.job_ends("expand", JobRole::Do, state).run_to_state(State::RolledBack);
    assert_eq!(scene.jobs_of("expand", JobRole::Do), 1);
}

#[test]
fn retries_are_as_many_as_the_spec_says() {
    let mut scene = given(migration().job("expand").retries(0)).slow("expand");
    scene.run_to("expand").settle().job_fails("expand", "no").run_to_state(State::RolledBack);
    assert_eq!(scene.jobs_of("expand", JobRole::Do), 1);
}

#[test]
fn a_job_that_takes_longer_than_its_timeout_is_stopped_and_taken_back() {
    let mut scene = given(migration().job("expand").timeout(90)).slow("expand");
    scene.run_to("expand").settle().pass_time(89).settle();
    assert_eq!(scene.hold(), Some("JobRunning"));
    scene.pass_time(1).run_to_state(State::RolledBack);
    assert!(scene.effects.iter().any(|effect| matches!(effect, Effect::StopJob { .. })));
    assert!(scene.status.message.contains("timeout of 1m30s"), "{}", scene.status.message);
}

#[test]
fn the_deadline_of_a_wait_and_what_it_means_are_in_status() {
    let mut scene = given(migration().job("expand").timeout(90)).slow("expand");
    scene.run_to("expand");
    let began = scene.now;
    scene.settle();
    let hold = scene.status.hold.clone().expect("a hold");
    assert_eq!(hold.deadline, Some(began.after(Span::secs(90))));
    assert_eq!(hold.on_deadline.as_deref(), Some("Rollback"));
}

#[test]
fn a_job_late_after_the_point_of_no_return_is_stopped_before_a_person_is_asked() {
    let mut scene = given(migration().one_way_job("contract").no_return().timeout(90)).slow("contract");
    scene.run_to("contract").settle().pass_time(90);
    scene.reconcile();
    assert_eq!(scene.hold(), Some("StoppingJob"), "{}", scene.why());
    scene.settle();
    assert_eq!(scene.hold(), Some("FailedForGood"), "{}", scene.why());
    assert!(scene.status.message.contains("timeout"), "{}", scene.status.message);
    scene.follow_advice("retry").settle();
    let at_work = scene.cluster.jobs.values().filter(|job| job.state == JobState::Active).count();
    assert_eq!(at_work, 1, "two tries work at the same time");
    scene.job_succeeds("contract").run_to_state(State::Succeeded);
}

#[test]
fn an_observation_late_after_the_point_of_no_return_can_be_tried_again() {
    let mut scene = given(migration().observe("settle-down", 60).no_return().timeout(30));
    scene.world.observation = None;
    scene.run_to_hold("FailedForGood");
    scene.world.observation = Some(alongside::engine::guard::ObservationView::HoldsSince(scene.now));
    scene.migration = migration().observe("settle-down", 60).no_return().timeout(30);
    scene.follow_advice("retry").settle();
    assert_eq!(scene.hold(), Some("Observing"), "{}", scene.why());
    assert_eq!(scene.cluster.jobs.len(), 0);
}

#[test]
fn a_failure_after_the_point_of_no_return_stays_known_when_its_job_is_cleaned_away() {
    let mut scene = given(migration().one_way_job("contract").no_return()).slow("contract");
    let state = JobState::Failed { message: "disk full".to_owned(), terminal: true };
    scene.run_to("contract").settle().job_ends("contract", JobRole::Do, state).settle();
    assert_eq!(scene.hold(), Some("FailedForGood"));
    scene.cluster.jobs.clear();
    scene.pass_time(3600).settle();
    assert_eq!(scene.hold(), Some("FailedForGood"), "{}", scene.why());
    assert!(scene.status.message.contains("disk full"));
    assert_eq!(scene.told("FailedForGood"), 1);
}

#[test]
fn a_job_made_and_not_written_down_is_found_by_its_name() {
    let mut scene = given(migration().job("expand")).slow("expand");
    scene.run_until(|scene| scene.decide().status.phases.first().is_some_and(|p| p.state == PhaseState::Intended));
    let decision = scene.decide();
    scene.status = decision.status.clone();
    scene.perform(&decision);
    scene.settle();
    assert_eq!(scene.phase("expand"), PhaseState::Running);
    assert_eq!(scene.cluster.jobs_made, 1);
}

#[test]
fn a_finished_job_that_is_cleaned_away_is_not_run_again() {
    let mut scene = working();
    scene.job_succeeds("expand").settle();
    scene.cluster.jobs.retain(|_, job| job.phase != "expand");
    scene.settle();
    assert_eq!(scene.phase("expand"), PhaseState::Done);
    assert!(!scene.cluster.jobs.values().any(|job| job.phase == "expand"));
}

#[test]
fn a_job_is_let_go_of_only_once_its_outcome_is_in_status() {
    let mut scene = working();
    scene.job_succeeds("expand");
    let decision = scene.decide();
    assert_eq!(decision.status.phases[0].state, PhaseState::Done);
    let settled = |effect: &Effect| matches!(effect, Effect::SettleJob { .. });
    assert!(decision.after.iter().any(settled));
    assert!(!decision.at_once.iter().any(settled));
}

#[test]
fn a_cache_that_lags_behind_leads_to_no_second_job() {
    let mut scene = working();
    let known = scene.status.phases[0].job.clone().expect("a Job");
    assert!(known.uid.is_some(), "its UID is in status");
    let mut world = scene.seen();
    world.jobs.clear();
    let decision = scene.decide_in(&world);
    assert_eq!(decision.status.phases[0].tries, 1, "a Job that isn't in the cache was taken for a lost one");
    for effect in &decision.after {
        assert_ne!(scene.cluster.apply(effect), Landed::Changed, "{effect:?}");
    }
    assert!(scene.works("expand", JobRole::Do));
}

#[test]
fn a_job_that_is_really_gone_is_followed_by_another_try() {
    let mut scene = working();
    scene.cluster.jobs.clear();
    scene.settle();
    assert_eq!(scene.hold(), Some("RetryLater"), "{}", scene.why());
    scene.run_until(|scene| scene.works("expand", JobRole::Do));
    assert_eq!(scene.status.phases[0].tries, 2);
    assert_eq!(scene.jobs_of("expand", JobRole::Do), 1, "and the first one can't be made any more");
}

#[test]
fn a_stale_cache_does_not_let_the_undo_begin_beside_the_job() {
    let mut scene = working();
    scene.abort();
    let mut world = scene.seen();
    world.jobs.clear();
    let decision = scene.decide_in(&world);
    assert_eq!(decision.status.rollback.as_ref().and_then(|rollback| rollback.jobs_stopped), None);
    assert_eq!(decision.status.phases[0].undo_job, None);
}

#[test]
fn jobs_that_cannot_be_listed_decide_nothing() {
    let mut scene = working();
    let mut world = scene.seen();
    world.jobs_seen = false;
    world.jobs.clear();
    let decision = scene.decide_in(&world);
    assert_eq!(decision.after, []);
    assert_eq!(decision.status, scene.status);
    scene.abort();
    let mut world = scene.seen();
    world.jobs_seen = false;
    assert_eq!(scene.decide_in(&world).status.phases[0].undo_job, None);
}

#[test]
fn a_job_of_that_name_that_is_not_ours_is_left_alone_and_said() {
    let mut scene = given(migration().job("expand"));
    scene.run_until(|scene| scene.decide().status.phases.first().is_some_and(|p| p.state == PhaseState::Intended));
    let decision = scene.decide();
    scene.perform(&decision);
    for job in scene.cluster.jobs.values_mut() {
        job.ours = false;
    }
    scene.status = decision.status;
    scene.reconcile();
    assert!(scene.status.rollback.clone().expect("a rollback").message.contains("is not this migration's"));
    assert!(scene.cluster.jobs.values().all(|job| job.state == JobState::Active), "it was touched");
}

#[test]
fn a_late_job_of_a_frozen_leader_is_stopped() {
    let mut scene = working();
    let late = scene.cluster.jobs.clone();
    scene.abort().run_to_state(State::RolledBack);
    scene.cluster.jobs = late;
    scene.settle();
    assert!(!scene.works("expand", JobRole::Do));
}

#[test]
fn a_quota_that_refuses_jobs_is_a_wait_and_is_said() {
    let mut scene = given(migration().job("expand")).slow("expand");
    scene.world.jobs_refused = Some("exceeded quota: jobs".to_owned());
    scene.run_until(|scene| !scene.status.phases.is_empty() && scene.phase("expand") == PhaseState::Intended);
    scene.cluster.jobs.clear();
    scene.reconcile();
    assert_eq!(scene.hold(), Some("JobRefused"), "{}", scene.why());
    assert!(scene.status.message.contains("exceeded quota"), "{}", scene.status.message);
    let tries_to = scene.last.as_ref().expect("a decision").after.iter().any(|e| matches!(e, Effect::CreateJob(_)));
    assert!(tries_to, "and it goes on asking");
}

#[test]
fn a_quota_does_not_make_an_undo_be_given_up() {
    let mut scene = given(migration().job("expand").approval("sign-off"));
    scene.run_to_hold("Approval").abort();
    scene.world.jobs_refused = Some("exceeded quota: jobs".to_owned());
    scene.reconcile();
    scene.reconcile();
    assert_eq!(scene.phase("expand"), PhaseState::Undoing, "{}", scene.why());
    assert_eq!(scene.told("UndoGivenUp"), 0);
}

#[test]
fn a_quota_does_not_make_an_undo_be_given_up_by_a_migration_that_goes_away() {
    let mut scene = given(migration().job("expand").approval("sign-off"));
    scene.run_to_hold("Approval");
    scene.world.jobs_refused = Some("exceeded quota: jobs".to_owned());
    scene.deleted();
    scene.reconcile();
    scene.reconcile();
    assert_eq!(scene.phase("expand"), PhaseState::Undoing, "{}", scene.why());
    assert_eq!(scene.told("UndoGivenUp"), 0);
    scene.world.jobs_refused = None;
    scene.run_to_state(State::RolledBack);
    assert_eq!(scene.phase("expand"), PhaseState::Undone);
}

#[test]
fn in_a_namespace_that_goes_away_an_undo_is_given_up_and_said() {
    let mut scene = given(migration().job("expand").approval("sign-off"));
    scene.run_to_hold("Approval");
    scene.world.lifecycle = Lifecycle::NamespaceTerminating;
    scene.cluster.jobs.clear();
    scene.run_to_state(State::RolledBack);
    assert_eq!(scene.phase("expand"), PhaseState::Kept);
    assert_eq!(scene.told("UndoGivenUp"), 1);
    assert!(!scene.cluster.finalizer);
}

#[test]
fn a_store_that_refuses_stalls_before_the_first_effect_until_a_retry() {
    let mut scene = given(migration().sql("expand"));
    scene.slow.push(("expand".to_owned(), JobRole::Preflight));
    scene.run_until(|scene| scene.works("expand", JobRole::Preflight));
    let refused = JobState::Failed { message: "no rights on table item".to_owned(), terminal: true };
    scene.job_ends("expand", JobRole::Preflight, refused).settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("StoreRefused"), State::Stalled));
    assert_eq!(scene.jobs_of("expand", JobRole::Do), 0);
    scene.slow.clear();
    scene.follow_advice("retry").run_to_state(State::Succeeded);
    assert_eq!(scene.jobs_of("expand", JobRole::Preflight), 2);
}

#[test]
fn a_store_that_does_not_answer_is_asked_again_by_itself() {
    let mut scene = given(migration().sql("expand"));
    scene.slow.push(("expand".to_owned(), JobRole::Preflight));
    scene.run_until(|scene| scene.works("expand", JobRole::Preflight));
    scene.job_ends("expand", JobRole::Preflight, failed("connection refused")).settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("RetryLater"), State::Preflight));
    scene.slow.clear();
    scene.run_to_state(State::Succeeded);
}

#[test]
fn every_store_is_asked_before_the_first_effect() {
    let mut scene = given(migration().job("copy").sql("contract"));
    scene.slow.push(("contract".to_owned(), JobRole::Preflight));
    scene.run_until(|scene| scene.works("contract", JobRole::Preflight)).settle();
    assert_eq!(scene.phase("copy"), PhaseState::Pending);
    assert_eq!(scene.cluster.jobs.len(), 1);
}

#[test]
fn names_of_jobs_are_valid_and_their_own() {
    let long = "a-migration.with.dots-and-a-name-that-is-very-long-indeed-longer-than-any";
    let mut names = std::collections::BTreeSet::new();
    for migration in ["m", long, "ends-with-a-dot-when-cut-at.26", "dashes-when-cut-here-at---x"] {
        for (role, attempt, tries) in [
            (JobRole::Do, 1, 1),
            (JobRole::Do, 1, 2),
            (JobRole::Do, 2, 1),
            (JobRole::Undo, 1, 1),
            (JobRole::Preflight, 1, 1),
        ] {
            let name = job_name(
                migration,
                "uid",
                "plan",
                &phase("a-phase-with-a-rather-long-name").name,
                role,
                attempt,
                tries,
            );
            assert!(name.len() <= 63, "{name}");
            let valid = name.split('.').all(|label| {
                label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            });
            assert!(valid, "{name} is no valid name");
            assert!(names.insert(name.clone()), "{name} names two Jobs");
        }
    }
}

#[test]
fn a_phase_that_has_begun_keeps_its_job_when_later_phases_change() {
    let name = |plan| job_name("m", "uid", plan, "expand", JobRole::Do, 1, 1);
    assert_eq!(name("one"), name("two"));
    let name = |plan| job_name("m", "uid", plan, "expand", JobRole::Preflight, 1, 1);
    assert_ne!(name("one"), name("two"));
}

#[test]
fn a_pause_holds_the_next_try() {
    let mut scene = working();
    scene.job_fails("expand", "connection refused").settle().pause().settle().pass_time(600).settle();
    assert_eq!(scene.hold(), Some("Paused"), "{}", scene.why());
    assert_eq!(scene.status.phases[0].tries, 1);
    scene.world.verbs.pause = None;
    scene.run_until(|scene| scene.works("expand", JobRole::Do));
}

#[test]
fn a_silent_guard_holds_a_job_that_was_announced_and_not_made() {
    let mut scene = given(migration().job("expand"));
    scene.run_until(|scene| scene.decide().status.phases.first().is_some_and(|p| p.state == PhaseState::Intended));
    scene.status = scene.decide().status;
    scene.silence(alongside::engine::guard::Silence::NoData).settle();
    assert_eq!(scene.hold(), Some("GuardSilent"), "{}", scene.why());
    assert_eq!(scene.cluster.jobs.len(), 0);
    scene.guards_pass().run_to_state(State::Succeeded);
}
