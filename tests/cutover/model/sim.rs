//! Two stores, two streams, clients and agents, as far as the course of a move can tell them from real ones.

use std::collections::BTreeMap;

use alongside::{
    stores::postgres::{gate::Gate, replication::Stream},
    worker::agent::course::{
        Clients, Goal, Next, Pair, Plan, Seen, Side, Step, StreamState, Wait, World, next, source,
    },
};

/// Terms that a schedule asks for: there, back, and there again.
pub const LAST_TERM: u32 = 3;

/// A rule left out, to see that the model misses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// None.
    Sound,
    /// Advancing the slot is all: the reader isn't told where to begin.
    SlotAlone,
    /// A commit goes through although the fence's session has ended.
    CommitUnfenced,
    /// The commit doesn't wait until the other side has everything.
    NoCatchUp,
    /// The other side's gate opens when the move is begun.
    OpenEarly,
    /// The stream back is enabled while the other is still there.
    EnableFirst,
    /// The sequence alone is changed at the commit point.
    SequenceAlone,
    /// A move is taken back without a fence although the other side has been opened.
    TurnsBackOpened,
}

#[derive(Clone, Debug, Default)]
pub struct Store {
    pub open: bool,
    pub lets_in: bool,
    pub term: u32,
    intent: u32,
    pub guarded: bool,
    /// How often each write is there.
    rows: BTreeMap<u32, u32>,
    /// Everything committed, in order; streams read this.
    log: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// The next entry of the source's log, as the source's memory has it.
    slot: Option<usize>,
    /// The same as its disk has it.
    slot_on_disk: usize,
    /// A subscription, and whether it applies.
    subscribed: Option<bool>,
    /// The next entry, as the reader has it.
    origin: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Agent {
    generation: u32,
    world: Option<World>,
    known: u32,
    clients: Clients,
    holds: bool,
    marks: (bool, bool, bool),
}

pub struct Model {
    mutant: Mutant,
    pub stores: Pair<Store>,
    forward: Flow,
    reverse: Flow,
    service: Side,
    paused: bool,
    /// The generation whose session holds the fence, and where.
    fence: Option<(u32, Side)>,
    generation: u32,
    pub agent: Agent,
    frozen: Option<Agent>,
    wanted: u32,
    written: u32,
    acknowledged: Vec<u32>,
    pub moves: u32,
    violation: Option<String>,
}

impl Model {
    pub fn new(mutant: Mutant) -> Self {
        let blue = Store { open: true, lets_in: true, ..Store::default() };
        let forward = Flow { slot: Some(0), subscribed: Some(true), ..Flow::default() };
        let mut model = Self {
            mutant,
            stores: Pair { blue, green: Store::default() },
            forward,
            reverse: Flow::default(),
            service: Side::Blue,
            paused: false,
            fence: None,
            generation: 0,
            agent: Agent {
                generation: 0,
                world: None,
                known: 0,
                clients: Clients::Unknown,
                holds: false,
                marks: Default::default(),
            },
            frozen: None,
            wanted: 0,
            written: 0,
            acknowledged: Vec::new(),
            moves: 0,
            violation: None,
        };
        model.succeed();
        model
    }

    /// A new agent takes over: its predecessor's sessions end.
    fn succeed(&mut self) {
        self.generation += 1;
        self.fence = None;
        self.agent = Agent {
            generation: self.generation,
            world: None,
            known: 0,
            clients: Clients::Unknown,
            holds: false,
            marks: Default::default(),
        };
    }

    fn flow(&mut self, stream: Stream) -> &mut Flow {
        match stream {
            Stream::Forward => &mut self.forward,
            Stream::Reverse => &mut self.reverse,
        }
    }

