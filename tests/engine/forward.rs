//! The way forward: each action from its beginning to its end.

use alongside::{
    api::{PhaseState, State},
    engine::{effect::JobRole, mark::Role, world::Side},
};

use crate::{
    fixture::{ORDERS, STOCK, expand_contract, job_switch_bake, migration, switch_bake},
    scene::given,
};

#[test]
fn a_job_a_switch_and_a_bake_come_to_their_end() {
    let mut scene = given(job_switch_bake());
    scene.run_to_state(State::Succeeded);
    assert_eq!(scene.side(STOCK), Some(Side::To), "{}", scene.why());
    assert_eq!(scene.role(STOCK), Some(Role::Released));
    assert_eq!(scene.jobs_of("expand", JobRole::Do), 1);
    assert_eq!(scene.status.progress, "3/3");
    assert!(!scene.cluster.finalizer, "nothing holds a Migration that has ended");
    assert_eq!(scene.told("Succeeded"), 1);
}

#[test]
fn two_services_of_one_switch_move_together() {
    let mut scene = given(migration().switch("cut-over", &[STOCK, ORDERS]).bake("bake", 60));
    scene.run_to_state(State::Succeeded);
    assert_eq!((scene.side(STOCK), scene.side(ORDERS)), (Some(Side::To), Some(Side::To)));
}

#[test]
fn scripts_run_after_their_store_was_asked() {
    let mut scene = given(migration().sql("expand"));
    scene.run_to_state(State::Succeeded);
    assert_eq!(scene.jobs_of("expand", JobRole::Preflight), 1);
    assert_eq!(scene.jobs_of("expand", JobRole::Do), 1);
}

#[test]
fn an_observation_is_over_once_its_bound_has_held_long_enough() {
    let mut scene = given(migration().observe("compare", 120));
    scene.run_to("compare");
    let began = scene.now;
    scene.run_to_state(State::Succeeded);
    assert!(scene.now.since(began) >= alongside::api::Span::secs(120), "{}", scene.why());
}

#[test]
fn a_bake_lasts_its_guarded_time() {
    let mut scene = given(switch_bake());
    scene.run_to("bake");
    let began = scene.now;
    scene.run_to_state(State::Succeeded);
    assert!(scene.now.since(began) >= alongside::api::Span::secs(600), "{}", scene.why());
}

#[test]
fn an_approval_phase_waits_for_a_person_and_then_is_done() {
    let mut scene = given(migration().approval("sign-off"));
    scene.run_to_hold("Approval");
    scene.approve("sign-off").run_to_state(State::Succeeded);
    assert_eq!(scene.told("Approved"), 1);
    let approved = scene.status.history.iter().find(|entry| entry.what == "Approved").expect("it is in the history");
    assert_eq!(approved.by, "mei@shop.example");
}

#[test]
fn after_the_point_of_no_return_no_service_carries_a_mark_that_could_lead_back() {
    let mut scene = given(expand_contract()).slow("contract");
    scene.run_to("contract").settle();
    assert_eq!(scene.role(STOCK), Some(Role::Released), "{}", scene.why());
    assert_eq!(scene.phase("contract"), PhaseState::Running);
    scene.job_succeeds("contract").run_to_state(State::Succeeded);
    assert_eq!(scene.side(STOCK), Some(Side::To));
}
