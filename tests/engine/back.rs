//! The way back: what begins it, in which order it goes, and what it leaves alone.

use alongside::{
    api::{Drain, PhaseState, RollbackReason, Span, State, Time, TrafficStep},
    engine::{
        effect::{Effect, JobRole},
        mark::{Mark, Role},
        world::{JobState, Side},
    },
};

use crate::{
    fixture::{ORDERS, STOCK, UID, expand_contract, job_switch_bake, migration, switch_bake},
    scene::{Scene, given},
};

#[test]
fn a_breach_in_the_bake_takes_everything_back() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").breach().run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(Side::From));
    assert_eq!(scene.role(STOCK), Some(Role::Released));
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 1);
    assert_eq!(scene.phase("expand"), PhaseState::Undone);
    assert_eq!(scene.phase("cut-over"), PhaseState::Undone);
    assert_eq!(scene.phase("bake"), PhaseState::Kept);
    assert!(!scene.cluster.finalizer);
    let rollback = scene.status.rollback.clone().expect("the rollback is in status");
    assert_eq!(rollback.reason, RollbackReason::Breach);
    assert!(rollback.message.contains("error-rate") && rollback.message.contains("0.25"), "{}", rollback.message);
    for (what, at) in [
        ("sample", rollback.sample_at),
        ("restored", rollback.new_connections_restored),
        ("drained", rollback.drained),
        ("stopped", rollback.jobs_stopped),
        ("undone", rollback.undone),
        ("done", rollback.done),
    ] {
        assert!(at.is_some(), "{what} has no time");
    }
}

#[test]
fn the_reconcile_that_sees_a_breach_moves_traffic_and_waits_for_no_status() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").breach();
    let decision = scene.decide();
    let [Effect::PatchService(patch)] = &decision.at_once[..] else { panic!("{:?}", decision.at_once) };
    assert_eq!(patch.service, STOCK);
    assert_eq!(patch.mark.role, Role::Back);
    assert_eq!(patch.expect_mark.as_ref(), Some(&scene.mark(STOCK)));
    assert_eq!(decision.status.state, State::RollingBack);
}

#[test]
fn the_schema_is_taken_back_only_after_traffic_is() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").breach();
    scene.service(STOCK).slices_follow = false;
    scene.settle();
    assert_eq!(scene.side(STOCK), Some(Side::From));
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 0, "{}", scene.why());
    scene.service(STOCK).slices_follow = true;
    scene.settle();
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 1, "{}", scene.why());
}

#[test]
fn a_failure_before_the_flip_never_moves_the_service() {
    let mut scene = given(job_switch_bake().sql("rename")).slow("expand");
    scene.run_to("expand").settle().abort().run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(Side::From));
    assert!(!scene.effects.iter().any(|effect| match effect {
        Effect::PatchService(patch) => !patch.selector.is_empty() && patch.mark.role != Role::Claimed,
        _ => false,
    }));
}

#[test]
fn traffic_goes_back_although_the_new_side_is_gone() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").breach();
    scene.service(STOCK).to_serving = 0;
    scene.run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(Side::From));
}

#[test]
fn a_breach_while_the_flip_is_only_announced_fences_it_off() {
    let mut scene = given(switch_bake());
    scene.run_until(|scene| scene.decide().status.traffic.iter().any(|t| t.step == TrafficStep::FlipIntended));
    let announced = scene.decide();
    scene.status = announced.status.clone();
    scene.breach().run_to_state(State::RolledBack);
    let late = scene.perform(&announced);
    assert!(!late, "the flip that was announced before the rollback still lands");
    assert_eq!(scene.side(STOCK), Some(Side::From));
}

#[test]
fn a_flip_that_landed_unseen_is_drained_on_the_way_back_too() {
    let mut scene = given(switch_bake());
    scene.run_until(|scene| scene.traffic_step(STOCK) == Some(TrafficStep::FlipIntended));
    assert_eq!(scene.side(STOCK), Some(Side::To), "the flip has landed, but status doesn't know");
    scene.breach().run_to_state(State::RolledBack);
    let drains = scene.effects.iter().filter(|e| matches!(e, Effect::Drain(order) if order.side == Side::To)).count();
    assert!(drains > 0, "those who were sent to the new side are still there");
    assert!(scene.status.rollback.as_ref().is_some_and(|rollback| rollback.new_connections_restored.is_some()));
}

