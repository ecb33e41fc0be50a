//! What happens to the cluster beside the operators: pods come and go, numbers turn, people lend a hand.

use alongside::{
    api::State as Life,
    engine::{
        effect::JobRole,
        verb,
        world::{JobState, Lifecycle, Side, Verbs},
    },
};

use crate::{
    cluster::Job,
    kept::Kept,
    sim::Sim,
    state::{Mood, State},
    stores::COPY,
};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    GuardsBreach,
    GuardsFallSilent,
    GuardsPass,
    OldSideDies,
    OldSideReturns,
    NewSideDies,
    NewSideReturns,
    Someone(Hand),
    Aborts,
    AsksForRollback,
    Pauses,
    Unpauses,
    Approves,
    Retries,
    Deletes,
    /// The n-th Job at work.
    JobSucceeds(usize),
    JobFails(usize),
    JobVanishes(usize),
    /// The agent that keeps two stores in step does what it has to do next.
    AgentActs,
    AgentDies,
    AnHourPasses,
}

/// What somebody does to the first Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hand {
    SetsItBack,
    SetsItForward,
    SetsAThirdValue,
    StripsTheMark,
    ReplacesIt,
    DeletesIt,
}

const HANDS: [Hand; 6] = [
    Hand::SetsItBack,
    Hand::SetsItForward,
    Hand::SetsAThirdValue,
    Hand::StripsTheMark,
    Hand::ReplacesIt,
    Hand::DeletesIt,
];

/// Names of the Jobs that work.
pub fn jobs_at_work(state: &State) -> Vec<String> {
    // An agent's ends only when it is stopped.
    let conducts = |job: &Job| job.phase == COPY && job.role == JobRole::Do;
    let active = state.server.jobs.iter().filter(|(_, job)| job.state == JobState::Active && !conducts(job));
    active.map(|(name, _)| name.clone()).collect()
}

/// What may happen in a state.
pub fn events(sim: &Sim, state: &State) -> Vec<Event> {
    let budget = &state.budget;
    let server = &state.server;
    let status = &server.object.status;
    let verbs = &server.object.verbs;
    let ended = matches!(status.state, Life::Succeeded | Life::RolledBack);
    let under_way = !ended && status.plan.is_some();
    let sides = |serves: fn(&crate::cluster::Service) -> u32| server.services.values().any(|s| serves(s) > 0);
    let mut events = Vec::new();
    let mut may = |possible: bool, event: Event| {
        if possible {
            events.push(event);
        }
    };
    may(under_way && budget.breach > 0 && server.mood == Mood::Pass, Event::GuardsBreach);
    may(under_way && budget.silence > 0 && server.mood == Mood::Pass, Event::GuardsFallSilent);
    may(server.mood != Mood::Pass, Event::GuardsPass);
    let (old, new) = (sides(|s| s.from_serving), sides(|s| s.to_serving));
    may(!ended && budget.old_side_dies > 0 && old, Event::OldSideDies);
    may(!old && !server.services.is_empty(), Event::OldSideReturns);
    may(!ended && budget.new_side_dies > 0 && new, Event::NewSideDies);
    may(!new && !server.services.is_empty(), Event::NewSideReturns);
    if !ended && budget.foreign > 0 {
        for hand in HANDS {
            may(true, Event::Someone(hand));
        }
    }
    may(under_way && budget.abort > 0, Event::Aborts);
    may(under_way && budget.rollback > 0, Event::AsksForRollback);
    may(under_way && budget.pause > 0 && verbs.pause.is_none(), Event::Pauses);
    may(verbs.pause.is_some(), Event::Unpauses);
    let asks = status.hold.as_ref().is_some_and(|hold| hold.reason == "Approval");
    may(asks && budget.approve > 0, Event::Approves);
    let stalled = status.state == Life::Stalled || status.state == Life::RolledBack;
    may(stalled && budget.retry > 0 && status.attempt < 2, Event::Retries);
    may(!ended && budget.delete > 0, Event::Deletes);
    for (which, _) in jobs_at_work(state).iter().enumerate() {
        may(true, Event::JobSucceeds(which));
        may(budget.job_fails > 0, Event::JobFails(which));
        may(budget.job_vanishes > 0, Event::JobVanishes(which));
    }
    may(server.cluster().agent_acts(), Event::AgentActs);
    may(!ended && budget.agent_dies > 0 && server.rest.stores.agent.is_some(), Event::AgentDies);
    may(!ended && budget.hours > 0, Event::AnHourPasses);
    let _ = sim;
    events
}

