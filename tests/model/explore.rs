//! Exploring a model: to its end, or to the promise that a mutant breaks.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::{
    mutants::Mutant,
    promises::Promise,
    properties::Reached,
    sim::{Action, Sim},
    state::{Budget, State},
};

/// Nothing goes wrong.
pub const NONE: Budget = Budget {
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
    agent_dies: 0,
    hours: 0,
};

/// The steps of a path, with what a reader needs to follow them.
fn steps(path: Path<State, Action>) -> String {
    path.into_vec().into_iter().map(|(state, action)| step_text(&state, action.as_ref())).collect()
}

/// A state and the step that is taken from it.
pub fn step_text(state: &State, action: Option<&Action>) -> String {
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
    let jobs: Vec<String> = state
        .server
        .jobs
        .values()
        .map(|job| format!("{}/{}/{}/{} {:?}", job.phase, job.role.name(), job.attempt, job.tries, job.state))
        .collect();
    let traffic: Vec<_> = status.traffic.iter().map(|traffic| traffic.step).collect();
    let phases: Vec<_> = status.phases.iter().map(|phase| phase.state).collect();
    let hold = status.hold.as_ref().map_or("", |hold| &hold.reason);
    let (attempt, mood) = (status.attempt, state.server.mood);
    let next = action.map_or_else(String::new, |action| format!("{action:?}"));
    format!(
        "  {:?} {hold} attempt {attempt} {traffic:?} {phases:?} {services:?} {jobs:?} {mood:?} hour {}\n    {next}\n",
        status.state, state.server.clock
    )
}

/// Explores a model to its end. Fails with the steps that lead to a broken promise, or if it has not reached what it is
/// there to reach.
pub fn explore(sim: Sim, reaches: &[Reached]) {
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

/// Explores a model with a rule switched off, until the promise that the rule keeps is broken.
pub fn catch(sim: Sim, mutant: Mutant, promise: Promise) {
    let sim = sim.without(mutant);
    let name = sim.name;
    let until = HasDiscoveries::AnyOf([promise.name()].into());
    let checker = sim.checker().threads(2).finish_when(until).spawn_bfs().join();
    let states = checker.unique_state_count();
    let discoveries = checker.discoveries();
    let Some(path) = discoveries.get(promise.name()) else {
        let others: Vec<_> = Promise::ALL.iter().filter(|other| discoveries.contains_key(other.name())).collect();
        panic!("{mutant:?} has not broken {} in {name} ({states} states), but {others:?}", promise.name());
    };
    let length = path.clone().into_vec().len();
    eprintln!("mutant {mutant:?} breaks {} in {name} after {states} states, {length} steps", promise.name());
}