    fn write(&mut self, side: Side) {
        self.written += 1;
        let id = self.written;
        let fenced = self.fence.is_some_and(|(_, on)| on == side);
        let store = self.stores.of_mut(side);
        // Before the gate is on its tables nothing keeps a client off the side that nobody writes to.
        if store.lets_in && !fenced {
            *store.rows.entry(id).or_default() += 1;
            store.log.push(id);
            self.acknowledged.push(id);
        }
    }

    /// Applies one change; false if there is none to apply.
    fn apply(&mut self, stream: Stream) -> bool {
        let flow = *self.flow(stream);
        let (Some(slot), Some(true)) = (flow.slot, flow.subscribed) else { return false };
        let at = slot.max(flow.origin);
        let Some(id) = self.stores.of(source(stream)).log.get(at).copied() else { return false };
        let target = self.stores.of_mut(source(stream).other());
        *target.rows.entry(id).or_default() += 1;
        target.log.push(id);
        let flow = self.flow(stream);
        (flow.slot, flow.origin) = (Some(at + 1), at + 1);
        true
    }

    pub fn observe(&self, agent: &Agent) -> World {
        let seen = |store: &Store| {
            let Store { open, lets_in, term, intent, guarded, rows: _, log: _ } = store;
            let gate = Gate { open: *open, lets_in: *lets_in, term: *term, intent: *intent, forced: false };
            Some(Seen { gate, guarded: *guarded })
        };
        let state = |flow: &Flow| match (flow.slot, flow.subscribed) {
            (None, None) => StreamState::Absent,
            (Some(_), Some(true)) => StreamState::Enabled,
            (Some(_), Some(false)) => StreamState::Ready,
            (Some(_), None) | (None, Some(_)) => StreamState::Broken,
        };
        let (blue, green) = (seen(&self.stores.blue), seen(&self.stores.green));
        World {
            sides: Pair { blue, green },
            known: agent.known.max(self.stores.blue.term).max(self.stores.green.term),
            forward: Some(state(&self.forward)),
            reverse: Some(state(&self.reverse)),
            close: true,
            busy: false,
            changed: false,
            clients: agent.clients,
            leads_to: Some(self.service),
            fenced: agent.holds,
            caught_up: agent.marks.0,
            sequences: agent.marks.1,
            advanced: agent.marks.2,
        }
    }

    /// One turn of the agent: looks, unless clients wait, and does a step, or a half of it and dies.
    fn turn(&mut self, dies_midway: bool, answer_is_lost: bool) {
        let mut agent = self.agent;
        let world = agent.world.unwrap_or_else(|| self.observe(&agent));
        agent.known = world.known;
        let goal = if self.wanted == 0 { Goal::Stay } else { Goal::Move(self.wanted) };
        let step = match next(goal, Plan { way_back: true }, &world) {
            Next::Do(step) => step,
            Next::Wait(Wait::Flip(side)) => {
                // The operator's part, by compare-and-swap; it may come at any later moment.
                self.service = side;
                agent.world = None;
                self.agent = agent;
                return;
            }
            next @ (Next::Wait(_) | Next::Settled) => {
                if next == Next::Settled {
                    // A move that was taken back before it was opened is followed by the operator like any other.
                    self.service = Side::serving(world.known);
                }
                agent.world = None;
                self.agent = agent;
                return;
            }
        };
        let step = self.mutated(step);
        let done = self.perform(&mut agent, step, dies_midway);
        if dies_midway {
            self.succeed();
            return;
        }
        agent.world = (done && step.is_urgent() && !answer_is_lost).then(|| world.after(step));
        if !done {
            // Gives the attempt up.
            (agent.holds, agent.marks) = (false, Default::default());
            if self.fence.is_some_and(|(generation, _)| generation == agent.generation) {
                self.fence = None;
            }
            self.paused = false;
            agent.clients = Clients::Flowing;
        }
        self.agent = agent;
    }

