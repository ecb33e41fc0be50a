//! The flip forward: only onto a side that serves, only as announced, and taken back if it can't be confirmed.

use crate::api::{Drain, SwitchAction, TrafficStep};

use super::{
    super::{
        draft::Draft,
        effect::{Effect, ServicePatch},
        hold::Hold,
        mark::{Mark, Role},
        world::{Points, ServiceView, Side, Sight},
    },
    CONFIRM_DEADLINE, share_of,
};

/// Share of the old side's pods that the new side must have, in percent.
const DEFAULT_CAPACITY: f64 = 100.0;

impl Draft<'_> {
    /// Why the Service of a switch may not be flipped now: the first check that fails decides.
    pub fn why_not_flip(&self, entry: usize, switch: &SwitchAction) -> Option<Hold> {
        let traffic = &self.status.traffic[entry];
        let service = traffic.service.clone();
        let view = match self.sight(entry) {
            Sight::Unseen => return Some(Hold::ServiceUnseen { service }),
            Sight::Absent => return Some(Hold::ServiceAbsent { service }),
            Sight::Seen(view) => view,
        };
        if view.uid != traffic.uid || !self.carries(entry, view.mark.as_ref(), Role::Claimed) {
            return Some(Hold::ForeignMark { service });
        }
        if view.points(traffic) != Points::At(Side::From) {
            return Some(Hold::ForeignSelector { service });
        }
        new_side_is_short(service, view, switch)
    }

    /// Flips one Service.
    pub fn flip(&mut self, entry: usize) {
        let claimed = self.mark(self.status.traffic[entry].epoch, Role::Claimed);
        self.announce_flip(entry);
        let service = self.status.traffic[entry].service.clone();
        let patch = self.forward_patch(entry, claimed);
        self.after.push(patch);
        self.await_write(service.clone(), Hold::Writing { service });
    }

    /// Announces the flip of one Service.
    pub fn announce_flip(&mut self, entry: usize) {
        let epoch = self.next_epoch();
        let old_serving = match self.sight(entry) {
            Sight::Seen(view) => Some(view.from_serving),
            Sight::Unseen | Sight::Absent => None,
        };
        let traffic = &mut self.status.traffic[entry];
        traffic.step = TrafficStep::FlipIntended;
        traffic.epoch = epoch;
        traffic.old_serving = old_serving;
    }

    fn forward_patch(&self, entry: usize, expect: Mark) -> Effect {
        let traffic = &self.status.traffic[entry];
        Effect::PatchService(ServicePatch {
            service: traffic.service.clone(),
            expect_mark: Some(expect),
            expect_selector: traffic.from.clone(),
            selector: traffic.to.clone(),
            mark: self.mark(traffic.epoch, Role::Forward),
        })
    }

    /// Goes on with the move forward of one Service. True once it is drained. `held` is why no forward step may be
    /// taken now: a flip that has been announced and not landed isn't sent again then.
    pub fn follow_flip(&mut self, entry: usize, switch: &SwitchAction, held: Option<&Hold>) -> bool {
        let service = self.status.traffic[entry].service.clone();
        let view = match self.sight(entry) {
            Sight::Unseen => return self.look_later(Hold::ServiceUnseen { service }),
            Sight::Absent => return self.refuse(Hold::ServiceAbsent { service }),
            Sight::Seen(view) => view.clone(),
        };
        let drain = switch.drain.as_ref();
        match self.status.traffic[entry].step {
            TrafficStep::FlipIntended => self.follow_announced_flip(entry, &view, switch, held),
            TrafficStep::Flipped => self.confirm_flip(entry, &view, drain),
            TrafficStep::Confirmed => self.drain(entry, Side::From, drain),
            TrafficStep::Drained => true,
            step @ (TrafficStep::Unclaimed
            | TrafficStep::ClaimIntended
            | TrafficStep::Claimed
            | TrafficStep::BackIntended
            | TrafficStep::Back
            | TrafficStep::BackDrained
            | TrafficStep::ReleaseIntended
            | TrafficStep::Released) => {
                let why = format!("the switch of Service {service} is under way, and status says {step:?} of it");
                self.refuse(Hold::StatusForeign { why })
            }
        }
    }

    fn follow_announced_flip(
        &mut self,
        entry: usize,
        view: &ServiceView,
        switch: &SwitchAction,
        held: Option<&Hold>,
    ) -> bool {
        let service = self.status.traffic[entry].service.clone();
        if self.carries(entry, view.mark.as_ref(), Role::Forward) {
            let now = self.now;
            let traffic = &mut self.status.traffic[entry];
            traffic.step = TrafficStep::Flipped;
            traffic.flipped_at = Some(now);
            return self.confirm_flip(entry, view, switch.drain.as_ref());
        }
        let Some(seen) = view.mark.clone().filter(|mark| self.is_ours(Some(mark), Role::Claimed)) else {
            return self.refuse(Hold::ForeignMark { service });
        };
        if view.points(&self.status.traffic[entry]) != Points::At(Side::From) {
            return self.refuse(Hold::ForeignSelector { service });
        }
        // It has been announced, but the new side may have gone since.
        let in_the_way = || held.cloned().or_else(|| new_side_is_short(service.clone(), view, switch));
        // Writes that have moved can only be followed.
        if let Some(hold) = if self.status.traffic[entry].bound { None } else { in_the_way() } {
            return self.look_later(hold);
        }
        let patch = self.forward_patch(entry, seen);
        self.after.push(patch);
        self.await_write(service.clone(), Hold::Writing { service });
        false
    }

    fn confirm_flip(&mut self, entry: usize, view: &ServiceView, drain: Option<&Drain>) -> bool {
        if view.confirmed != Some(Side::To) {
            let service = self.status.traffic[entry].service.clone();
            return self.look_again(Hold::Confirming { service });
        }
        let now = self.now;
        let traffic = &mut self.status.traffic[entry];
        traffic.step = TrafficStep::Confirmed;
        traffic.drain_started_at = Some(now);
        traffic.remaining = None;
        self.drain(entry, Side::From, drain)
    }

    /// Why the Services of a switch can't be said to have moved, once they should have.
    pub fn unconfirmed(&self, entries: &[usize]) -> Option<String> {
        let overdue = |since| self.now.since(since) >= CONFIRM_DEADLINE;
        let first = entries.iter().filter_map(|&entry| self.status.traffic[entry].flipped_at).min()?;
        entries.iter().find_map(|&entry| {
            let traffic = &self.status.traffic[entry];
            let service = &traffic.service;
            if traffic.step == TrafficStep::Flipped && traffic.flipped_at.is_some_and(overdue) {
                return Some(format!(
                    "no serving pod of the new side was in the EndpointSlices of {service} for {CONFIRM_DEADLINE}"
                ));
            }
            (traffic.step == TrafficStep::FlipIntended && overdue(first)).then(|| {
                format!("Service {service} could not be moved within {CONFIRM_DEADLINE} of the others of its switch")
            })
        })
    }
}

fn new_side_is_short(service: String, view: &ServiceView, switch: &SwitchAction) -> Option<Hold> {
    let share = switch.capacity.map_or(DEFAULT_CAPACITY, |percent| percent.0);
    let wanted = share_of(view.from_serving, share);
    let serving = view.to_serving;
    (serving < wanted).then_some(Hold::NewSideNotServing { service, serving, wanted })
}