#[test]
fn evidence_of_a_lost_status_write_counts_though_the_guards_are_green_again() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").breach();
    let lost = scene.decide();
    for effect in &lost.at_once {
        scene.cluster.apply(effect);
    }
    scene.guards_pass();
    scene.reconcile();
    let rollback = scene.status.rollback.clone().expect("a rollback");
    assert_eq!(rollback.reason, RollbackReason::Evidence);
    scene.run_to_state(State::RolledBack);
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 1);
}

#[test]
fn someone_elses_way_back_is_adopted_and_not_fought() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").someone_sets(STOCK, "v1").run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(Side::From));
    let rollback = scene.status.rollback.clone().expect("a rollback");
    assert_eq!(rollback.reason, RollbackReason::ForeignWayBack);
    assert_eq!(scene.status.history.iter().filter(|entry| entry.by == "someone else").count(), 1);
}

#[test]
fn a_third_value_in_the_bake_stalls_and_is_never_overwritten() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle().someone_sets(STOCK, "v7").settle();
    assert_eq!(scene.status.state, State::Stalled, "{}", scene.why());
    assert_eq!(scene.hold(), Some("ForeignSelector"));
    scene.breach().settle();
    assert_eq!(scene.side(STOCK), None);
    assert_eq!(scene.status.state, State::Stalled, "{}", scene.why());
    scene.someone_sets(STOCK, "v2").run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(Side::From));
}

#[test]
fn a_third_value_holds_the_end_of_the_bake() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle().someone_sets(STOCK, "v7").settle().pass_time(700).settle();
    assert_eq!(scene.phase("bake"), PhaseState::Running, "{}", scene.why());
    scene.someone_sets(STOCK, "v2").run_to_state(State::Succeeded);
}

#[test]
fn with_the_old_side_gone_traffic_stays_until_it_comes_back() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake");
    scene.service(STOCK).from_serving = 0;
    scene.breach().settle();
    assert_eq!(scene.status.state, State::Stalled, "{}", scene.why());
    assert_eq!(scene.hold(), Some("OldSideGone"));
    assert_eq!(scene.side(STOCK), Some(Side::To));
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 0);
    scene.service(STOCK).from_serving = 1;
    scene.guards_pass().run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(Side::From));
}

#[test]
fn a_service_that_cannot_be_read_is_not_moved_blindly() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").breach();
    let mut world = scene.seen();
    world.services.clear();
    let decision = scene.decide_in(&world);
    assert_eq!(decision.at_once, []);
    assert_eq!(decision.status.state, State::RollingBack, "the rollback has begun all the same");
}

#[test]
fn two_services_go_back_at_once() {
    let mut scene = given(migration().switch("cut-over", &[STOCK, ORDERS]).bake("bake", 60));
    scene.run_to("bake").breach();
    assert_eq!(scene.decide().at_once.len(), 2);
    scene.run_to_state(State::RolledBack);
    assert_eq!((scene.side(STOCK), scene.side(ORDERS)), (Some(Side::From), Some(Side::From)));
}

#[test]
fn undos_run_in_reverse_and_one_at_a_time() {
    let mut scene = given(migration().job("first").job("second").switch("cut-over", &[STOCK]).bake("bake", 60));
    scene.run_to("bake").settle().breach().settle();
    assert_eq!((scene.jobs_of("first", JobRole::Undo), scene.jobs_of("second", JobRole::Undo)), (0, 1));
    scene.run_to_state(State::RolledBack);
    assert_eq!((scene.jobs_of("first", JobRole::Undo), scene.jobs_of("second", JobRole::Undo)), (1, 1));
}

#[test]
fn a_job_at_work_is_stopped_and_taken_back() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle().abort().run_to_state(State::RolledBack);
    assert!(scene.effects.iter().any(|effect| matches!(effect, Effect::StopJob { .. })));
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 1);
}