/// Lets something happen.
pub fn happens(sim: &Sim, state: &State, event: Event) -> Option<State> {
    let mut next = state.clone();
    let budget = &mut next.budget;
    let all = |next: &mut State, change: fn(&mut crate::cluster::Service)| {
        let names: Vec<String> = next.server.services.keys().cloned().collect();
        for name in names {
            next.server.edit_service(&name, change);
        }
    };
    match event {
        Event::GuardsBreach => {
            budget.breach -= 1;
            next.server.mood = Mood::Breach;
        }
        Event::GuardsFallSilent => {
            budget.silence -= 1;
            next.server.mood = Mood::Silent;
        }
        Event::GuardsPass => next.server.mood = Mood::Pass,
        Event::OldSideDies => {
            budget.old_side_dies -= 1;
            all(&mut next, |service| service.from_serving = 0);
        }
        Event::OldSideReturns => all(&mut next, |service| service.from_serving = 3),
        Event::NewSideDies => {
            budget.new_side_dies -= 1;
            all(&mut next, |service| service.to_serving = 0);
        }
        Event::NewSideReturns => all(&mut next, |service| service.to_serving = 3),
        Event::Someone(hand) => {
            budget.foreign -= 1;
            lend(&mut next, hand)?;
        }
        Event::Aborts => {
            budget.abort -= 1;
            set_verb(&mut next, |verbs, bound| verbs.abort = Some(bound));
        }
        Event::AsksForRollback => {
            budget.rollback -= 1;
            set_verb(&mut next, |verbs, bound| verbs.rollback = Some(bound));
        }
        Event::Pauses => {
            budget.pause -= 1;
            set_verb(&mut next, |verbs, bound| verbs.pause = Some(bound));
        }
        Event::Unpauses => {
            let verbs = Verbs { pause: None, ..(*next.server.object.verbs).clone() };
            next.server.object.verbs = Kept::new(verbs);
        }
        Event::Approves => {
            budget.approve -= 1;
            approve(&mut next);
        }
        Event::Retries => {
            budget.retry -= 1;
            retry(&mut next);
        }
        Event::Deletes => {
            budget.delete -= 1;
            next.server.object.lifecycle = Lifecycle::Deleting;
        }
        Event::JobSucceeds(which) => {
            let name = jobs_at_work(state)[which].clone();
            succeed(sim, &mut next, &name);
        }
        Event::JobFails(which) => {
            budget.job_fails -= 1;
            let name = jobs_at_work(state)[which].clone();
            let failed = JobState::Failed { message: "no".to_owned(), terminal: false };
            next.server.edit_jobs(|jobs| {
                if let Some(job) = jobs.get_mut(&name) {
                    job.state = failed;
                }
            });
        }
        Event::JobVanishes(which) => {
            budget.job_vanishes -= 1;
            let name = jobs_at_work(state)[which].clone();
            next.server.edit_jobs(|jobs| {
                jobs.remove(&name);
            });
        }
        Event::AgentActs => agent_acts(&mut next),
        Event::AgentDies => {
            budget.agent_dies -= 1;
            let mut cluster = next.server.cluster();
            cluster.agent_dies();
            next.server.set_cluster(cluster);
        }
        Event::AnHourPasses => {
            budget.hours -= 1;
            next.server.clock += 1;
        }
    }
    Some(next)
}

