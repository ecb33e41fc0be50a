//! Each action, done and taken back.

use alongside::api::{PhaseState, RollbackReason, State};
use serde_json::json;

use crate::{
    home::Home,
    journey::phase,
    phases::{approval, bake, contract, cut_over, job, long, phases, prepare},
    story::{Story, stories},
    tally::nothing_is_left,
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![
        a_migration_goes_all_the_way_and_nobody_is_turned_away,
        a_rollback_takes_back_traffic_and_jobs_in_reverse_and_nobody_is_turned_away,
        a_job_that_fails_is_tried_again_and_then_takes_back_what_was_done,
        a_phase_that_fails_before_the_flip_never_moves_the_service,
    ]
}

async fn a_migration_goes_all_the_way_and_nobody_is_turned_away(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let visitor = app.is_visited().await;
    let spec = phases([prepare(&home), cut_over("web"), bake("2s"), contract(&home)]);
    let migration = home.migrates("to-v2", spec).await;
    let status = migration.comes_to(State::Succeeded).await;
    app.serves("v2").await;
    visitor.was_always_served().await;
    assert_eq!(phase(&status, "prepare").message.as_deref(), Some("prepared\n"));
    assert_eq!((home.times("prepare"), home.times("contract"), home.times("undo-prepare")), (1, 1, 0));
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}

async fn a_rollback_takes_back_traffic_and_jobs_in_reverse_and_nobody_is_turned_away(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let visitor = app.is_visited().await;
    let spec = phases([prepare(&home), cut_over("web"), long(&home), approval()]);
    let migration = home.migrates("to-v2", spec).await;
    home.opens("long");
    migration.holds_for("Approval").await;
    app.serves("v2").await;
    migration.is_aborted().await;
    let status = migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    visitor.was_always_served().await;
    assert_eq!((home.times("undo-long"), home.times("undo-prepare")), (1, 1));
    let rollback = status.rollback.as_ref().expect("it was rolled back");
    assert_eq!(rollback.reason, RollbackReason::Abort);
    let undone = |name: &str| phase(&status, name).undo_job.as_ref().map(|job| job.settled);
    assert_eq!((undone("prepare"), undone("long")), (Some(true), Some(true)));
    let order: Vec<_> = status.history.iter().filter(|entry| entry.what == "PhaseUndone").map(|e| &e.phase).collect();
    assert_eq!(order, [&Some("long".to_owned()), &Some("prepare".to_owned())]);
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}

async fn a_job_that_fails_is_tried_again_and_then_takes_back_what_was_done(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let fails = job(&home, "fails", "echo the disk is full > /dev/termination-log; exit 3");
    let fails = json!({ "name": "fails", "retries": 1, "job": { "template": fails } });
    let migration = home.migrates("to-v2", phases([prepare(&home), cut_over("web"), fails])).await;
    let status = migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    assert_eq!((home.times("fails"), home.times("prepare"), home.times("undo-prepare")), (2, 1, 1));
    assert_eq!(phase(&status, "fails").tries, 2);
    let rollback = status.rollback.expect("it was rolled back");
    assert_eq!(rollback.reason, RollbackReason::PhaseFailed);
    assert!(rollback.message.contains("the disk is full"), "{}", rollback.message);
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}

async fn a_phase_that_fails_before_the_flip_never_moves_the_service(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let fails = json!({ "name": "fails", "retries": 0, "job": { "template": job(&home, "fails", "exit 1") } });
    let visitor = app.is_visited().await;
    let migration = home.migrates("to-v2", phases([fails, cut_over("web")])).await;
    let status = migration.comes_to(State::RolledBack).await;
    let visits = visitor.tells().await;
    assert!(visits.failures.is_empty(), "{visits:?}");
    assert_eq!(visits.answers.keys().collect::<Vec<_>>(), ["v1"]);
    assert_eq!(phase(&status, "cut-over").state, PhaseState::Pending);
    assert!(status.traffic.iter().all(|traffic| traffic.flipped_at.is_none()));
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}
