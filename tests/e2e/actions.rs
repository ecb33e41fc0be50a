//! Each action, done and taken back.

use alongside::api::{PHASE_LABEL, PhaseState, RollbackReason, State};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::{
    home::Home,
    journey::{phase, told},
    phases::{approval, bake, contract, cut_over, figure_query, job, long, phases, prepare},
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
        services_of_one_switch_move_together_and_come_back_together,
        a_side_that_lost_traffic_is_drained_by_restarting_its_pods,
        a_phase_that_takes_too_long_is_stopped_and_taken_back,
        an_observation_waits_until_its_bound_holds,
        an_approval_waits_for_a_person_and_remembers_who_it_was,
        a_job_that_someone_deletes_while_it_runs_still_counts,
        a_finished_job_that_someone_deletes_is_not_run_again,
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
    assert_eq!(phase(&status, "prepare").message.as_deref(), Some("prepared"));
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
    assert!(rollback.message.contains("Error, exit code 3: the disk is full"), "{}", rollback.message);
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

async fn services_of_one_switch_move_together_and_come_back_together(home: Home) {
    let web = home.app("web").await;
    let admin = web.second_service("admin").await;
    let _operator = home.leader("a").await;
    let mut both = cut_over("web");
    let switch = both["switch"].as_object_mut().expect("a switch is an object");
    switch.remove("service");
    switch.insert("services".to_owned(), json!(["web", "admin"]));
    let migration = home.migrates("to-v2", phases([both, approval()])).await;
    migration.holds_for("Approval").await;
    web.serves("v2").await;
    admin.serves("v2").await;
    migration.is_aborted().await;
    migration.comes_to(State::RolledBack).await;
    web.serves("v1").await;
    admin.serves("v1").await;
    migration.has_let_go().await;
    nothing_is_left(&home, &web).await;
    nothing_is_left(&home, &admin).await;
}

async fn a_side_that_lost_traffic_is_drained_by_restarting_its_pods(home: Home) {
    let app = home.app("web").await;
    app.is_replaced_by_a_deployment("v1").await;
    let before = app.pods_of("v1").await;
    let _operator = home.leader("a").await;
    let mut cut_over = cut_over("web");
    cut_over["switch"]["drain"] = json!({ "restartPods": true });
    let visitor = app.is_visited().await;
    let migration = home.migrates("to-v2", phases([cut_over, approval()])).await;
    migration.holds_for("Approval").await;
    app.serves("v2").await;
    visitor.was_always_served().await;
    let after = app.pods_of("v1").await;
    assert_eq!(after.len(), before.len());
    assert!(before.iter().all(|pod| !after.contains(pod)), "{before:?} {after:?}");
}

async fn a_phase_that_takes_too_long_is_stopped_and_taken_back(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let mut late = long(&home);
    late["timeout"] = json!("3s");
    let migration = home.migrates("to-v2", phases([cut_over("web"), late])).await;
    let status = migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    let message = status.rollback.map(|rollback| rollback.message).unwrap_or_default();
    assert!(message.contains("longer than its timeout of 3s"), "{message}");
    assert_eq!((home.times("long"), home.times("undo-long")), (1, 1));
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}

async fn an_observation_waits_until_its_bound_holds(home: Home) {
    home.figure_is("backlog", 7.0).await;
    let _operator = home.leader("a").await;
    let observe = json!({ "query": figure_query(&home, "backlog"), "max": 0, "for": "1s", "interval": "500ms" });
    let observe = json!({ "name": "backlog-is-empty", "observe": observe });
    let migration = home.migrates("wait", phases([observe])).await;
    let status = migration.holds_for("Observing").await;
    assert_eq!(phase(&status, "backlog-is-empty").state, PhaseState::Running);
    // Prometheus has been asked, and what it said did not suffice.
    home.stage().ledger().is_read().await;
    assert_eq!(migration.status().await.state, State::Running);
    home.figure_is("backlog", 0.0).await;
    migration.comes_to(State::Succeeded).await;
}

async fn an_approval_waits_for_a_person_and_remembers_who_it_was(home: Home) {
    let _operator = home.leader("a").await;
    let migration = home.migrates("ask", phases([approval(), prepare(&home)])).await;
    let status = migration.holds_for("Approval").await;
    let next = status.next.expect("it says what to do");
    let said = home.stage().cluster().say("sh", &["-c", &next], "");
    assert!(said.success, "{next}: {}", said.stderr);
    let status = migration.comes_to(State::Succeeded).await;
    let approved: Vec<_> = status.history.iter().filter(|entry| entry.what == "Approved").map(|e| &e.by).collect();
    assert_eq!(approved, ["admin"]);
}

async fn a_job_that_someone_deletes_while_it_runs_still_counts(home: Home) {
    let _operator = home.leader("a").await;
    let migration = home.migrates("work", phases([long(&home)])).await;
    home.hears_of("long").await;
    deletes_the_jobs_of(&home, "long").await;
    home.opens("long");
    let status = migration.comes_to(State::Succeeded).await;
    assert_eq!((home.times("long"), told(&status, "TryFailed")), (1, 0));
}

async fn a_finished_job_that_someone_deletes_is_not_run_again(home: Home) {
    let first = home.leader("a").await;
    let migration = home.migrates("work", phases([prepare(&home), approval()])).await;
    migration.holds_for("Approval").await;
    deletes_the_jobs_of(&home, "prepare").await;
    // One that has never seen the Job must not make it again either.
    first.is_killed();
    let _second = home.leader("a").await;
    migration.is_approved().await;
    migration.comes_to(State::Succeeded).await;
    assert_eq!(home.times("prepare"), 1);
    assert_eq!(home.all::<Job>().list(&ListParams::default()).await.expect("Jobs can be listed").items.len(), 0);
}

async fn deletes_the_jobs_of(home: &Home, phase: &str) {
    let of_phase = ListParams::default().labels(&format!("{PHASE_LABEL}={phase}"));
    let background = DeleteParams::background();
    home.all::<Job>().delete_collection(&background, &of_phase).await.expect("Jobs can be deleted");
}