/// The agent takes a turn.
pub fn agent_acts(next: &mut State) {
    let mut cluster = next.server.cluster();
    cluster.agent_acts();
    next.server.set_cluster(cluster);
}

/// A Job comes to its good end.
pub fn succeed(sim: &Sim, next: &mut State, name: &str) {
    let job = next.server.jobs[name].clone();
    next.server.edit_jobs(|jobs| {
        if let Some(job) = jobs.get_mut(name) {
            job.state = JobState::Succeeded { message: String::new() };
        }
    });
    if job.role != JobRole::Preflight && job.phase == COPY {
        next.look_at_leaving();
        let mut cluster = next.server.cluster();
        cluster.stores.leave();
        next.server.set_cluster(cluster);
    }
    if job.role != JobRole::Preflight {
        let phase = sim.plan.index_of(&job.phase).expect("a Job works for a phase of the plan");
        next.look_at_success(sim, job.attempt, phase, job.role);
    }
}

fn set_verb(next: &mut State, set: fn(&mut Verbs, String)) {
    let status = &next.server.object.status;
    let Some(plan) = &status.plan else { return };
    let bound = verb::binding("*", &plan.hash, status.attempt);
    let mut verbs = (*next.server.object.verbs).clone();
    set(&mut verbs, bound);
    next.server.object.verbs = Kept::new(verbs);
}

/// Approves the phase that asks for it.
pub fn approve(next: &mut State) {
    let status = next.server.object.status.clone();
    let (Some(plan), Some(phase)) = (&status.plan, &status.phase) else { return };
    let bound = verb::binding(phase, &plan.hash, status.attempt);
    let verbs = Verbs { approve: Some(bound), ..(*next.server.object.verbs).clone() };
    next.server.object.verbs = Kept::new(verbs);
}

/// Asks for whatever has failed to be tried again: the try that failed last, or the whole.
pub fn retry(next: &mut State) {
    let status = next.server.object.status.clone();
    let tries = status.phases.iter().map(|phase| phase.tries.max(phase.undo_tries)).max().unwrap_or(0);
    let failed = status.hold.as_ref().map(|hold| hold.reason.clone());
    let names_try = matches!(failed.as_deref(), Some("UndoFailed" | "FailedForGood"));
    set_verb(next, |verbs, bound| verbs.retry = Some(bound));
    if names_try && status.state != Life::RolledBack {
        let mut verbs = (*next.server.object.verbs).clone();
        verbs.retry = verbs.retry.map(|bound| format!("{bound}/{tries}"));
        next.server.object.verbs = Kept::new(verbs);
    }
}

fn lend(next: &mut State, hand: Hand) -> Option<()> {
    let name = next.server.services.keys().next()?.clone();
    let service = next.server.services[&name].clone();
    let mut ledger = (*next.ledger).clone();
    let went_back = service.points_at(Side::To) && ledger.moved.contains(&name);
    ledger.touched = true;
    ledger.went_back = false;
    let set = |next: &mut State, version: &'static str| {
        next.server.edit_service(&name, |service| {
            service.selector.insert("version".to_owned(), version.to_owned());
        });
    };
    match hand {
        Hand::SetsItBack => {
            ledger.taken_back_by_others.extend(went_back.then(|| name.clone()));
            set(next, "v1");
        }
        Hand::SetsItForward => set(next, "v2"),
        Hand::SetsAThirdValue => set(next, "v7"),
        Hand::StripsTheMark => next.server.edit_service(&name, |service| service.mark = None),
        Hand::ReplacesIt => {
            ledger.taken_back_by_others.extend(went_back.then(|| name.clone()));
            next.server.edit_service(&name, |service| {
                service.mark = None;
                service.uid.push('!');
            });
            set(next, "v1");
        }
        Hand::DeletesIt => {
            let mut services = (*next.server.services).clone();
            services.remove(&name);
            next.server.services = Kept::new(services);
        }
    }
    next.ledger = Kept::new(ledger);
    Some(())
}
