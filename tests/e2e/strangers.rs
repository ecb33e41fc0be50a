//! Services that someone else changes in mid-flight, and two migrations with one Service.

use alongside::api::{PhaseState, RollbackReason, State};
use serde_json::json;

use crate::{
    home::Home,
    phases::{approval, bake, cut_over, guard, guarded, job, phases, prepare},
    places::Place,
    story::{Story, stories},
    tally::nothing_is_left,
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![
        traffic_that_someone_else_moved_back_is_adopted_as_a_rollback,
        a_selector_that_points_elsewhere_is_told_and_not_fought_over,
        a_breach_takes_traffic_back_though_someone_took_the_mark_off,
        a_service_that_was_deleted_and_made_anew_on_the_old_side_is_a_rollback_too,
        a_service_that_was_made_anew_on_the_new_side_can_still_be_taken_back,
        of_two_migrations_that_claim_one_service_the_second_waits_before_its_first_effect,
        an_old_side_that_is_gone_shuts_the_way_back_until_it_comes_back,
        a_service_whose_mark_nobody_can_read_is_not_claimed_until_it_is_taken_away,
    ]
}

async fn traffic_that_someone_else_moved_back_is_adopted_as_a_rollback(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let migration = Place::ItBakes.is_reached(&home, &app).await;
    app.is_moved_by_hand_to("v1").await;
    let status = migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    assert_eq!(status.rollback.map(|rollback| rollback.reason), Some(RollbackReason::ForeignWayBack));
    assert_eq!(home.times("undo-prepare"), 1);
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}

async fn a_selector_that_points_elsewhere_is_told_and_not_fought_over(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let spec = phases([prepare(&home), cut_over("web"), approval(), bake("1s")]);
    let migration = home.migrates("to-v2", spec).await;
    migration.holds_for("Approval").await;
    app.is_moved_by_hand_to("v3").await;
    let status = migration.holds_for("ForeignSelector").await;
    assert_eq!(status.state, State::Stalled);
    // It can be approved, but nothing goes on; and nothing is written over what they did.
    migration.is_approved().await;
    home.stage().ledger().is_read().await;
    assert_eq!(app.points_at().await, "v3");
    assert_eq!(migration.holds_for("ForeignSelector").await.state, State::Stalled);
    app.is_moved_by_hand_to("v2").await;
    migration.comes_to(State::Succeeded).await;
    app.serves("v2").await;
}

async fn a_breach_takes_traffic_back_though_someone_took_the_mark_off(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let spec = guarded([guard(&home, "trouble")], [cut_over("web"), bake("1h")]);
    let migration = home.migrates("to-v2", spec).await;
    migration.holds_for("Baking").await;
    app.is_edited(json!({ "metadata": { "annotations": { alongside::api::EPOCH_ANNOTATION: null } } })).await;
    home.figure_is("trouble", 0.9).await;
    let status = migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    assert_eq!(status.rollback.map(|rollback| rollback.reason), Some(RollbackReason::Breach));
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}

async fn a_service_that_was_deleted_and_made_anew_on_the_old_side_is_a_rollback_too(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let migration = Place::ItBakes.is_reached(&home, &app).await;
    app.loses_its_service().await;
    let status = migration.holds_for("ServiceAbsent").await;
    assert_eq!(status.state, State::Stalled);
    app.makes_its_service().await;
    let status = migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    assert_eq!(status.rollback.map(|rollback| rollback.reason), Some(RollbackReason::ForeignWayBack));
    assert_eq!(home.times("undo-prepare"), 1);
    migration.has_let_go().await;
}

async fn a_service_that_was_made_anew_on_the_new_side_can_still_be_taken_back(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let spec = guarded([guard(&home, "trouble")], [cut_over("web"), bake("1h")]);
    let migration = home.migrates("to-v2", spec).await;
    migration.holds_for("Baking").await;
    app.loses_its_service().await;
    migration.holds_for("ServiceAbsent").await;
    app.makes_its_service_on("v2").await;
    migration.holds_for("Baking").await;
    home.figure_is("trouble", 0.9).await;
    migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}

async fn of_two_migrations_that_claim_one_service_the_second_waits_before_its_first_effect(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let first = home.migrates("first", phases([approval(), cut_over("web")])).await;
    first.holds_for("Approval").await;
    let second = home.migrates("second", phases([prepare(&home), cut_over("web")])).await;
    let status = second.holds_for("ClaimedByOther").await;
    assert!(status.phases.iter().all(|phase| phase.state == PhaseState::Pending), "{status:?}");
    assert_eq!(home.times("prepare"), 0);
    first.is_aborted().await;
    first.comes_to(State::RolledBack).await;
    second.comes_to(State::Succeeded).await;
    assert_eq!(home.times("prepare"), 1);
    app.serves("v2").await;
}

async fn an_old_side_that_is_gone_shuts_the_way_back_until_it_comes_back(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let late = json!({ "name": "late", "job": { "template": job(&home, "late", "true") } });
    let spec = guarded([guard(&home, "trouble")], [cut_over("web"), bake("2s"), late]);
    let migration = home.migrates("to-v2", spec).await;
    migration.holds_for("Baking").await;
    app.stops("v1").await;
    let status = migration.holds_for("RollbackNotReady").await;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "RollbackReady");
    assert_eq!(ready.map(|condition| condition.status.as_str()), Some("False"));

    // A breach now has nowhere to go back to: traffic stays, and a person is called.
    home.figure_is("trouble", 0.9).await;
    let status = migration.holds_for("OldSideGone").await;
    assert_eq!(status.state, State::Stalled);
    assert_eq!(app.points_at().await, "v2");
    app.serves("v2").await;

    app.starts("v1").await;
    migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    assert_eq!(home.times("late"), 0);
}

async fn a_service_whose_mark_nobody_can_read_is_not_claimed_until_it_is_taken_away(home: Home) {
    let app = home.app("web").await;
    app.is_edited(json!({ "metadata": { "annotations": { alongside::api::EPOCH_ANNOTATION: "v1.2.3" } } })).await;
    let _operator = home.leader("a").await;
    let migration = home.migrates("to-v2", phases([cut_over("web")])).await;
    let status = migration.holds_for("ForeignMark").await;
    assert_eq!((status.state, app.mark().await.as_str()), (State::Stalled, "v1.2.3"));
    let next = status.next.expect("it says what to do");
    let said = home.stage().cluster().say("sh", &["-c", &next], "");
    assert!(said.success, "{next}: {}", said.stderr);
    migration.comes_to(State::Succeeded).await;
    app.serves("v2").await;
}
