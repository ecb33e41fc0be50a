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

use crate::api::SwitchAction;

use super::{
    super::{
        draft::Draft,
        effect::{AgentGoal, AgentOrder, Effect},
        hold::Hold,
        mark::Role,
        plan::{self, Action},
        world::{AgentView, Points, Side, Sight, is_new_side},
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
        // Lane 1 may have given an order that status never heard of; a lower number isn't obeyed then, nor the same one.
        let overtaken = self
            .agent()
            .is_some_and(|agent| agent.epoch > known.epoch || (agent.epoch == known.epoch && agent.asked != wanted));
        if known.ordered != wanted || overtaken {
            self.status.epoch = self.status.epoch.max(self.agent().map_or(0, |agent| agent.epoch));
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

    /// Whether a bound Service has to stay where it is for now: it leads to the new store, which takes the writes. One that
    /// doesn't lead there is marked at once, so that no flip that is still on its way can land.
    pub fn waits_for_writes(&self, entry: usize) -> bool {
        let traffic = &self.status.traffic[entry];
        let leads_away = match self.sight(entry) {
            Sight::Seen(view) => view.points(traffic) == Points::At(Side::From),
            Sight::Absent => true,
            Sight::Unseen => false,
        };
        let home = self.agent().and_then(|agent| agent.term).is_some_and(|term| !is_new_side(term));
        traffic.bound && !leads_away && !home
    }

    /// Lane 1 between two stores: takes the writes back to the old one, or calls off an order to move them. True once that
    /// is so and its writers are served.
    pub fn writes_are_back(&mut self) -> bool {
        let Some(known) = self.status.replication.clone() else { return true };
        let bound: Vec<usize> = self.entries().filter(|&entry| self.status.traffic[entry].bound).collect();
        let Some(&entry) = bound.first().filter(|_| known.epoch > 0 && !known.ended) else { return true };
        let phase = self.status.traffic[entry].phase.clone();
        let Some(agent) = self.agent().cloned() else { return self.agent_is_unseen() };
        // 1. The agent has been told to stay for good; 2. a way back is decided and its leader freezes; 3. a successor, whose
        // guards are green again, dismisses the agent; 4. the order arrives. So from 1 on it is announced first.
        let at_once = !known.parting;
        let moving = |why| Hold::MovingWrites { phase: phase.clone(), why };
        let Some(term) = agent.term else { return self.look_again(moving(agent.trouble)) };
        if !is_new_side(term) {
            if known.ordered.is_some() || agent.asked.is_some() || agent.epoch < known.epoch {
                self.order(AgentGoal::Stay, at_once);
            }
            let told = self.status.replication.as_ref().map_or(0, |known| known.epoch);
            // Until it has heard that, a cut-over may still be committed.
            let stays = agent.asked.is_none() && agent.epoch >= told && agent.serves;
            return stays || self.look_again(moving(agent.trouble));
        }
        // 1. The flip is on its way, from a leader that froze; 2. its successor has the writes taken back; 3. the flip lands,
        // and leads to a store that lets nobody write. The mark must be another one before 2.
        let may_flip = match self.sight(entry) {
            Sight::Seen(view) => self.is_ours(view.mark.as_ref(), Role::Claimed),
            Sight::Unseen | Sight::Absent => false,
        };
        if let Some(hold) = self.why_not_to_the_old_side(entry) {
            return self.look_later(hold);
        }
        if !may_flip {
            let (deadline, on_timeout) = self.on_fence_timeout(&phase);
            self.order(AgentGoal::Back { term: term + 1, deadline, on_timeout }, at_once);
        }
        self.look_again(moving(agent.trouble))
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

    /// Makes sure that no order is on its way any more before the agent is dismissed for good. True once it has heard the
    /// last one, and writers are served.
    pub fn is_quiet(&mut self) -> bool {
        let Some(known) = self.status.replication.clone().filter(|known| known.epoch > 0 && !known.ended) else {
            return true;
        };
        let Some(agent) = self.agent().cloned() else { return self.agent_is_unseen() };
        if !known.parting {
            self.status.epoch = self.status.epoch.max(agent.epoch);
            let epoch = self.next_epoch();
            if let Some(known) = &mut self.status.replication {
                (known.parting, known.epoch, known.ordered) = (true, epoch, None);
            }
        }
        self.order(AgentGoal::Stay, false);
        let told = self.status.replication.as_ref().map_or(0, |known| known.epoch);
        let quiet = agent.asked.is_none() && agent.epoch >= told && agent.serves;
        quiet || self.look_again(Hold::MovingWrites { phase: known.phase, why: agent.trouble })
    }

    /// What the agent has heard and status hasn't: a way back that had begun, whose record was lost.
    pub fn agent_goes_back(&self) -> Option<String> {
        let moves = self.status.traffic.iter().find(|traffic| traffic.bound && in_effect(traffic.step))?;
        let known = self.status.replication.as_ref().filter(|known| !known.ended)?;
        let agent = self.agent()?;
        // It has heard another order under the number of ours, which only lane 1 gives without asking status.
        let another = known.ordered.is_some_and(|ordered| {
            let short = agent.term.is_some_and(|term| term < ordered);
            agent.epoch == known.epoch && short && agent.asked != Some(ordered)
        });
        let back = |term: u32| !is_new_side(term);
        let goes_back = has_flipped(moves.step) && (agent.term.is_some_and(back) || agent.asked.is_some_and(back));
        // Forward, an order is given only once its number is in status.
        (goes_back || another || agent.epoch > self.status.epoch).then(|| moves.service.clone())
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
