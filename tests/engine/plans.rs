//! Plans: frozen when they start, adopted between phases, and never mixed.

use alongside::{
    api::{PhaseState, PhaseStatus, State, TrafficStep},
    engine::{
        effect::{Effect, JobRole},
        mark::{Mark, Role},
        world::{Side, Weight},
    },
};

use crate::{
    fixture::{ORDERS, STOCK, finding, job_switch_bake, migration, switch_bake},
    scene::given,
};

#[test]
fn nothing_is_done_before_preflight_has_answered() {
    let mut scene = given(job_switch_bake());
    scene.world.preflight.asked = false;
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("Preflight"), State::Preflight));
    assert_eq!(scene.effects, []);
}

#[test]
fn what_preflight_refuses_stalls_before_the_first_effect_with_its_path() {
    let mut scene = given(job_switch_bake());
    let path = "spec.phases[1].switch.service";
    scene.world.preflight.findings = vec![
        finding(path, "Service stock is headless", Weight::Refuse),
        finding("spec.guards[0].query", "a rate of errors returns nothing while there are none", Weight::Warn),
    ];
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("PreflightRefused"), State::Stalled));
    assert!(scene.status.message.contains(path), "{}", scene.status.message);
    assert_eq!(scene.effects, []);
    scene.world.preflight.findings.remove(0);
    scene.run_to_state(State::Succeeded);
}

#[test]
fn what_may_mend_itself_is_waited_for() {
    let mut scene = given(job_switch_bake());
    scene.world.preflight.findings = vec![finding("spec.phases[1]", "no pod serves yet", Weight::Wait)];
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("PreflightWaits"), State::Preflight));
    assert_eq!(scene.effects, []);
}

#[test]
fn a_script_that_could_not_be_read_just_now_is_waited_for_and_one_that_is_not_there_stalls() {
    let mut scene = given(migration().sql("expand"));
    let unread = finding("spec.phases[0].sql", "ConfigMap scripts could not be read", Weight::Wait);
    scene.candidate_fails = Some(vec![unread.clone()]);
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("PreflightWaits"), State::Preflight));
    let absent = finding("spec.phases[1].sql", "ConfigMap scripts does not exist", Weight::Refuse);
    scene.candidate_fails = Some(vec![unread, absent]);
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("PreflightRefused"), State::Stalled));
    assert!(scene.status.message.contains("does not exist"), "{}", scene.status.message);
    scene.candidate_fails = None;
    scene.run_to_state(State::Succeeded);
}

#[test]
fn a_spec_that_cannot_be_frozen_is_told_what_is_wrong() {
    let mut scene = given(job_switch_bake());
    scene.candidate_fails = Some(vec![finding("spec.phases[0].sql.from", "no ConfigMap of that name", Weight::Refuse)]);
    scene.settle();
    assert_eq!(scene.hold(), Some("PreflightRefused"));
    assert_eq!(scene.effects, []);
    assert!(scene.status.plan.is_none());
}

#[test]
fn a_service_that_two_phases_move_is_refused() {
    let mut scene = given(migration().switch("first", &[STOCK]).switch("second", &[ORDERS, STOCK]));
    scene.settle();
    assert_eq!(scene.hold(), Some("PreflightRefused"));
    assert!(scene.status.message.contains("moved twice"), "{}", scene.status.message);
}

#[test]
fn a_switch_is_no_point_of_no_return() {
    let mut scene = given(migration().switch("cut-over", &[STOCK]).no_return());
    scene.settle();
    assert_eq!(scene.hold(), Some("PreflightRefused"), "{}", scene.why());
}

#[test]
fn the_plan_and_the_finalizer_are_there_before_anything_else() {
    let mut scene = given(job_switch_bake());
    scene.run_until(|scene| scene.effects.len() >= 3);
    assert!(matches!(scene.effects[0], Effect::FreezePlan { .. }), "{:?}", scene.effects);
    assert!(matches!(scene.effects[1], Effect::AddFinalizer), "{:?}", scene.effects);
}

#[test]
fn a_finalizer_that_someone_removes_is_put_back_before_the_next_step() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle();
    scene.cluster.finalizer = false;
    scene.reconcile();
    assert!(scene.cluster.finalizer);
}

