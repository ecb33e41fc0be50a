//! Leaders that freeze, die, hand over and are replaced by another build.

use alongside::api::{PhaseState, State, TrafficStep};
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;

use crate::{
    app::App,
    home::Home,
    journey::Journey,
    operator::Operator,
    phases::{approval, bake, contract, cut_over, guard, guarded, long, phases, prepare},
    story::{Story, stories},
    tally::nothing_is_left,
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    let mut stories = stories![
        a_frozen_leaders_late_flip_is_refused_once_its_successor_has_rolled_back,
        a_frozen_leaders_late_job_never_runs_once_its_successor_has_rolled_back,
        a_standby_sees_the_breach_that_its_leader_did_not_live_to_see,
        a_leader_that_is_asked_to_end_gives_its_lease_up,
        an_operator_that_is_replaced_in_mid_flight_is_followed_by_one_that_goes_on,
    ];
    stories.extend(["WayBack.Before", "WayBack.After", "Record.Before", "Record.After"].map(|boundary| {
        let words = boundary.replace('.', "_");
        let sentence = format!("a_standby_takes_traffic_back_when_its_leader_is_killed_at_the_breach_{words}");
        Story::new(&sentence, move |home| killed_at_the_breach(boundary, home))
    }));
    stories
}

async fn a_frozen_leaders_late_flip_is_refused_once_its_successor_has_rolled_back(home: Home) {
    let app = home.app("web").await;
    let frozen = home.leader("a").await;
    frozen.is_to_stop_at("PatchService.Before", 1);
    let migration = home.migrates("to-v2", phases([cut_over("web"), approval()])).await;
    // The first write to the Service claims it, the second one flips it.
    frozen.comes_to_a_stop().await;
    frozen.is_to_stop_at("PatchService.Before", 2);
    migration.is("the flip is announced", |s| s.traffic.iter().any(|t| t.step == TrafficStep::FlipIntended)).await;
    frozen.comes_to_a_stop().await;
    frozen.freezes();
    migration.is_aborted().await;
    let _successor = home.leader("b").await;
    migration.comes_to(State::RolledBack).await;
    migration.has_let_go().await;
    let before = app.service().await;

    frozen.may_go_on();
    frozen.thaws();
    frozen.says("Service web has changed since it was looked at; nothing was written").await;
    frozen.stands_by().await;
    assert_eq!(app.service().await, before);
    app.serves("v1").await;
    nothing_is_left(&home, &app).await;
}

async fn a_frozen_leaders_late_job_never_runs_once_its_successor_has_rolled_back(home: Home) {
    let frozen = home.leader("a").await;
    frozen.is_to_stop_at("CreateJob.Before", 1);
    let migration = home.migrates("work", phases([prepare(&home), approval()])).await;
    frozen.comes_to_a_stop().await;
    frozen.freezes();
    migration.is_aborted().await;
    let _successor = home.leader("b").await;
    migration.comes_to(State::RolledBack).await;

    // It stops once more behind its write, so that it is known to have gone out.
    frozen.is_to_stop_at("CreateJob.After", 2);
    frozen.thaws();
    frozen.comes_to_a_stop().await;
    frozen.may_go_on();
    frozen.stands_by().await;
    let jobs = home.all::<Job>().list(&ListParams::default()).await.expect("Jobs can be listed");
    let suspended: Vec<_> = jobs.iter().map(|job| job.spec.as_ref().and_then(|spec| spec.suspend)).collect();
    assert_eq!(suspended, [Some(true)]);
    assert_eq!((home.times("prepare"), home.times("undo-prepare")), (0, 0));
}

/// A migration that bakes, with a leader and a standby.
async fn baking(home: &Home) -> (App, Journey, Operator, Operator) {
    let app = home.app("web").await;
    let leader = home.leader("a").await;
    let standby = home.operator("b");
    home.figure_is("trouble", 0.1).await;
    let spec = guarded([guard(home, "trouble")], [prepare(home), cut_over("web"), bake("1h")]);
    let migration = home.migrates("to-v2", spec).await;
    migration.holds_for("Baking").await;
    standby.stands_by().await;
    (app, migration, leader, standby)
}

async fn killed_at_the_breach(boundary: &'static str, home: Home) {
    let (app, migration, leader, standby) = baking(&home).await;
    leader.is_to_stop_at(boundary, 1);
    home.figure_is("trouble", 0.9).await;
    leader.comes_to_a_stop().await;
    leader.is_killed();
    // Traffic may be back already, and the figures good because of that: it is taken back all the same.
    if app.points_at().await == "v1" {
        home.figure_is("trouble", 0.1).await;
    }
    standby.leads().await;
    migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    assert_eq!(home.times("undo-prepare"), 1);
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}

async fn a_standby_sees_the_breach_that_its_leader_did_not_live_to_see(home: Home) {
    let (app, migration, leader, standby) = baking(&home).await;
    leader.is_killed();
    home.figure_is("trouble", 0.9).await;
    standby.leads().await;
    migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
}

async fn a_leader_that_is_asked_to_end_gives_its_lease_up(home: Home) {
    let leader = home.leader("a").await;
    let standby = home.operator("b");
    standby.stands_by().await;
    let migration = home.migrates("work", phases([long(&home), prepare(&home)])).await;
    migration.has("long", PhaseState::Running).await;
    let log = leader.log();
    leader.hands_over().await;
    assert!(log.reads().contains("gave the lease up"), "{}", log.reads());
    standby.leads().await;
    home.opens("long");
    migration.comes_to(State::Succeeded).await;
    assert_eq!((home.times("long"), home.times("prepare")), (1, 1));
}

async fn an_operator_that_is_replaced_in_mid_flight_is_followed_by_one_that_goes_on(home: Home) {
    let app = home.app("web").await;
    let old = home.leader("old").await;
    let spec = phases([prepare(&home), cut_over("web"), long(&home), bake("1s"), contract(&home)]);
    let migration = home.migrates("to-v2", spec).await;
    migration.has("long", PhaseState::Running).await;
    let program = home.folder().join("alongside-from-elsewhere");
    std::fs::copy(env!("CARGO_BIN_EXE_alongside"), &program).expect("the program can be copied");
    let new = home.operator_from(&program, "new");
    new.stands_by().await;
    old.hands_over().await;
    new.leads().await;
    home.opens("long");
    migration.comes_to(State::Succeeded).await;
    app.serves("v2").await;
    assert_eq!((home.times("prepare"), home.times("long"), home.times("contract")), (1, 1, 1));
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}