    fn mutated(&mut self, step: Step) -> Step {
        match (self.mutant, step) {
            (Mutant::OpenEarly, Step::Intend(term)) => {
                let to = self.stores.of_mut(Side::serving(term));
                to.lets_in = true;
            }
            (Mutant::TurnsBackOpened, Step::Intend(term)) => return Step::Open(term),
            (Mutant::EnableFirst, Step::Drop(stream)) => {
                let back = source(stream).other().feeds();
                if self.flow(back).subscribed == Some(false) {
                    return Step::Enable(back);
                }
            }
            _ => {}
        }
        step
    }

    /// Does a step, or its first half. False if it was refused.
    fn perform(&mut self, agent: &mut Agent, step: Step, half: bool) -> bool {
        let current = agent.generation == self.generation;
        let holds = self.fence.is_some_and(|(generation, _)| generation == agent.generation);
        if !current && !matches!(step, Step::Pause | Step::Resume) {
            return false;
        }
        match step {
            Step::Guard(side) => self.stores.of_mut(side).guarded = true,
            Step::Mend(side) => {
                let store = self.stores.of_mut(side);
                store.lets_in = store.open;
            }
            Step::Lift => {
                (agent.holds, agent.marks) = (false, Default::default());
                if holds {
                    self.fence = None;
                }
            }
            Step::Resume => (self.paused, agent.clients) = (false, Clients::Flowing),
            Step::Pause => (self.paused, agent.clients) = (true, Clients::Paused),
            Step::Prepare(stream) => {
                let end = self.stores.of(source(stream)).log.len();
                let flow = self.flow(stream);
                if flow.slot.is_none() {
                    *flow = Flow { slot: Some(end), slot_on_disk: end, ..*flow };
                }
                if !half {
                    (flow.subscribed, flow.origin) = (Some(false), 0);
                }
            }
            Step::Drop(stream) => {
                let flow = self.flow(stream);
                flow.subscribed = None;
                if !half {
                    *flow = Flow::default();
                }
            }
            Step::Enable(stream) => self.flow(stream).subscribed = Some(true),
            Step::Intend(term) => self.stores.of_mut(Side::serving(term).other()).intent = term,
            Step::Fence(term) => {
                let side = Side::serving(term).other();
                let store = self.stores.of(side);
                if !store.open || store.term + 1 != term {
                    return false;
                }
                self.fence = Some((agent.generation, side));
                (agent.holds, agent.marks) = (true, Default::default());
            }
            Step::CatchUp => return self.catch_up(agent),
            Step::Sequences => agent.marks.1 = true,
            Step::Advance(stream) => {
                let end = self.stores.of(source(stream)).log.len();
                let alone = self.mutant == Mutant::SlotAlone;
                let flow = self.flow(stream);
                flow.slot = Some(end);
                if !alone {
                    flow.origin = end;
                }
                agent.marks.2 = true;
            }
            Step::Commit(term) => return self.commit(agent, term, holds, half),
            Step::Open(term) => {
                let store = self.stores.of_mut(Side::serving(term));
                (store.open, store.term) = (true, term);
                if !half {
                    store.lets_in = true;
                }
            }
            Step::Force(_) | Step::ShutLate(_) => self.violation = Some(format!("{step:?} without being forced")),
        }
        true
    }

    fn catch_up(&mut self, agent: &mut Agent) -> bool {
        agent.marks.0 = true;
        if self.mutant == Mutant::NoCatchUp {
            return true;
        }
        let Some((_, side)) = self.fence else { return true };
        let stream = side.feeds();
        while self.apply(stream) {}
        let flow = *self.flow(stream);
        flow.subscribed == Some(true) && flow.slot.is_some()
    }

    fn commit(&mut self, agent: &mut Agent, term: u32, holds: bool, half: bool) -> bool {
        (agent.holds, agent.marks) = (false, Default::default());
        if !holds && self.mutant != Mutant::CommitUnfenced {
            return false;
        }
        let old = self.stores.of_mut(Side::serving(term).other());
        old.lets_in = false;
        if !half && self.mutant != Mutant::SequenceAlone {
            (old.open, old.term) = (false, term);
            self.moves += 1;
        }
        self.fence = None;
        agent.known = agent.known.max(term);
        true
    }

