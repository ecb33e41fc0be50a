//! Two stores and the agent between them, as far as a decision can tell them from real ones.

use alongside::engine::{
    effect::{AgentGoal, AgentOrder},
    world::{AgentView, Side, is_new_side},
};

use crate::cluster::Landed;

/// Name of the phase that keeps the stores in step.
pub const COPY: &str = "copy";

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Stores {
    /// Moves of the writes that were committed.
    pub term: u32,
    /// The side that the writes moved away from last: it was the one that lets them in.
    pub shut: bool,
    /// Slots, streams and gates are there.
    pub joined: bool,
    /// The first copy is done.
    pub copied: bool,
    /// UID of the Job whose agent runs.
    pub agent: Option<String>,
    /// It does nothing until the test says otherwise.
    pub frozen: bool,
    orders: Orders,
    /// The orders that its last look at the stores went by.
    acted_on: Orders,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Orders {
    goal: Option<u32>,
    epoch: u64,
}

impl Stores {
    /// The side that takes the writes.
    pub fn side(&self) -> Side {
        if is_new_side(self.term) { Side::To } else { Side::From }
    }

    /// An order arrives.
    pub fn hear(&mut self, order: &AgentOrder) -> Landed {
        let goal = match order.goal {
            AgentGoal::Stay => None,
            AgentGoal::CutOver { term } | AgentGoal::Back { term, .. } => Some(term),
        };
        // Of two orders with one number the first is obeyed.
        let is_late = order.epoch < self.orders.epoch || (order.epoch == self.orders.epoch && goal != self.orders.goal);
        if self.agent.is_none() || is_late {
            return Landed::Refused;
        }
        let before = std::mem::replace(&mut self.orders, Orders { goal, epoch: order.epoch });
        if before == self.orders { Landed::Same } else { Landed::Changed }
    }

    /// It forgets how high the numbers were that it has heard: a mutant of the model.
    #[allow(dead_code, reason = "the scenarios have no mutants")]
    pub fn forget_numbers(&mut self) {
        self.orders.epoch = 0;
    }

    /// The agent of a Job begins, and takes over from whichever was there.
    pub fn begin(&mut self, job: &str) {
        *self = Self {
            agent: Some(job.to_owned()),
            joined: true,
            orders: Orders::default(),
            acted_on: Orders::default(),
            ..self.clone()
        };
    }

    /// One turn of the agent. True if anything has changed.
    pub fn act(&mut self, service: Option<Side>) -> bool {
        let before = self.clone();
        if self.agent.is_none() || self.frozen {
            return false;
        }
        self.acted_on = self.orders;
        if !self.copied {
            self.copied = true;
        } else if self.orders.goal == Some(self.term + 1) {
            // A move that was never opened is taken back at once; any other leaves the Service to follow.
            self.shut = !self.shut;
            self.term += 1;
        } else if self.shut && service == Some(self.side()) {
            self.shut = false;
        }
        *self != before
    }

    /// Everything of ours is taken out of both stores.
    pub fn leave(&mut self) {
        *self = Self { frozen: self.frozen, ..Self::default() };
    }

    /// The agent is gone; what it has done stays.
    pub fn lose_agent(&mut self) {
        self.agent = None;
    }

    /// What the agent of this Job says of itself, if it runs.
    pub fn view(&self, job: &str) -> Option<AgentView> {
        if self.agent.as_deref() != Some(job) {
            return None;
        }
        let asked = self.acted_on.goal.filter(|goal| *goal > self.term);
        Some(AgentView {
            in_step: self.copied,
            term: self.copied.then_some(self.term),
            asked,
            epoch: self.acted_on.epoch,
            serves: self.copied && !self.shut,
            settled: self.copied && !self.shut && asked.is_none(),
            trouble: None,
            held: None,
            left_behind: None,
        })
    }
}