#[test]
fn a_plan_is_adopted_between_phases_and_what_has_begun_is_kept() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle();
    let first = scene.status.plan.clone().expect("a plan").hash;
    scene.migration = job_switch_bake().job("tidy");
    scene.settle();
    assert_eq!(scene.status.plan.as_ref().map(|plan| plan.hash.clone()), Some(first), "not while a phase is under way");
    let job = scene.status.phases[0].job.clone();
    scene.job_succeeds("expand").run_to_state(State::Succeeded);
    assert_eq!(scene.told("PlanAdopted"), 1);
    assert_eq!(scene.status.phases[0].job.as_ref().map(|job| &job.name), job.as_ref().map(|job| &job.name));
    assert_eq!(scene.jobs_of("expand", JobRole::Do), 1);
    assert_eq!(scene.jobs_of("tidy", JobRole::Do), 1);
    assert_eq!(scene.status.progress, "4/4");
}

#[test]
fn an_edit_of_a_begun_phase_that_got_past_admission_stalls() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle();
    let mut edited = job_switch_bake();
    edited.spec.phases[0].retries = Some(9);
    scene.migration = edited;
    scene.job_succeeds("expand").settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("BegunPhaseEdited"), State::Stalled));
    assert!(scene.status.message.contains("expand"), "{}", scene.status.message);
    scene.migration = job_switch_bake();
    scene.run_to_state(State::Succeeded);
}

#[test]
fn a_spec_that_fails_preflight_later_holds_the_next_phase_only() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle();
    scene.candidate_fails = Some(vec![finding("spec.phases[2]", "no such guard provider", Weight::Refuse)]);
    scene.settle();
    assert_eq!(scene.hold(), Some("JobRunning"));
    scene.job_succeeds("expand").settle();
    assert_eq!(scene.hold(), Some("PreflightRefused"));
    scene.abort().run_to_state(State::RolledBack);
}

#[test]
fn a_service_that_leaves_the_plan_is_given_up_and_one_that_joins_is_claimed() {
    let before = migration().job("expand").switch("cut-over", &[STOCK]);
    let after = migration().job("expand").switch("cut-over", &[ORDERS]);
    let mut scene = given(before.clone()).slow("expand");
    scene.run_to("expand").settle();
    assert_eq!(scene.role(STOCK), Some(Role::Claimed));
    scene.migration = after;
    scene.job_succeeds("expand").run_to_state(State::Succeeded);
    assert_eq!((scene.role(STOCK), scene.side(STOCK)), (Some(Role::Released), Some(Side::From)));
    assert_eq!((scene.role(ORDERS), scene.side(ORDERS)), (Some(Role::Released), Some(Side::To)));
}

#[test]
fn a_service_that_leaves_the_plan_and_comes_back_is_claimed_again() {
    let with = migration().job("expand").job("widen").approved().switch("cut-over", &[STOCK]);
    let without = migration().job("expand").job("widen").approved();
    let mut scene = given(with.clone());
    scene.run_to_hold("Approval");
    scene.migration = without;
    scene.settle();
    assert_eq!(scene.role(STOCK), Some(Role::Released), "{}", scene.why());
    scene.migration = with;
    scene.settle();
    assert_eq!(scene.role(STOCK), Some(Role::Claimed), "{}", scene.why());
    scene.approve("widen").run_to_state(State::Succeeded);
    assert_eq!(scene.side(STOCK), Some(Side::To));
}

#[test]
fn other_labels_for_a_service_that_has_not_moved_are_taken_over() {
    let before = migration().job("expand").switch("cut-over", &[STOCK]);
    let mut after = before.clone();
    after.spec.phases[1].switch.as_mut().expect("a switch").to = crate::cluster::labels(&[("version", "v3")]);
    let mut scene = given(before).slow("expand");
    scene.run_to("expand").settle();
    scene.migration = after;
    scene.service(STOCK).to = crate::cluster::labels(&[("version", "v3")]);
    scene.job_succeeds("expand").run_to_state(State::Succeeded);
    assert_eq!(scene.side(STOCK), Some(Side::To));
}

#[test]
fn until_holds_after_its_phase_and_can_be_moved_on() {
    let mut scene = given(job_switch_bake().until("expand"));
    scene.run_to_hold("Until");
    assert_eq!(scene.status.state, State::Waiting);
    assert_eq!(scene.condition("Ready"), Some(("True", "Until")));
    scene.migration.spec.until = Some("cut-over".to_owned());
    scene.run_until(|scene| scene.phase("cut-over") == PhaseState::Done).settle();
    assert_eq!(scene.hold(), Some("Until"));
    scene.migration.spec.until = None;
    scene.run_to_state(State::Succeeded);
    assert_eq!(scene.told("PlanAdopted"), 0, "until is no part of the plan");
}