#[test]
fn a_job_that_was_announced_and_never_made_cannot_be_made_any_more_and_needs_no_undo() {
    let mut scene = given(job_switch_bake());
    scene.run_until(|scene| scene.decide().status.phases.first().is_some_and(|p| p.state == PhaseState::Intended));
    let announced = scene.decide();
    scene.status = announced.status.clone();
    scene.abort().run_to_state(State::RolledBack);
    scene.perform(&announced);
    assert_eq!(scene.jobs_of("expand", JobRole::Do), 0, "a late create has made the Job after all");
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 0, "what never ran is not taken back");
    assert_eq!(scene.phase("expand"), PhaseState::Kept);
}

#[test]
fn a_breach_while_the_marks_are_given_up_before_the_point_of_no_return_still_takes_traffic_back() {
    let mut scene = given(expand_contract());
    scene.run_until(|scene| scene.traffic_step(STOCK) == Some(TrafficStep::ReleaseIntended));
    scene.breach();
    let decision = scene.decide();
    assert_eq!(decision.at_once, [], "the way back is announced first here: the next status may be past it");
    scene.run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(Side::From));
    assert_eq!(scene.jobs_of("contract", JobRole::Do), 0);
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 1);
}

#[test]
fn a_breach_while_the_marks_are_given_up_at_the_end_still_takes_traffic_back() {
    let mut scene = given(job_switch_bake());
    scene.run_until(|scene| scene.traffic_step(STOCK) == Some(TrafficStep::ReleaseIntended));
    scene.breach().run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(Side::From));
}

#[test]
fn a_breach_after_the_point_of_no_return_alarms_once_and_moves_nothing() {
    let mut scene = given(expand_contract()).slow("contract");
    scene.run_to("contract").settle();
    scene.effects.clear();
    scene.breach().settle().pass_time(60).settle();
    assert_eq!(scene.status.state, State::Stalled);
    assert_eq!(scene.hold(), Some("NoWayBack"));
    assert_eq!(scene.side(STOCK), Some(Side::To));
    assert!(!scene.effects.iter().any(|effect| matches!(effect, Effect::PatchService(_))));
    assert_eq!(scene.told("NoWayBack"), 1);
    scene.guards_pass().job_succeeds("contract").run_to_state(State::Succeeded);
}

#[test]
fn a_late_way_back_is_refused_after_the_point_of_no_return() {
    let mut scene = given(expand_contract()).slow("contract");
    scene.run_to("bake").settle().breach();
    let late = scene.decide();
    scene.guards_pass().run_until(|scene| scene.jobs_of("contract", JobRole::Do) == 1);
    for effect in &late.at_once {
        scene.cluster.apply(effect);
    }
    assert_eq!(scene.side(STOCK), Some(Side::To));
}

#[test]
fn a_leader_that_reads_an_old_status_leaves_newer_marks_alone() {
    let mut scene = given(expand_contract()).slow("contract");
    scene.run_to("bake").settle();
    let old = scene.status.clone();
    scene.run_until(|scene| scene.jobs_of("contract", JobRole::Do) == 1);
    scene.breach();
    let decision = scene.decide_on(&old);
    assert_eq!(decision.at_once, [], "the mark is newer than anything that this status knows of");
}

#[test]
fn another_migrations_mark_is_respected_on_the_way_back() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle();
    let theirs = Mark { uid: "77aa".to_owned(), attempt: 1, epoch: 9, role: Role::Claimed };
    scene.service(STOCK).mark = Some(theirs.clone());
    scene.breach().settle();
    assert_eq!(scene.hold(), Some("ForeignMark"));
    assert_eq!(scene.mark(STOCK), theirs);
}

#[test]
fn a_mark_that_nobody_can_read_keeps_traffic_until_it_is_taken_away() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle();
    scene.service(STOCK).scribble = Some("v1.2.3".to_owned());
    scene.breach().settle();
    assert_eq!((scene.hold(), scene.side(STOCK)), (Some("ForeignMark"), Some(Side::To)));
    let next = scene.status.next.clone().expect("there is something to do");
    assert_eq!(next, "kubectl -n shop annotate service stock alongside.dev/epoch-");
    let service = scene.service(STOCK);
    (service.scribble, service.mark) = (None, None);
    scene.run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(Side::From));
}

