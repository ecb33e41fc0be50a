//! Exhaustive runs: everything that a budget allows, in every order.

use crate::{
    explore::{NONE, explore},
    fixture::{Migrating, ORDERS, STOCK, migration},
    properties::Reached,
    sim::Sim,
    state::Budget,
};

pub fn switch_bake() -> Migrating {
    migration().switch("cut-over", &[STOCK]).bake("bake", 60)
}

pub fn from_nothing() -> Sim {
    let budget = Budget { freeze: 1, breach: 1, hours: 1, lost: 1, ..NONE };
    Sim::new("from_nothing", &switch_bake(), budget)
}

pub fn deposed() -> Sim {
    let budget = Budget { freeze: 1, deposed: 1, breach: 1, hours: 1, ..NONE };
    Sim::new("deposed", &switch_bake(), budget).from_claimed()
}

pub fn strangers() -> Sim {
    let budget = Budget { freeze: 1, foreign: 1, breach: 1, hours: 1, ..NONE };
    Sim::new("strangers", &switch_bake(), budget).from_claimed()
}

pub fn sides() -> Sim {
    let budget = Budget { freeze: 1, old_side_dies: 1, new_side_dies: 1, breach: 1, hours: 1, ..NONE };
    Sim::new("sides", &switch_bake(), budget).from_claimed()
}

pub fn verbs() -> Sim {
    let budget = Budget { freeze: 1, abort: 1, pause: 1, retry: 1, hours: 1, ..NONE };
    Sim::new("verbs", &switch_bake(), budget).from_claimed()
}

pub fn jobs() -> Sim {
    let budget = Budget { freeze: 1, abort: 1, old_jobs: 1, job_fails: 1, job_vanishes: 1, hours: 1, ..NONE };
    let plan = migration().job("expand").retries(1).switch("cut-over", &[STOCK]);
    Sim::new("jobs", &plan, budget).from_claimed()
}

pub fn undo() -> Sim {
    let budget = Budget { freeze: 1, deposed: 1, abort: 1, retry: 1, job_fails: 1, ..NONE };
    let plan = migration().job("expand").job("widen").retries(0);
    Sim::new("undo", &plan, budget)
}

pub fn schema() -> Sim {
    let budget = Budget { freeze: 1, abort: 1, foreign: 1, ..NONE };
    let plan = migration().job("expand").switch("cut-over", &[STOCK]).bake("bake", 60);
    Sim::new("schema", &plan, budget).from(|status| status.phase.as_deref() == Some("bake"))
}

pub fn no_return() -> Sim {
    let budget = Budget { freeze: 1, deposed: 1, breach: 1, hours: 1, ..NONE };
    let plan = switch_bake().one_way_job("contract").no_return();
    Sim::new("no_return", &plan, budget).from(|status| status.phase.as_deref() == Some("bake"))
}

pub fn cleanup() -> Sim {
    let budget = Budget { freeze: 1, deposed: 1, breach: 1, job_fails: 1, hours: 1, ..NONE };
    let plan = migration().backfill("fill").switch("cut-over", &[STOCK]).one_way_job("contract").no_return();
    Sim::new("cleanup", &plan, budget).from(|status| status.phase.as_deref() == Some("contract"))
}

pub fn two_services() -> Sim {
    let budget = Budget { freeze: 1, breach: 1, old_side_dies: 1, hours: 1, ..NONE };
    let plan = migration().switch("cut-over", &[STOCK, ORDERS]).bake("bake", 60);
    Sim::new("two_services", &plan, budget).from_claimed()
}

pub fn letting_go() -> Sim {
    let budget = Budget { freeze: 1, delete: 1, breach: 1, old_side_dies: 1, hours: 1, ..NONE };
    Sim::new("letting_go", &switch_bake(), budget).from(|status| status.phase.as_deref() == Some("bake"))
}

