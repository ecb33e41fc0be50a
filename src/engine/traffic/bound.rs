//! Bound switches: traffic between two stores moves only together with the writes (design section 6).
//!
//! The agent beside the stores holds the writes, lets the other store catch up and commits the move there, in its own
//! words a *term*. Here it is told where to go, and the Service follows what it has committed:
//!
//! ```text
//! forward   order the cut-over ─▶ the agent has committed it ─▶ flip the Service ─▶ confirm, drain
//! back      order the way back ─▶ the agent has committed it ─▶ move the Service back ─▶ drain
//! ```
//!
//! Before the commit an order can be taken back, and nothing has moved. After it the Service follows, whatever the guards
//! say: the store that it leaves refuses writes. What was committed is read from the agent, never from memory alone.

use crate::api::{SwitchAction, TrafficStep};

use super::{
    super::{
        draft::Draft,
        effect::{AgentGoal, AgentOrder, Effect},
        hold::Hold,
        plan::{self, Action},
        world::{AgentView, Sight, is_new_side},
    },
    has_flipped, in_effect,
};

impl Draft<'_> {
    /// Position of the phase that keeps the stores in step, once it has begun.
    pub fn conductor(&self) -> Option<usize> {
        let name = &self.status.replication.as_ref()?.phase;
        self.status.phases.iter().position(|phase| phase.name == *name)
    }

    /// What the agent said last.
    pub fn agent(&self) -> Option<&AgentView> {
        let job = self.status.phases[self.conductor()?].job.as_ref()?;
        self.world.agents.get(&job.name)
    }

    /// Waits for an agent that nobody hears. Answers false.
    fn agent_is_unseen(&mut self) -> bool {
        let phase = self.status.replication.as_ref().map(|known| known.phase.clone()).unwrap_or_default();
        self.look_again(Hold::AgentUnseen { phase })
    }

    /// Takes what the agent has committed into status.
    pub fn heed_agent(&mut self) {
        let Some(agent) = self.agent().cloned() else { return };
        let Some(known) = &mut self.status.replication else { return };
        if let Some(term) = agent.term {
            if term > known.term {
                known.held = agent.held;
            }
            known.term = known.term.max(term);
            known.ordered = known.ordered.filter(|ordered| *ordered > known.term);
        }
        if agent.serves && agent.held.is_some() {
            known.held = agent.held;
        }
        known.left_behind = agent.left_behind.or(known.left_behind);
    }

    /// Why a bound switch can't begin: the agent must be at rest, with the old store taking the writes.
    pub fn why_not_move_writes(&self, phase: &str, switch: &SwitchAction) -> Option<Hold> {
        if !plan::is_bound(switch) {
            return None;
        }
        let waits = |why: Option<String>| Some(Hold::MovingWrites { phase: phase.to_owned(), why });
        match self.agent() {
            None => Some(Hold::AgentUnseen {
                phase: self.status.replication.as_ref().map(|known| known.phase.clone()).unwrap_or_default(),
            }),
            Some(agent) if !agent.settled || agent.term.is_none() => {
                waits(agent.trouble.clone().or_else(|| Some("its agent to be at rest".to_owned())))
            }
            Some(agent) if agent.has_moved() => {
                waits(Some("the old store, as the new one takes the writes".to_owned()))
            }
            Some(_) => None,
        }
    }

    /// Tells the agent where writes are to go, unless it knows. `at_once` is lane 1's way, which waits for no record.
    fn order(&mut self, goal: AgentGoal, at_once: bool) {
        let wanted = match goal {
            AgentGoal::Stay => None,
            AgentGoal::CutOver { term } | AgentGoal::Back { term, .. } => Some(term),
        };
        let Some(known) = &self.status.replication else { return };
        if known.ordered != wanted {
            let epoch = self.next_epoch();
            let now = self.now;
            if let Some(known) = &mut self.status.replication {
                known.ordered = wanted;
                known.ordered_at = wanted.map(|_| now);
                known.epoch = epoch;
            }
        }
        let Some(known) = &self.status.replication else { return };
        let job = self.conductor().and_then(|index| self.status.phases[index].job.as_ref());
        let (Some(job), Some(agent)) = (job, self.agent()) else { return };
        // An order that was lost, or forgotten by an agent that was started again, is given again: whoever has heard the
        // highest number obeys no late one.
        if agent.asked == wanted && agent.epoch >= known.epoch {
            return;
        }
        let order = Effect::Order(AgentOrder { job: job.name.clone(), epoch: known.epoch, goal });
        if at_once {
            self.at_once.push(order);
        } else {
            self.after.push(order);
        }
    }

    /// Announces a bound switch: its Service's flip is known to come, and follows the agent's commit.
    pub fn begin_bound_switch(&mut self, entries: &[usize]) {
        for &entry in entries {
            self.announce_flip(entry);
        }
        let Some(term) = self.agent().and_then(|agent| agent.term) else { return };
        self.order(AgentGoal::CutOver { term: term + 1 }, false);
        let phase = self.status.traffic.get(entries.first().copied().unwrap_or(0)).map(|traffic| traffic.phase.clone());
        self.look_again(Hold::MovingWrites { phase: phase.unwrap_or_default(), why: None });
    }

    /// Goes on with the move of the writes. True once the new store takes them: the Service must follow. `held` is why no
    /// forward step may be taken now; then the agent leaves them where they are.
    pub fn follow_cut_over(&mut self, phase: &str, held: Option<&Hold>) -> bool {
        if self.status.replication.as_ref().is_some_and(|known| is_new_side(known.term)) {
            return true;
        }
        let Some(agent) = self.agent().cloned() else { return self.agent_is_unseen() };
        let moving = |why| Hold::MovingWrites { phase: phase.to_owned(), why };
        let Some(term) = agent.term else { return self.look_again(moving(agent.trouble)) };
        if let Some(hold) = held {
            self.order(AgentGoal::Stay, false);
            return self.look_again(hold.clone());
        }
        self.order(AgentGoal::CutOver { term: term + 1 }, false);
        self.look_again(moving(agent.trouble))
    }

    /// Whether clients of a bound Service are served by the store that takes the writes.
    pub fn is_served(&mut self) -> bool {
        let Some(agent) = self.agent().cloned() else { return self.agent_is_unseen() };
        if agent.serves {
            return true;
        }
        let phase = self.status.replication.as_ref().map(|known| known.phase.clone()).unwrap_or_default();
        self.look_again(Hold::MovingWrites { phase, why: agent.trouble })
    }

    /// Lane 1 of a bound Service, up to where it may move: the old store takes the writes again. `None` once that is so.
    pub fn take_writes_back(&mut self, entry: usize) -> Option<bool> {
        let traffic = &self.status.traffic[entry];
        if !traffic.bound || traffic.step == TrafficStep::BackIntended {
            return None;
        }
        let phase = traffic.phase.clone();
        let Some(agent) = self.agent().cloned() else { return Some(self.agent_is_unseen()) };
        let Some(term) = agent.term else {
            return Some(self.look_again(Hold::MovingWrites { phase, why: agent.trouble }));
        };
        if !is_new_side(term) {
            if self.status.replication.as_ref().is_some_and(|known| known.ordered.is_some()) {
                self.order(AgentGoal::Stay, true);
            }
            let told = self.status.replication.as_ref().map_or(0, |known| known.epoch);
            let stays = agent.asked.is_none() && agent.epoch >= told;
            if !stays {
                // Until it has heard that, a cut-over may still be committed.
                self.order(AgentGoal::Stay, true);
            }
            return (!stays).then(|| self.look_again(Hold::MovingWrites { phase, why: agent.trouble }));
        }
        if let Some(hold) = self.why_not_to_the_old_side(entry) {
            return Some(self.look_later(hold));
        }
        let (deadline, on_timeout) = self.on_fence_timeout(&phase);
        self.order(AgentGoal::Back { term: term + 1, deadline, on_timeout }, true);
        Some(self.look_again(Hold::MovingWrites { phase, why: agent.trouble }))
    }

    /// Once writes are committed to the old store its Service must lead there: it is looked at before.
    fn why_not_to_the_old_side(&self, entry: usize) -> Option<Hold> {
        let service = self.status.traffic[entry].service.clone();
        match self.sight(entry) {
            Sight::Unseen => Some(Hold::ServiceUnseen { service }),
            Sight::Absent => Some(Hold::ServiceAbsent { service }),
            Sight::Seen(view) if view.from_serving == 0 => Some(Hold::OldSideGone { service }),
            Sight::Seen(view) => self.why_not_write(&service, view),
        }
    }

    /// What a switch says happens when writes can't be held in time, and when that is. Without the plan no write is given
    /// up.
    fn on_fence_timeout(&self, phase: &str) -> (Option<crate::api::Span>, crate::api::OnFenceTimeout) {
        let switch = self.plan.phase(phase).and_then(|phase| match plan::action(phase) {
            Action::Switch(switch) => Some(switch),
            Action::Sql(_)
            | Action::Job(_)
            | Action::Replicate(_)
            | Action::Backfill(_)
            | Action::Verify(_)
            | Action::Observe(_)
            | Action::Bake(_)
            | Action::Approval => None,
        });
        let deadline = switch.and_then(|switch| switch.fence.as_ref()).map(crate::api::Fence::deadline);
        let prefer = switch.and_then(|switch| switch.on_fence_timeout);
        (deadline, prefer.unwrap_or(crate::api::OnFenceTimeout::PreferData))
    }

    /// Whether a way back of a bound Service is over for the agent, too: nobody waits at the old store any more.
    pub fn writes_are_back(&mut self) -> bool {
        let ordered = self.entries().any(|entry| {
            let traffic = &self.status.traffic[entry];
            traffic.bound && (traffic.flipped_at.is_some() || traffic.back_at.is_some())
        });
        if !ordered || self.status.replication.as_ref().is_none_or(|known| known.ended) {
            return true;
        }
        self.is_served()
    }

    /// What the agent has heard and status hasn't: a way back that had begun, whose record was lost.
    pub fn agent_goes_back(&self) -> Option<String> {
        let moves = self.status.traffic.iter().find(|traffic| traffic.bound && in_effect(traffic.step))?;
        let agent = self.agent()?;
        let back = |term: u32| !is_new_side(term);
        let goes_back = has_flipped(moves.step) && (agent.term.is_some_and(back) || agent.asked.is_some_and(back));
        // Forward, an order is given only once its number is in status.
        (goes_back || agent.epoch > self.status.epoch).then(|| moves.service.clone())
    }

    /// Why the way back of a bound Service isn't open now.
    pub fn why_writes_stay(&self) -> Option<Hold> {
        let phase = || self.status.replication.as_ref().map(|known| known.phase.clone()).unwrap_or_default();
        match self.agent() {
            None => Some(Hold::AgentUnseen { phase: phase() }),
            Some(agent) if agent.settled => None,
            Some(agent) => Some(Hold::MovingWrites { phase: phase(), why: agent.trouble.clone() }),
        }
    }
}
