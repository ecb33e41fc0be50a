//! Exhaustive runs: everything that a budget allows, in every order.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    fixture::{STOCK, migration},
    sim::Sim,
    state::Budget,
};

/// Explores a model to its end. Fails with the steps that lead to a broken promise.
fn explore(sim: Sim) {
    let name = sim.name;
    let began = Instant::now();
    let checker = sim.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let discoveries = checker.discoveries();
    if let Some((promise, path)) = discoveries.iter().next() {
        let mut text = String::new();
        for (state, action) in path.clone().into_vec() {
            let status = &state.server.object.status;
            let marks: Vec<_> = state
                .server
                .services
                .values()
                .map(|s| (s.selector["version"].clone(), s.mark.as_ref().map(ToString::to_string)))
                .collect();
            let steps: Vec<_> = status.traffic.iter().map(|t| t.step).collect();
            text += &format!(
                "  {:?} {:?} {:?} {steps:?} {marks:?}\n    {:?}\n",
                status.state,
                status.phase,
                status.hold.as_ref().map(|h| &h.reason),
                action
            );
        }
        panic!("{name}: {promise} is broken:\n{text}");
    }
    let seen = &checker.model().seen;
    eprintln!(
        "model {name}: {} states, depth {}, {} decisions, {:?}; refused {:?} late writes",
        checker.unique_state_count(),
        checker.max_depth(),
        seen.decisions.load(std::sync::atomic::Ordering::Relaxed),
        began.elapsed(),
        seen.late_writes_refused,
    );
}

#[test]
fn a_switch_survives_a_frozen_leader() {
    let budget = Budget { freeze: 1, breach: 1, hours: 1, ..Budget::default() };
    explore(Sim::new("frozen", migration().switch("cut-over", &[STOCK]).bake("bake", 60), budget));
}
