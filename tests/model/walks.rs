//! Random walks: larger plans and larger budgets than can be explored to their end. Each walk has a seed, and one that
//! breaks a promise prints its seed and its steps.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use alongside::engine::{Plans, decide, effect::Effect};
use stateright::Model;

use crate::{
    explore::step_text,
    fixture::{Migrating, ORDERS, STOCK, migration},
    kept::Kept,
    people::{Event, events, happens},
    promises::Promise,
    sim::{Action, Sim},
    state::{Budget, State},
};

/// Most steps of one walk.
const STEPS: usize = 600;

const MUCH: Budget = Budget {
    freeze: 1,
    deposed: 2,
    crash: 3,
    lost: 3,
    twice: 2,
    old_status: 3,
    old_jobs: 3,
    breach: 3,
    silence: 2,
    old_side_dies: 2,
    new_side_dies: 2,
    foreign: 2,
    abort: 1,
    rollback: 1,
    pause: 2,
    approve: 4,
    retry: 3,
    delete: 0,
    job_fails: 4,
    job_vanishes: 1,
    agent_dies: 1,
    hours: 12,
};

/// Chance by a seed: splitmix64, the same on every machine and in every version.
#[derive(Clone)]
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % bound.max(1) as u64).expect("a rest below a usize is one")
    }
}

fn plans() -> Vec<(&'static str, Migrating)> {
    vec![
        (
            "whole",
            migration().job("expand").switch("cut-over", &[STOCK]).bake("bake", 60).one_way_job("contract").no_return(),
        ),
        ("two", migration().job("expand").switch("cut-over", &[STOCK, ORDERS]).bake("bake", 60).job("tidy").approved()),
        (
            "two_switches",
            migration().switch("first", &[STOCK]).job("between").switch("second", &[ORDERS]).bake("bake", 60),
        ),
        ("scripts", migration().sql("expand").retries(1).switch("cut-over", &[STOCK]).sql("contract").no_return()),
        (
            "filled",
            migration()
                .backfill("fill")
                .switch("cut-over", &[STOCK])
                .bake("bake", 60)
                .one_way_job("contract")
                .no_return(),
        ),
        ("late", migration().job("expand").timeout(1800).switch("cut-over", &[STOCK]).bake("bake", 60).job("tidy")),
    ]
}

/// What goes on is likelier than what goes wrong, or no walk would get far.
fn weight(action: &Action) -> usize {
    match action {
        Action::PutLands { answer_lost: false, .. }
        | Action::AtOnceLands { twice: false, .. }
        | Action::EffectLands { answer_lost: false, twice: false, .. } => 24,
        Action::Decide { old_status: false, old_jobs: false, .. } => 16,
        Action::Happens(Event::JobSucceeds(_) | Event::AnHourPasses | Event::Approves | Event::Unpauses) => 6,
        Action::Happens(
            Event::GuardsPass | Event::OldSideReturns | Event::NewSideReturns | Event::Retries | Event::Someone(_),
        ) => 2,
        Action::Decide { .. }
        | Action::PutLands { .. }
        | Action::AtOnceLands { .. }
        | Action::EffectLands { .. }
        | Action::Freeze
        | Action::Crash
        | Action::Happens(_) => 1,
    }
}

/// Walks once. Returns how many steps it took.
fn walk(sim: &Sim, seed: u64, say: bool) -> usize {
    let mut chance = Chance(seed);
    let mut state = sim.start.clone();
    let mut log: Vec<(State, Action)> = Vec::new();
    for step in 0..STEPS {
        let mut actions = Vec::new();
        sim.actions(&state, &mut actions);
        let total = actions.iter().map(weight).sum();
        let mut left = chance.below(total);
        let chosen = actions.into_iter().find(|action| {
            let here = left < weight(action);
            left = left.saturating_sub(weight(action));
            here
        });
        let Some(action) = chosen else { return step };
        if say {
            eprintln!("{}", step_text(&state, Some(&action)));
        }
        let Some(next) = sim.next_state(&state, action) else { continue };
        log.push((std::mem::replace(&mut state, next), action));
        // The way on is worked out for one state in sixteen: it takes as long as the walk itself.
        let all = step % 16 == 0;
        let kept = |promise: &Promise| match promise {
            Promise::EveryRunCanComeToItsEnd => !all || sim.keeps(&state, *promise),
            _ => sim.keeps(&state, *promise),
        };
        if let Some(broken) = Promise::ALL.into_iter().find(|promise| !kept(promise)) {
            let steps: String = log.iter().map(|(state, action)| step_text(state, Some(action))).collect();
            let end = step_text(&state, None);
            panic!("{} seed {seed}: {} is broken:\n{steps}{end}", sim.name, broken.name());
        }
    }
    STEPS
}

/// Walks from each plan as often as said, with seeds that follow from the first.
fn walks(count: u64, first: u64) {
    for (at, (name, plan)) in plans().into_iter().enumerate() {
        let began = Instant::now();
        let sim = Sim::new(name, &plan, if at == 4 { Budget { delete: 1, ..MUCH } } else { MUCH });
        let steps: usize = (first..first + count).map(|seed| walk(&sim, seed, false)).sum();
        eprintln!(
            "model walks of {name}: {count} from seed {first}, {steps} steps, {} decisions, {} writes refused, {:.1?}",
            sim.seen.decisions.load(Relaxed),
            sim.seen.late_writes_refused.load(Relaxed),
            began.elapsed(),
        );
    }
}

#[test]
fn no_walk_breaks_a_promise() {
    walks(300, 1);
}

#[test]
#[ignore = "minutes: part of the soak"]
fn no_walk_of_many_breaks_a_promise() {
    let seed = std::env::var("MODEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_000_000);
    let count = std::env::var("MODEL_WALKS").ok().and_then(|count| count.parse().ok()).unwrap_or(20_000);
    walks(count, seed);
}

/// Decisions by a whole status and by what the model keeps of it are the same.
#[test]
fn the_model_forgets_nothing_that_the_engine_reads() {
    for (name, plan) in plans() {
        let sim = Sim::new(name, &plan, MUCH);
        for seed in 0..20 {
            let mut chance = Chance(seed);
            let mut state = sim.start.clone();
            let mut whole = (*state.server.object.status).clone();
            for _ in 0..150 {
                let server = &state.server;
                let world = sim.world(server, &server.object, &server.services, &server.jobs);
                let frozen = (world.plan_stored && whole.plan.is_some()).then_some(&sim.plan);
                let plans = Plans { frozen, candidate: Ok(&sim.plan) };
                let by_whole = decide(&plans, &whole, &world, Sim::now(server));
                let by_kept = sim.decide(server, &server.object, &server.services, &server.jobs);
                assert_eq!(*Kept::status(by_whole.status.clone()), *by_kept.status, "{name}, seed {seed}");
                let effects =
                    |kept: &[Kept<Effect>]| -> Vec<Effect> { kept.iter().map(|effect| (**effect).clone()).collect() };
                assert_eq!(by_whole.at_once, effects(&by_kept.at_once), "{name}, seed {seed}");
                assert_eq!(by_whole.after, effects(&by_kept.after), "{name}, seed {seed}");
                assert_eq!(by_whole.wake.is_some(), by_kept.wakes, "{name}, seed {seed}");
                whole = by_whole.status;
                let Some(next) = sim.turn(&state) else { break };
                state = next;
                state.budget = MUCH;
                let events = events(&sim, &state);
                if chance.below(3) > 0 && !events.is_empty() {
                    let event = events[chance.below(events.len())];
                    state = happens(&sim, &state, event).unwrap_or(state);
                }
            }
        }
    }
}
