//! Verbs: each acts on what it is bound to, once, and never on anything else.

use alongside::{
    api::{PhaseState, RollbackReason, State},
    engine::effect::JobRole,
};

use crate::{
    fixture::{STOCK, job_switch_bake, migration, switch_bake},
    scene::{Scene, given},
};

fn baking() -> Scene {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle();
    scene
}

fn reason(scene: &Scene) -> Option<RollbackReason> {
    scene.status.rollback.as_ref().map(|rollback| rollback.reason)
}

#[test]
fn abort_takes_everything_back_once() {
    let mut scene = baking();
    scene.abort().run_to_state(State::RolledBack);
    assert_eq!(reason(&scene), Some(RollbackReason::Abort));
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 1);
    scene.pass_time(3600).settle();
    assert_eq!(scene.told("RollingBack"), 1, "the annotation is still there, and acts no second time");
}

#[test]
fn rollback_takes_back_what_went_well() {
    let mut scene = baking();
    scene.rollback().run_to_state(State::RolledBack);
    assert_eq!(reason(&scene), Some(RollbackReason::Requested));
}

#[test]
fn an_abort_bound_to_another_plan_attempt_or_phase_does_nothing() {
    for stale in ["*@0000000000/1", "bake@0000000000/1", "*@{plan}/2", "expand@{plan}/1", "{plan}", ""] {
        let mut scene = baking();
        let plan = scene.status.plan.clone().expect("a plan").hash;
        scene.world.verbs.abort = Some(stale.replace("{plan}", &plan));
        let before = scene.status.clone();
        scene.settle();
        assert_eq!(scene.status, before, "{stale:?} has changed something");
    }
}

#[test]
fn an_abort_bound_to_the_present_phase_acts() {
    let mut scene = baking();
    scene.world.verbs.abort = Some(scene.bound("bake"));
    scene.run_to_state(State::RolledBack);
}

#[test]
fn an_abort_of_the_first_attempt_leaves_the_second_alone() {
    let mut scene = baking();
    scene.abort().run_to_state(State::RolledBack).retry().run_to_state(State::Succeeded);
    assert_eq!(scene.status.attempt, 2);
    assert_eq!(scene.told("RollingBack"), 1);
}

#[test]
fn abort_works_while_paused_and_while_waiting_for_approval() {
    let mut scene = given(job_switch_bake());
    scene.run_to("expand").pause().run_to_hold("Paused").abort().run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(alongside::engine::world::Side::From));

    let mut scene = given(migration().job("expand").approval("sign-off"));
    scene.run_to_hold("Approval").abort().run_to_state(State::RolledBack);
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 1);
}

#[test]
fn a_pause_holds_the_next_phase_and_not_the_one_under_way() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle().pause().settle();
    assert_eq!(scene.hold(), Some("JobRunning"));
    scene.job_succeeds("expand").settle();
    assert_eq!(scene.hold(), Some("Paused"));
    assert_eq!(scene.status.state, State::Waiting);
    assert_eq!(scene.phase("cut-over"), PhaseState::Pending);
    scene.world.verbs.pause = None;
    scene.run_to_state(State::Succeeded);
}

#[test]
fn a_pause_holds_the_end_of_a_bake() {
    let mut scene = baking();
    scene.pause().settle().pass_time(700).settle();
    assert_eq!(scene.phase("bake"), PhaseState::Running);
    assert_eq!(scene.hold(), Some("Paused"));
    scene.world.verbs.pause = None;
    scene.run_to_state(State::Succeeded);
}

#[test]
fn a_stale_pause_holds_nothing() {
    let mut scene = given(switch_bake());
    scene.world.verbs.pause = Some("*@0000000000/1".to_owned());
    scene.run_to_state(State::Succeeded);
}

#[test]
fn an_approval_for_another_phase_or_for_all_of_them_is_none() {
    let mut scene = given(migration().job("expand").job("widen").approved());
    scene.run_to_hold("Approval");
    for stale in ["expand", "*"] {
        scene.approve(stale).settle();
        assert_eq!(scene.hold(), Some("Approval"), "approve {stale}");
    }
    scene.approve("widen").run_to_state(State::Succeeded);
}

#[test]
fn an_approval_is_void_once_the_plan_has_changed() {
    let mut scene = given(migration().job("expand").job("widen").approved()).slow("expand");
    scene.run_to("expand").settle().approve("widen");
    scene.migration = migration().job("expand").job("widen").approved().timeout(77);
    scene.job_succeeds("expand").settle();
    assert_eq!(scene.told("PlanAdopted"), 1);
    assert_eq!(scene.hold(), Some("Approval"), "{}", scene.why());
    scene.approve("widen").run_to_state(State::Succeeded);
}