#[test]
fn a_stripped_mark_does_not_keep_traffic_from_going_back() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle();
    scene.service(STOCK).mark = None;
    scene.breach().run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(Side::From));
    assert_eq!(scene.mark(STOCK).uid, UID);
}

#[test]
fn a_service_that_is_gone_needs_no_way_back() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle();
    scene.cluster.services.remove(STOCK);
    scene.abort().run_to_state(State::RolledBack);
    assert_eq!(scene.told("ServiceGone"), 1);
}

#[test]
fn an_old_side_that_shrinks_closes_the_way_back_and_holds_every_step() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle();
    assert_eq!(scene.condition("RollbackReady"), Some(("True", "Ready")));
    scene.service(STOCK).from_serving = 0;
    scene.settle().pass_time(700).settle().pass_time(60).settle();
    assert_eq!(scene.phase("bake"), PhaseState::Running);
    assert_eq!(scene.hold(), Some("RollbackNotReady"));
    assert_eq!(scene.condition("RollbackReady"), Some(("False", "NotReady")));
    assert_eq!(scene.told("RollbackNotReady"), 1);
    scene.service(STOCK).from_serving = 3;
    scene.run_to_state(State::Succeeded);
}

#[test]
fn the_new_side_is_not_drained_towards_an_old_side_that_has_died() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle().breach();
    scene.reconcile();
    assert_eq!(scene.side(STOCK), Some(Side::From));
    scene.service(STOCK).from_serving = 0;
    scene.settle().pass_time(120).settle();
    assert!(!scene.effects.iter().any(|e| matches!(e, Effect::Drain(order) if order.side == Side::To)));
    assert_eq!(scene.hold(), Some("OldSideGone"), "{}", scene.why());
}

#[test]
fn traffic_moved_forward_by_hand_during_a_rollback_holds_the_schema() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle().breach();
    scene.run_until(|scene| scene.traffic_step(STOCK) == Some(TrafficStep::Back));
    scene.someone_sets(STOCK, "v2").pass_time(70).settle();
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 0, "{}", scene.why());
    assert_eq!(scene.status.state, State::Stalled);
    scene.someone_sets(STOCK, "v1").run_to_state(State::RolledBack);
}

#[test]
fn a_failed_undo_is_tried_again_and_then_asks_for_a_person_as_often_as_needed() {
    let mut scene = given(job_switch_bake()).slow_undo("expand");
    scene.run_to("bake").breach();
    for tries in 1..=5_u32 {
        scene.run_until(|scene| scene.works("expand", JobRole::Undo));
        let failed = JobState::Failed { message: format!("no lock, {tries}"), terminal: false };
        scene.job_ends("expand", JobRole::Undo, failed);
    }
    scene.settle();
    assert_eq!(scene.hold(), Some("UndoFailed"), "{}", scene.why());
    assert_eq!(scene.status.state, State::Stalled);
    scene.follow_advice("retry").run_until(|scene| scene.works("expand", JobRole::Undo));
    scene.job_ends("expand", JobRole::Undo, JobState::Failed { message: "no rights".to_owned(), terminal: true });
    scene.settle();
    assert_eq!(scene.hold(), Some("UndoFailed"), "{}", scene.why());
    scene.cluster.jobs.retain(|_, job| job.role != JobRole::Undo || job.finalizer);
    scene.pass_time(3600).settle();
    assert_eq!(scene.hold(), Some("UndoFailed"), "a Job that is cleaned away doesn't change what is known of it");
    scene.follow_advice("retry").run_until(|scene| scene.works("expand", JobRole::Undo));
    scene.slow.clear();
    scene.run_to_state(State::RolledBack);
    assert_eq!(scene.status.phases[0].undo_tries, 7);
}