#[test]
fn until_moved_back_never_goes_back_and_does_not_hold_what_has_begun() {
    let mut scene = given(job_switch_bake().job("tidy"));
    scene.run_to("bake").settle();
    scene.migration.spec.until = Some("expand".to_owned());
    scene.run_to_hold("Until");
    assert_eq!(scene.phase("bake"), PhaseState::Done);
    assert_eq!(scene.side(STOCK), Some(Side::To));
    assert_eq!(scene.phase("tidy"), PhaseState::Pending);
}

#[test]
fn a_bake_named_by_until_does_not_hold_up_a_sync() {
    let mut scene = given(switch_bake().until("bake"));
    scene.run_to_hold("Baking");
    assert_eq!(scene.condition("Ready").map(|(status, _)| status), Some("True"));
}

#[test]
fn a_plan_that_was_never_stored_is_forgotten_when_the_spec_changes() {
    let mut scene = given(job_switch_bake());
    let frozen = scene.decide();
    scene.status = frozen.status;
    scene.migration = switch_bake();
    scene.run_to_state(State::Succeeded);
    assert_eq!(scene.cluster.jobs.len(), 0);
}

#[test]
fn a_plan_that_someone_replaced_stalls_what_needs_it_and_not_traffic() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle();
    let revisions = scene.cluster.revisions.clone();
    scene.cluster.revisions.clear();
    scene.world.plan_foreign = true;
    scene.migration = job_switch_bake().job("tidy");
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("PlanForeign"), State::Stalled));
    scene.rollback().settle().pass_time(60).settle();
    assert_eq!(scene.side(STOCK), Some(Side::From), "{}", scene.why());
    assert_eq!(scene.hold(), Some("PlanForeign"), "the undo needs the plan");
    scene.world.plan_foreign = false;
    scene.cluster.revisions = revisions;
    scene.run_to_state(State::RolledBack);
}

#[test]
fn a_status_that_was_put_back_from_another_plan_stalls_and_can_be_taken_back() {
    let swapped = |phases: &mut Vec<PhaseStatus>| phases.swap(0, 2);
    let doubled = |phases: &mut Vec<PhaseStatus>| phases.extend(phases.clone());
    for odd in [swapped as fn(&mut Vec<PhaseStatus>), doubled] {
        let mut scene = given(job_switch_bake());
        scene.run_to("bake").settle();
        odd(&mut scene.status.phases);
        scene.settle();
        assert_eq!((scene.hold(), scene.status.state), (Some("StatusForeign"), State::Stalled));
        scene.rollback().settle();
        assert_eq!(scene.side(STOCK), Some(Side::From), "{}", scene.why());
    }
}

#[test]
fn a_switch_whose_step_was_edited_stalls() {
    let mut scene = given(switch_bake());
    scene.run_until(|scene| scene.phase("cut-over") == PhaseState::Intended);
    scene.status.traffic[0].step = TrafficStep::Back;
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("StatusForeign"), State::Stalled));
}

#[test]
fn a_plan_that_is_lost_stalls_what_needs_it_and_not_traffic() {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle();
    scene.cluster.revisions.clear();
    scene.migration = job_switch_bake().job("tidy");
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("PlanLost"), State::Stalled));
    scene.rollback().settle().pass_time(60).settle();
    assert_eq!(scene.side(STOCK), Some(Side::From), "{}", scene.why());
    assert_eq!(scene.hold(), Some("PlanLost"), "the undo needs the plan");
    scene.migration = job_switch_bake();
    scene.run_to_state(State::RolledBack);
    assert_eq!(scene.jobs_of("expand", JobRole::Undo), 1);
}

#[test]
fn a_plan_lost_after_the_point_of_no_return_does_not_open_a_way_back() {
    let plan = || job_switch_bake().one_way_job("contract").no_return();
    let mut scene = given(plan()).slow("contract");
    scene.run_to("contract").settle();
    scene.cluster.revisions.clear();
    scene.migration = plan().job("tidy");
    scene.abort().settle();
    assert_eq!(scene.side(STOCK), Some(Side::To));
    assert_eq!(scene.hold(), Some("NoWayBack"), "{}", scene.why());
}

#[test]
fn a_service_of_another_migration_is_refused_before_the_first_effect() {
    let mut scene = given(migration().switch("cut-over", &[STOCK, ORDERS]));
    scene.service(ORDERS).mark = Some(Mark { uid: "77aa".to_owned(), attempt: 1, epoch: 4, role: Role::Forward });
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("ClaimedByOther"), State::Stalled));
    assert!(scene.status.message.contains("77aa"), "{}", scene.status.message);
    assert_eq!(scene.cluster.services[STOCK].mark, None, "the other Service was claimed all the same");
    scene.world.adopt = vec!["77aa".to_owned()];
    scene.run_to_state(State::Succeeded);
}

