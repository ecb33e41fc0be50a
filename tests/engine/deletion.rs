//! Deletion: at each phase, by each way.

use alongside::{
    api::{PhaseState, RollbackReason, State, TrafficStep},
    engine::{
        effect::{Effect, JobRole},
        mark::Role,
        world::{Lifecycle, Side},
    },
};

use crate::{
    fixture::{STOCK, expand_contract, job_switch_bake, switch_bake},
    scene::{Scene, given},
};

fn gone(scene: &Scene) -> bool {
    !scene.cluster.finalizer && scene.status.state == State::RolledBack
}

#[test]
fn before_anything_is_frozen_there_is_nothing_to_do() {
    let mut scene = given(job_switch_bake());
    scene.deleted().settle();
    assert_eq!(scene.effects, []);
}

#[test]
fn with_a_plan_and_nothing_begun_only_the_finalizer_goes() {
    let mut scene = given(job_switch_bake());
    scene.run_until(|scene| scene.cluster.finalizer).deleted().run_until(gone);
    assert_eq!(scene.cluster.jobs.len(), 0);
}

#[test]
fn while_services_are_being_claimed_their_marks_are_given_up() {
    let mut scene = given(switch_bake());
    scene.run_until(|scene| scene.traffic_step(STOCK) == Some(TrafficStep::ClaimIntended));
    scene.deleted().run_until(gone);
    assert_eq!(scene.role(STOCK), Some(Role::Released));
}

#[test]
fn while_a_job_works_it_is_stopped_and_taken_back_by_a_job_without_an_owner() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle().deleted().run_until(gone);
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 1);
    assert!(scene.cluster.jobs.values().filter(|job| job.role == JobRole::Undo).all(|job| job.orphan));
}

#[test]
fn in_the_bake_traffic_goes_back() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle().deleted().run_until(gone);
    assert_eq!(scene.side(STOCK), Some(Side::From));
    assert_eq!(scene.status.rollback.as_ref().map(|rollback| rollback.reason), Some(RollbackReason::Deleted));
}

#[test]
fn in_the_bake_of_an_orphan_traffic_stays() {
    let mut scene = given(job_switch_bake().orphan());
    scene.run_to("bake").settle().deleted().run_until(gone);
    assert_eq!((scene.side(STOCK), scene.role(STOCK)), (Some(Side::To), Some(Role::Released)));
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 0);
    assert!(scene.status.rollback.as_ref().is_some_and(|rollback| rollback.keeps_traffic));
}

#[test]
fn after_the_bake_traffic_stays() {
    let mut scene = given(job_switch_bake().job("tidy")).slow("tidy");
    scene.run_to("tidy").settle().deleted().run_until(gone);
    assert_eq!(scene.side(STOCK), Some(Side::To));
    assert!(scene.status.message.contains("the bake is over"), "{}", scene.status.message);
    assert!(!scene.works("tidy", JobRole::Do), "its Job was left at work");
}

#[test]
fn with_the_way_back_shut_traffic_stays_and_that_is_told() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle();
    scene.service(STOCK).from_serving = 1;
    scene.deleted().run_until(gone);
    assert_eq!(scene.side(STOCK), Some(Side::To));
    assert_eq!(scene.told("LettingGo"), 1);
}

#[test]
fn while_a_service_cannot_be_read_nothing_is_decided_for_a_minute() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle().deleted();
    let mut blind = scene.seen();
    blind.services.clear();
    let decision = scene.decide_in(&blind);
    assert_eq!(decision.status.rollback, None);
    scene.status = decision.status;
    assert_eq!(scene.hold(), Some("ServiceUnseen"));
    scene.pass_time(61);
    let decision = scene.decide_in(&blind);
    assert!(decision.status.rollback.is_some_and(|rollback| rollback.keeps_traffic));
    scene.run_until(gone);
    assert_eq!(scene.side(STOCK), Some(Side::From), "it could be read again in time");
}

#[test]
fn at_the_point_of_no_return_traffic_stays() {
    let mut scene = given(expand_contract()).slow("contract");
    scene.run_to("contract").settle().deleted().run_until(gone);
    assert_eq!(scene.side(STOCK), Some(Side::To));
}

#[test]
fn while_the_marks_are_given_up_after_the_bake_traffic_stays() {
    let mut scene = given(expand_contract());
    scene.run_until(|scene| scene.traffic_step(STOCK) == Some(TrafficStep::ReleaseIntended));
    scene.deleted().run_until(gone);
    assert_eq!(scene.side(STOCK), Some(Side::To));
}

#[test]
fn a_rollback_that_is_stuck_lets_go() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle();
    scene.service(STOCK).from_serving = 0;
    scene.breach().settle();
    assert_eq!(scene.hold(), Some("OldSideGone"));
    scene.deleted().run_until(gone);
    assert_eq!(scene.side(STOCK), Some(Side::To));
    assert_eq!(scene.told("LettingGo"), 1);
}

#[test]
fn a_rollback_under_way_is_finished() {
    let mut scene = given(job_switch_bake()).slow_undo("expand");
    scene.run_to("bake").settle().breach().settle().deleted().settle();
    assert_eq!(scene.hold(), Some("Undoing"));
    scene.slow.clear();
    scene.run_until(gone);
    assert_eq!(scene.phase("expand"), PhaseState::Undone);
}

#[test]
fn an_undo_that_fails_for_good_can_be_left_by_changing_the_policy() {
    let mut scene = given(job_switch_bake()).slow_undo("expand");
    scene.run_to("bake").settle().deleted().settle();
    let failed = alongside::engine::world::JobState::Failed { message: "no rights".to_owned(), terminal: true };
    scene.job_ends("expand", JobRole::Undo, failed).settle();
    assert_eq!(scene.hold(), Some("UndoFailed"));
    assert!(scene.status.next.as_deref().is_some_and(|next| next.contains("Orphan")), "{:?}", scene.status.next);
    scene.migration = scene.migration.clone().orphan();
    scene.run_until(gone);
}

#[test]
fn a_namespace_that_goes_away_takes_traffic_back_as_long_as_it_can() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle();
    scene.world.lifecycle = Lifecycle::NamespaceTerminating;
    scene.world.jobs_refused = Some("namespaces \"shop\" is being terminated".to_owned());
    scene.run_until(gone);
    assert_eq!(scene.side(STOCK), Some(Side::From));
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 0);
    assert_eq!(scene.told("UndoGivenUp"), 1);
}

#[test]
fn a_namespace_whose_service_is_gone_already_has_nothing_to_take_back() {
    let mut scene = given(switch_bake());
    scene.run_to("bake").settle();
    scene.cluster.services.remove(STOCK);
    scene.world.lifecycle = Lifecycle::NamespaceTerminating;
    scene.run_until(gone);
}

#[test]
fn after_success_nothing_is_moved() {
    let mut scene = given(job_switch_bake());
    scene.run_to_state(State::Succeeded);
    scene.effects.clear();
    scene.deleted().settle();
    assert_eq!(scene.effects, []);
    assert_eq!(scene.side(STOCK), Some(Side::To));
}

#[test]
fn after_a_rollback_a_deleted_migration_is_not_begun_anew() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").abort().run_to_state(State::RolledBack);
    scene.effects.clear();
    scene.retry().deleted().settle();
    assert_eq!(scene.status.attempt, 1);
    assert!(!scene.effects.iter().any(|effect| matches!(effect, Effect::PatchService(_) | Effect::CreateJob(_))));
}
