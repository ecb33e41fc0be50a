//! Exhaustive runs: everything that a budget allows, in every order.

use std::{fmt::Write as _, sync::atomic::Ordering::Relaxed, time::Instant};

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::{
    fixture::{ORDERS, STOCK, migration},
    promises::Promise,
    properties::Reached,
    sim::{Action, Sim},
    state::{Budget, State},
};

const NONE: Budget = Budget {
    freeze: 0,
    deposed: 0,
    crash: 0,
    lost: 0,
    twice: 0,
    old_status: 0,
    old_jobs: 0,
    breach: 0,
    silence: 0,
    old_side_dies: 0,
    new_side_dies: 0,
    foreign: 0,
    abort: 0,
    rollback: 0,
    pause: 0,
    approve: 0,
    retry: 0,
    delete: 0,
    job_fails: 0,
    job_vanishes: 0,
    hours: 0,
};

/// The steps of a path, with what a reader needs to follow them.
pub fn steps(path: Path<State, Action>) -> String {
    let mut text = String::new();
    for (state, action) in path.into_vec() {
        let status = &state.server.object.status;
        let services: Vec<String> = state
            .server
            .services
            .iter()
            .map(|(name, service)| {
                let mark = service.mark.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
                format!("{name}={} {mark} {}/{}", service.selector["version"], service.from_serving, service.to_serving)
            })
            .collect();
        let traffic: Vec<_> = status.traffic.iter().map(|traffic| traffic.step).collect();
        let phases: Vec<_> = status.phases.iter().map(|phase| phase.state).collect();
        let hold = status.hold.as_ref().map_or("", |hold| &hold.reason);
        let _ = writeln!(
            text,
            "  {:?} {hold} {traffic:?} {phases:?} {services:?} {:?}\n    {action:?}",
            status.state, state.server.mood
        );
    }
    text
}

/// Explores a model to its end. Fails with the steps that lead to a broken promise, or if it has not reached what it is
/// there to reach.
fn explore(sim: Sim, reaches: &[Reached]) {
    let name = sim.name;
    let began = Instant::now();
    let checker = sim.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let discoveries = checker.discoveries();
    for promise in Promise::ALL {
        if let Some(path) = discoveries.get(promise.name()) {
            panic!("{name}: {} is broken:\n{}", promise.name(), steps(path.clone()));
        }
    }
    for reached in reaches {
        assert!(discoveries.contains_key(reached.name()), "{name} has never {}", reached.name());
    }
    let seen = &checker.model().seen;
    eprintln!(
        "model {name}: {} states, depth {}, {} decisions, {} writes refused, {} before their status, {} conflicts, {:.1?}",
        checker.unique_state_count(),
        checker.max_depth(),
        seen.decisions.load(Relaxed),
        seen.late_writes_refused.load(Relaxed),
        seen.lane_1_before_status.load(Relaxed),
        seen.status_conflicts.load(Relaxed),
        began.elapsed(),
    );
}

fn switch_bake() -> crate::fixture::Migrating {
    migration().switch("cut-over", &[STOCK]).bake("bake", 60)
}

#[test]
fn from_nothing_with_a_frozen_leader() {
    let budget = Budget { freeze: 1, breach: 1, hours: 1, lost: 1, ..NONE };
    explore(Sim::new("from_nothing", switch_bake(), budget), &[Reached::Succeeded, Reached::RolledBackByEvidence]);
}

#[test]
fn a_frozen_leader_that_decides_again() {
    let budget = Budget { freeze: 1, deposed: 1, breach: 1, hours: 1, ..NONE };
    explore(Sim::new("deposed", switch_bake(), budget).from_claimed(), &[Reached::RolledBackByEvidence]);
}

#[test]
fn strangers() {
    let budget = Budget { freeze: 1, foreign: 1, breach: 1, hours: 1, ..NONE };
    explore(
        Sim::new("strangers", switch_bake(), budget).from_claimed(),
        &[Reached::RolledBackBySomeoneElse, Reached::SawAThirdValue],
    );
}

#[test]
fn sides_that_come_and_go() {
    let budget = Budget { freeze: 1, old_side_dies: 1, new_side_dies: 1, breach: 1, hours: 1, ..NONE };
    explore(
        Sim::new("sides", switch_bake(), budget).from_claimed(),
        &[Reached::StayedBecauseTheOldSideWasGone, Reached::RolledBack],
    );
}

#[test]
fn verbs_and_a_second_attempt() {
    let budget = Budget { freeze: 1, abort: 1, pause: 1, retry: 1, hours: 1, ..NONE };
    explore(
        Sim::new("verbs", switch_bake(), budget).from_claimed(),
        &[Reached::SucceededInTheSecondAttempt, Reached::RolledBack],
    );
}

#[test]
fn jobs() {
    let budget = Budget { freeze: 1, abort: 1, old_jobs: 1, job_fails: 1, job_vanishes: 1, hours: 1, ..NONE };
    let plan = migration().job("expand").retries(1).switch("cut-over", &[STOCK]);
    explore(Sim::new("jobs", plan, budget).from_claimed(), &[Reached::MadeATombstone, Reached::Succeeded]);
}

#[test]
fn the_point_of_no_return() {
    let budget = Budget { freeze: 1, deposed: 1, breach: 1, hours: 1, ..NONE };
    let plan = switch_bake().one_way_job("contract").no_return();
    let sim = Sim::new("no_return", plan, budget).from(|status| status.phase.as_deref() == Some("bake"));
    explore(sim, &[Reached::PassedThePointOfNoReturn, Reached::TookBackWhileCrossing]);
}

#[test]
fn two_services() {
    let budget = Budget { freeze: 1, breach: 1, old_side_dies: 1, hours: 1, ..NONE };
    let plan = migration().switch("cut-over", &[STOCK, ORDERS]).bake("bake", 60);
    explore(Sim::new("two_services", plan, budget).from_claimed(), &[Reached::RolledBackByEvidence]);
}

#[test]
fn deletion() {
    let budget = Budget { freeze: 1, delete: 1, breach: 1, old_side_dies: 1, hours: 1, ..NONE };
    let plan = migration().job("expand").switch("cut-over", &[STOCK]).bake("bake", 60);
    explore(Sim::new("deletion", plan, budget).from_claimed(), &[Reached::LetGo]);
}