#[test]
fn retry_after_a_rollback_begins_a_new_attempt_with_new_jobs_and_fresh_guards() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").breach().run_to_state(State::RolledBack);
    scene.follow_advice("retry");
    scene.reconcile();
    assert_eq!(scene.status.attempt, 2);
    scene.settle();
    assert_eq!(scene.hold(), Some("PausedByBreach"), "nothing begins while the guard is still breached");
    scene.guards_pass().run_to_state(State::Succeeded);
    assert_eq!(scene.jobs_of("expand", JobRole::Do), 2, "each attempt has a Job of its own");
    assert_eq!(scene.side(STOCK), Some(Side::To));
}

#[test]
fn a_lane_that_waits_says_how_long() {
    let mut scene = given(switch_bake().drain_wait(45));
    scene.run_to("bake").breach();
    let began = scene.now;
    scene.run_to_state(State::RolledBack);
    assert!(scene.now.since(began) >= Span::secs(45));
}

#[test]
fn a_mark_given_up_before_a_way_back_was_announced_is_given_up_again() {
    let mut scene = given(job_switch_bake());
    scene.run_until(|scene| scene.role(STOCK) == Some(Role::Released));
    scene.breach();
    let back = scene.decide();
    scene.status = back.status.clone();
    scene.service(STOCK).from_serving = 0;
    scene.deleted().run_to_state(State::RolledBack);
    assert!(!scene.perform(&back), "the way back that was announced before letting go still lands");
    assert_eq!(scene.side(STOCK), Some(Side::To));
}

#[test]
fn schema_is_not_taken_from_under_traffic_that_someone_moved_forward_before_the_flip() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle().job_succeeds("expand").someone_sets(STOCK, "v2").abort().settle();
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 0, "{}", scene.why());
    assert_eq!((scene.hold(), scene.status.state), (Some("ForeignSelector"), State::Stalled));
    scene.someone_sets(STOCK, "v1").run_to_state(State::RolledBack);
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 1);
}

#[test]
fn a_drain_is_given_up_when_its_deadline_is_over_and_not_asked_for_again() {
    let mut scene = given(switch_bake());
    scene.cluster.drains_stick = true;
    scene.run_to("bake");
    let started = scene.traffic(STOCK).drain_started_at.expect("the old side was drained");
    let asked = drains_end(&scene);
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|until| *until == started.after(Span::secs(30))), "the task behind it must end by itself");
    scene.pass_time(120).settle();
    assert_eq!(drains_end(&scene), asked);
}

#[test]
fn pods_that_are_restarted_have_longer_than_connections_that_are_asked_to_leave() {
    let restart = Drain { restart_pods: Some(true), ..Drain::default() };
    let mut scene = given(migration().switch("cut-over", &[STOCK]).drain(Some(restart)).bake("bake", 600));
    scene.cluster.drains_stick = true;
    scene.run_until(|scene| !drains_end(scene).is_empty());
    let started = scene.traffic(STOCK).drain_started_at.expect("the old side is drained");
    assert_eq!(drains_end(&scene)[0], started.after(Span::secs(600)));
}

/// When each drain that was ordered so far is given up.
fn drains_end(scene: &Scene) -> Vec<Time> {
    let drains = scene.effects.iter().filter_map(|effect| match effect {
        Effect::Drain(order) => Some(order.until),
        _ => None,
    });
    drains.collect()
}

#[test]
fn connections_that_do_not_leave_in_time_are_told_of_and_hold_nothing_up() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").breach();
    scene.cluster.drains_stick = true;
    scene.run_to_state(State::RolledBack);
    assert_eq!((scene.told("DrainCutShort"), scene.traffic(STOCK).remaining), (1, Some(2)));
    let told = scene.status.history.iter().find(|entry| entry.what == "DrainCutShort").expect("it is told");
    assert!(told.why.contains("2 connections to the new side of Service stock"), "{}", told.why);
    assert!(scene.status.rollback.is_some_and(|rollback| rollback.drain_cut_short));
}

#[test]
fn connections_that_leave_in_time_are_not_told_of() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").breach().run_to_state(State::RolledBack);
    assert_eq!(scene.told("DrainCutShort"), 0);
    assert!(scene.status.rollback.is_some_and(|rollback| !rollback.drain_cut_short));
}