pub fn silence() -> Sim {
    let budget = Budget { freeze: 1, silence: 1, old_side_dies: 1, job_fails: 1, hours: 2, ..NONE };
    let plan = migration().job("expand").switch("cut-over", &[STOCK]).bake("bake", 60);
    Sim::new("silence", &plan, budget).from_claimed()
}

/// Two stores in step whose writes are about to move.
pub fn bound() -> Sim {
    let budget = Budget { freeze: 1, breach: 1, ..NONE };
    Sim::new("bound", &moved(), budget).from(|status| status.phase.as_deref() == Some("cut-over"))
}

/// The same with an agent that is killed.
pub fn agents() -> Sim {
    let budget = Budget { crash: 1, breach: 1, agent_dies: 1, hours: 1, ..NONE };
    Sim::new("agents", &moved(), budget).from(|status| status.phase.as_deref() == Some("cut-over"))
}

/// The same where the streams go at the end.
pub fn parted() -> Sim {
    let budget = Budget { freeze: 1, breach: 1, job_fails: 1, hours: 1, ..NONE };
    let plan = moved().one_way_job("retire").no_return();
    Sim::new("parted", &plan, budget).from(|status| status.phase.as_deref() == Some("bake"))
}

fn moved() -> Migrating {
    migration().replicate().switch("cut-over", &[STOCK]).fenced().bake("bake", 60)
}

#[test]
fn a_switch_from_nothing_under_a_frozen_leader_and_lost_answers() {
    explore(from_nothing(), &[Reached::Succeeded, Reached::RolledBackByEvidence]);
}

#[test]
fn a_frozen_leader_that_decides_again_by_what_it_knew() {
    explore(deposed(), &[Reached::RolledBackByEvidence]);
}

#[test]
fn strangers_who_lend_a_hand() {
    explore(strangers(), &[Reached::RolledBackBySomeoneElse, Reached::SawAThirdValue]);
}

#[test]
fn sides_that_come_and_go() {
    explore(sides(), &[Reached::StayedBecauseTheOldSideWasGone, Reached::RolledBack]);
}

#[test]
fn verbs_and_a_second_attempt() {
    explore(verbs(), &[Reached::SucceededInTheSecondAttempt, Reached::RolledBack]);
}

#[test]
fn jobs_that_fail_and_vanish_behind_an_old_cache() {
    explore(jobs(), &[Reached::MadeATombstone, Reached::Succeeded]);
}

#[test]
fn two_jobs_taken_back_in_reverse_and_tried_again() {
    explore(undo(), &[Reached::SucceededInTheSecondAttempt, Reached::RolledBack]);
}

#[test]
fn schema_and_traffic_on_the_way_back() {
    explore(schema(), &[Reached::RolledBack, Reached::RolledBackBySomeoneElse]);
}

#[test]
fn the_point_of_no_return() {
    explore(no_return(), &[Reached::PassedThePointOfNoReturn, Reached::TookBackWhileCrossing]);
}

#[test]
fn what_is_kept_up_for_the_way_back_goes_before_it_shuts() {
    explore(cleanup(), &[Reached::PassedThePointOfNoReturn, Reached::RolledBack]);
}

#[test]
fn two_services_that_move_together() {
    explore(two_services(), &[Reached::RolledBackByEvidence]);
}

#[test]
fn a_deletion_that_lets_go() {
    explore(letting_go(), &[Reached::LetGo]);
}

#[test]
fn guards_that_fall_silent_and_a_way_back_that_shuts() {
    explore(silence(), &[Reached::Succeeded]);
}

#[test]
fn traffic_that_follows_the_writes_and_comes_back_with_them() {
    explore(bound(), &[Reached::RolledBack, Reached::RolledBackByEvidence]);
}

#[test]
fn an_agent_that_is_killed_while_writes_move() {
    explore(agents(), &[Reached::Succeeded, Reached::RolledBack]);
}

#[test]
fn stores_that_part_at_the_point_of_no_return() {
    explore(parted(), &[Reached::PassedThePointOfNoReturn, Reached::RolledBack]);
}