    /// A store crashes and comes up again: what wasn't on its disk is as it was.
    fn crash(&mut self, side: Side) {
        let flow = self.flow(side.feeds());
        flow.slot = flow.slot.map(|_| flow.slot_on_disk);
        if self.fence.is_some_and(|(_, on)| on == side) {
            self.fence = None;
        }
    }

    pub fn event(&mut self, choice: u8) {
        match choice % 32 {
            0..=4 => self.write(Side::Blue),
            5..=9 => self.write(Side::Green),
            10..=12 => drop(self.apply(Stream::Forward)),
            13..=15 => drop(self.apply(Stream::Reverse)),
            16..=23 => self.turn(false, false),
            24 => self.turn(true, false),
            25 => self.turn(false, true),
            26 => {
                // The deadline: the server ends the fence's session, and the agent doesn't know.
                self.fence = None;
            }
            27 => {
                self.frozen = Some(self.agent);
                self.succeed();
            }
            28 => self.thaw(),
            29 => self.crash(Side::Blue),
            30 => self.crash(Side::Green),
            _ => self.wanted = (self.stores.blue.term.max(self.stores.green.term) + 1).min(LAST_TERM),
        }
    }

    /// A frozen agent does what it had decided, finds its sessions gone, and ends.
    fn thaw(&mut self) {
        let Some(mut thawed) = self.frozen.take() else { return };
        let world = thawed.world.unwrap_or_else(|| self.observe(&thawed));
        if let Next::Do(step) = next(Goal::Move(self.wanted.max(1)), Plan { way_back: true }, &world) {
            self.perform(&mut thawed, step, false);
            // Whatever it had paused, it lets go on.
            self.paused = false;
        }
    }

    pub fn check(&self) -> Result<(), String> {
        if let Some(violation) = &self.violation {
            return Err(violation.clone());
        }
        let accepts = |side: Side| self.stores.of(side).lets_in && self.fence.is_none_or(|(_, on)| on != side);
        if accepts(Side::Blue) && accepts(Side::Green) {
            return Err("both sides take writes".into());
        }
        if self.forward.subscribed == Some(true) && self.reverse.subscribed == Some(true) {
            return Err("both streams apply".into());
        }
        Ok(())
    }

    /// Nothing fails any more: the last move is made, and both sides are told everything.
    pub fn settle(&mut self) -> Result<(), String> {
        self.wanted = LAST_TERM;
        for round in 0..200 {
            self.turn(false, false);
            if round % 3 == 0 {
                // A stream that is too slow is nobody's fault here.
                let _ = self.apply(Stream::Forward) || self.apply(Stream::Reverse);
            }
            self.check()?;
            let term = self.stores.blue.term.max(self.stores.green.term);
            if term < LAST_TERM {
                self.wanted = term + 1;
            }
        }
        while self.apply(Stream::Forward) {}
        while self.apply(Stream::Reverse) {}
        let serving = Side::serving(LAST_TERM);
        for _ in 0..3 {
            self.write(serving);
        }
        while self.apply(serving.feeds()) {}
        if !self.stores.of(serving).lets_in || self.paused || self.service != serving {
            return Err(format!("it doesn't come to rest: {:?}", self.observe(&self.agent)));
        }
        for side in Side::ALL {
            let rows = &self.stores.of(side).rows;
            for id in &self.acknowledged {
                let count = rows.get(id).copied().unwrap_or(0);
                if count != 1 {
                    return Err(format!("write {id} is on {} {count} times", side.as_str()));
                }
            }
            if rows.len() != self.acknowledged.len() {
                return Err(format!("{} has writes that nobody made", side.as_str()));
            }
        }
        Ok(())
    }
}