#[test]
fn the_point_of_no_return_asks_for_approval_unless_told_not_to() {
    let mut asks = given(migration().job("expand").one_way_job("contract").change(|p| p.point_of_no_return = true));
    asks.run_to_hold("Approval");
    let mut tells_not_to = given(migration().job("expand").one_way_job("contract").no_return());
    tells_not_to.run_to_state(State::Succeeded);
}

#[test]
fn without_a_name_the_audit_trail_does_not_invent_one() {
    let mut scene = given(migration().approval("sign-off"));
    scene.run_to_hold("Approval").approve("sign-off");
    scene.world.verbs.approved_by = None;
    scene.run_to_state(State::Succeeded);
    let entry = scene.status.history.iter().find(|entry| entry.what == "Approved").expect("an entry");
    assert_eq!(entry.by, "someone who may patch");
}

#[test]
fn a_retry_before_anything_has_failed_does_nothing() {
    let mut scene = baking();
    scene.retry();
    let before = scene.status.clone();
    scene.settle();
    assert_eq!(scene.status, before);
}

#[test]
fn a_retry_acts_once() {
    let mut scene = baking();
    scene.abort().run_to_state(State::RolledBack).retry().run_to("bake").breach().run_to_state(State::RolledBack);
    scene.guards_pass().pass_time(60).settle();
    assert_eq!(scene.status.attempt, 2, "the retry of the first attempt has begun a third one");
}

#[test]
fn a_retry_that_names_its_try_is_no_retry_of_another_one() {
    let mut scene = given(migration().job("expand").one_way_job("contract").no_return().retries(0)).slow("contract");
    scene.run_to("contract").settle().job_fails("contract", "disk full").settle();
    assert_eq!(scene.hold(), Some("FailedForGood"));
    scene.world.verbs.retry = Some(format!("{}/7", scene.bound("*")));
    scene.settle();
    assert_eq!(scene.hold(), Some("FailedForGood"));
    for _ in 0..3 {
        scene.follow_advice("retry").settle().job_fails("contract", "disk full").settle();
        assert_eq!(scene.hold(), Some("FailedForGood"));
    }
    scene.follow_advice("retry").settle().job_succeeds("contract").run_to_state(State::Succeeded);
    assert_eq!(scene.jobs_of("contract", JobRole::Do), 5);
}

// Precedence, pair by pair: what comes first is what is recorded.

#[test]
fn a_breach_beats_a_pause() {
    let mut scene = baking();
    scene.pause().breach().run_to_state(State::RolledBack);
    assert_eq!(reason(&scene), Some(RollbackReason::Breach));
}

#[test]
fn a_breach_beats_an_abort() {
    let mut scene = baking();
    scene.abort().breach().reconcile();
    assert_eq!(reason(&scene), Some(RollbackReason::Breach));
    scene.run_to_state(State::RolledBack).guards_pass().retry().run_to_state(State::Succeeded);
    assert_eq!(scene.told("RollingBack"), 1, "the abort was consumed by the rollback that it asked for too");
}

#[test]
fn an_abort_beats_a_rollback() {
    let mut scene = baking();
    scene.rollback().abort().reconcile();
    assert_eq!(reason(&scene), Some(RollbackReason::Abort));
}

#[test]
fn an_abort_beats_a_pause_and_an_approval() {
    let mut scene = given(migration().job("expand").job("widen").approved());
    scene.run_to_hold("Approval").pause().approve("widen").abort().run_to_state(State::RolledBack);
    assert_eq!(scene.jobs_of("widen", JobRole::Do), 0);
}

#[test]
fn a_pause_beats_an_approval() {
    let mut scene = given(migration().job("expand").job("widen").approved());
    scene.run_to_hold("Approval").pause().approve("widen").settle();
    assert_eq!(scene.hold(), Some("Paused"));
}

#[test]
fn evidence_beats_everything() {
    let mut scene = baking();
    scene.breach();
    for effect in scene.decide().at_once {
        scene.cluster.apply(&effect);
    }
    scene.abort().deleted().reconcile();
    assert_eq!(reason(&scene), Some(RollbackReason::Evidence));
}

#[test]
fn someone_elses_way_back_beats_a_breach() {
    let mut scene = baking();
    scene.someone_sets(STOCK, "v1").breach().reconcile();
    assert_eq!(reason(&scene), Some(RollbackReason::ForeignWayBack));
}

#[test]
fn deletion_beats_a_breach() {
    let mut scene = baking();
    scene.breach().deleted().reconcile();
    assert_eq!(reason(&scene), Some(RollbackReason::Deleted));
}

#[test]
fn a_stall_by_someone_elses_hand_is_shown_before_a_pause() {
    let mut scene = baking();
    scene.pause().someone_sets(STOCK, "v7").settle();
    assert_eq!(scene.hold(), Some("ForeignSelector"));
}