#[test]
fn a_service_whose_mark_nobody_can_read_is_not_claimed() {
    let mut scene = given(switch_bake());
    scene.service(STOCK).scribble = Some("v1.2.3".to_owned());
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("ForeignMark"), State::Stalled), "{}", scene.why());
    let next = scene.status.next.clone().expect("there is something to do");
    assert_eq!(next, "kubectl -n shop annotate service stock alongside.dev/epoch-");
    scene.service(STOCK).scribble = None;
    scene.run_to_state(State::Succeeded);
}

#[test]
fn a_service_that_another_migration_gave_up_may_be_claimed() {
    let mut scene = given(switch_bake());
    scene.service(STOCK).mark = Some(Mark { uid: "77aa".to_owned(), attempt: 3, epoch: 40, role: Role::Released });
    scene.run_to_state(State::Succeeded);
}

#[test]
fn a_service_that_does_not_stand_on_the_old_side_is_not_claimed() {
    let mut scene = given(switch_bake());
    scene.someone_sets(STOCK, "v2").settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("ForeignSelector"), State::Stalled));
    assert_eq!(scene.cluster.services[STOCK].mark, None);
}

#[test]
fn a_service_that_is_replaced_before_the_flip_is_not_flipped() {
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle();
    let service = scene.service(STOCK);
    service.uid = "svc-9".to_owned();
    service.mark = None;
    scene.job_succeeds("expand").settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("ForeignMark"), State::Stalled), "{}", scene.why());
    scene.follow_advice("abort").run_to_state(State::RolledBack);
    scene.slow.clear();
    scene.follow_advice("retry").run_to_state(State::Succeeded);
}

#[test]
fn a_service_that_is_missing_stalls_and_goes_on_when_it_is_there() {
    let mut scene = given(switch_bake());
    let service = scene.cluster.services.remove(STOCK).expect("it is there");
    scene.settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("ServiceAbsent"), State::Stalled));
    scene.cluster.services.insert(STOCK.to_owned(), service);
    scene.run_to_state(State::Succeeded);
}

#[test]
fn a_new_side_with_too_few_serving_pods_is_not_flipped_to() {
    let mut scene = given(switch_bake());
    scene.service(STOCK).to_serving = 2;
    scene.settle();
    assert_eq!((scene.hold(), scene.side(STOCK)), (Some("NewSideNotServing"), Some(Side::From)));
    let mut lenient = given(migration().switch("cut-over", &[STOCK]).capacity(60.0));
    lenient.service(STOCK).to_serving = 2;
    lenient.run_to_state(State::Succeeded);
}

#[test]
fn a_flip_that_was_announced_is_not_sent_again_to_a_side_that_has_died() {
    let mut scene = given(switch_bake());
    scene.run_until(|scene| scene.decide().status.traffic.iter().any(|t| t.step == TrafficStep::FlipIntended));
    scene.status = scene.decide().status;
    scene.service(STOCK).to_serving = 0;
    scene.settle();
    assert_eq!(scene.side(STOCK), Some(Side::From));
    assert_eq!(scene.hold(), Some("NewSideNotServing"), "{}", scene.why());
    scene.service(STOCK).to_serving = 3;
    scene.run_to_state(State::Succeeded);
}

#[test]
fn a_flip_that_is_never_confirmed_is_taken_back() {
    let mut scene = given(switch_bake());
    scene.run_until(|scene| scene.traffic_step(STOCK) == Some(TrafficStep::FlipIntended));
    scene.service(STOCK).slices_follow = false;
    scene.run_until(|scene| scene.status.rollback.is_some());
    assert!(scene.status.message.contains("EndpointSlices"), "{}", scene.status.message);
    scene.service(STOCK).slices_follow = true;
    scene.run_to_state(State::RolledBack);
}

#[test]
fn services_that_cannot_all_be_moved_are_all_taken_back() {
    let mut scene = given(migration().switch("cut-over", &[STOCK, ORDERS]).bake("bake", 60));
    scene.run_until(|scene| scene.decide().status.traffic.iter().any(|t| t.step == TrafficStep::FlipIntended));
    scene.status = scene.decide().status;
    scene.service(ORDERS).to_serving = 0;
    scene.run_until(|scene| scene.status.rollback.is_some());
    scene.run_to_state(State::RolledBack);
    assert_eq!((scene.side(STOCK), scene.side(ORDERS)), (Some(Side::From), Some(Side::From)));
}
