//! The way back of one Service: lane 1, and lane 1b for those who are still connected to the new side.

use std::collections::BTreeMap;

use crate::api::TrafficStep;

use super::{
    super::{
        draft::Draft,
        effect::{Effect, ServicePatch},
        hold::{Class, Hold},
        mark::{Mark, Role},
        plan::{self, Action},
        world::{Points, ServiceView, Side, Sight},
    },
    CONFIRM_DEADLINE,
};

/// What a write back must find.
struct Expected {
    mark: Option<Mark>,
    selector: BTreeMap<String, String>,
}

impl Draft<'_> {
    /// Takes one Service's traffic back. True once the new side is drained, or nothing had to be moved.
    pub fn take_back(&mut self, entry: usize) -> bool {
        let goes_back = self.status.traffic[entry].step == TrafficStep::BackIntended;
        if (goes_back || self.is_on_new_side(entry)) && self.waits_for_writes(entry) {
            return false;
        }
        match self.status.traffic[entry].step {
            TrafficStep::BackIntended => self.follow_way_back(entry),
            TrafficStep::Back => self.drain_new_side(entry),
            TrafficStep::FlipIntended
            | TrafficStep::Flipped
            | TrafficStep::Confirmed
            | TrafficStep::Drained
            | TrafficStep::ReleaseIntended
            | TrafficStep::Released
                if self.is_on_new_side(entry) =>
            {
                self.announce_way_back(entry)
            }
            TrafficStep::FlipIntended
            | TrafficStep::Flipped
            | TrafficStep::Confirmed
            | TrafficStep::Drained
            | TrafficStep::Unclaimed
            | TrafficStep::ClaimIntended
            | TrafficStep::Claimed
            | TrafficStep::BackDrained
            | TrafficStep::ReleaseIntended
            | TrafficStep::Released => true,
        }
    }

    fn announce_way_back(&mut self, entry: usize) -> bool {
        let service = self.status.traffic[entry].service.clone();
        let view = match self.sight(entry) {
            // Whether the old side serves is unknown, and unknown is not enough to move users there.
            Sight::Unseen => return self.look_again(Hold::ServiceUnseen { service }),
            Sight::Absent => return self.gone(entry),
            Sight::Seen(view) => view.clone(),
        };
        let expected = match self.way_back_from(entry, &view) {
            Ok(expected) => expected,
            Err(hold) => return self.look_later(hold),
        };
        let epoch = self.next_epoch();
        let now = self.now;
        let never_moved = self.is_ours(view.mark.as_ref(), Role::Claimed);
        let traffic = &mut self.status.traffic[entry];
        // 1. The giving up of marks is in status; 2. this way back is decided and its leader freezes; 3. a successor,
        // whose guards are green again, gives up the last mark and passes the point of no return; 4. the way back
        // arrives. So from there on it is announced like any other write: then 3 is impossible.
        let waits_for_status = super::is_given_up(traffic.step);
        if !never_moved {
            // The flip may have landed without anyone noticing: those whom it moved must be drained all the same.
            traffic.flipped_at.get_or_insert(now);
        }
        traffic.step = TrafficStep::BackIntended;
        traffic.epoch = epoch;
        let patch = self.back_patch(entry, expected);
        if waits_for_status {
            self.after.push(patch);
        } else {
            self.at_once.push(patch);
        }
        self.await_write(service.clone(), Hold::Writing { service });
        false
    }

    /// What a write back must find, or why it must not be made.
    fn way_back_from(&self, entry: usize, view: &ServiceView) -> Result<Expected, Hold> {
        let traffic = &self.status.traffic[entry];
        let service = traffic.service.clone();
        if let Some(hold) = self.why_not_write(&service, view) {
            return Err(hold);
        }
        let mark = view.mark.clone();
        match view.points(traffic) {
            Points::Elsewhere => Err(Hold::ForeignSelector { service }),
            // Nothing to move, but the mark must change, or a late flip would still match.
            Points::At(Side::From) => Ok(Expected { mark, selector: traffic.from.clone() }),
            // Writes that are back already can only be followed.
            Points::At(Side::To) if view.from_serving == 0 && !traffic.bound => Err(Hold::OldSideGone { service }),
            Points::At(Side::To) => Ok(Expected { mark, selector: traffic.to.clone() }),
        }
    }

    fn back_patch(&self, entry: usize, expected: Expected) -> Effect {
        let traffic = &self.status.traffic[entry];
        Effect::PatchService(ServicePatch {
            service: traffic.service.clone(),
            expect_mark: expected.mark,
            expect_selector: expected.selector,
            selector: traffic.from.clone(),
            mark: self.mark(traffic.epoch, Role::Back),
        })
    }

    fn follow_way_back(&mut self, entry: usize) -> bool {
        let service = self.status.traffic[entry].service.clone();
        let view = match self.sight(entry) {
            Sight::Unseen => return self.look_again(Hold::ServiceUnseen { service }),
            Sight::Absent => return self.gone(entry),
            Sight::Seen(view) => view.clone(),
        };
        let points = view.points(&self.status.traffic[entry]);
        if self.is_ours(view.mark.as_ref(), Role::Back) && points == Points::At(Side::From) {
            let now = self.now;
            let epoch = view.mark.map_or(0, |mark| mark.epoch);
            self.status.epoch = self.status.epoch.max(epoch);
            let traffic = &mut self.status.traffic[entry];
            traffic.step = TrafficStep::Back;
            traffic.epoch = epoch;
            traffic.back_at = Some(now);
            traffic.drain_started_at = None;
            traffic.remaining = None;
            return self.drain_new_side(entry);
        }
        match self.way_back_from(entry, &view) {
            Err(hold) => self.look_later(hold),
            Ok(expected) => {
                let patch = self.back_patch(entry, expected);
                self.at_once.push(patch);
                self.await_write(service.clone(), Hold::Writing { service });
                false
            }
        }
    }

    /// Lane 1b: frees those who are still connected to the new side.
    fn drain_new_side(&mut self, entry: usize) -> bool {
        let traffic = self.status.traffic[entry].clone();
        if traffic.drain_started_at.is_none() {
            if traffic.flipped_at.is_none() {
                // Nobody was ever sent to the new side.
                self.status.traffic[entry].step = TrafficStep::BackDrained;
                return true;
            }
            let service = traffic.service.clone();
            let (confirmed, serving) = match self.sight(entry) {
                Sight::Seen(view) => (view.confirmed == Some(Side::From), view.from_serving),
                Sight::Absent => return self.gone(entry),
                Sight::Unseen => return self.look_later(Hold::ServiceUnseen { service }),
            };
            let waited = self.now.since(traffic.back_at.unwrap_or(self.now));
            // Drained earlier, a client would come back to the side that it was just sent away from; drained towards a
            // side that has died, it would have nowhere to go.
            if !confirmed && serving == 0 {
                return self.look_later(Hold::OldSideGone { service });
            }
            if !confirmed && waited < CONFIRM_DEADLINE {
                return self.look_again(Hold::Confirming { service });
            }
            self.status.traffic[entry].drain_started_at = Some(self.now);
        }
        let drain = self.plan.phase(&traffic.phase).and_then(|phase| match plan::action(phase) {
            Action::Switch(switch) => switch.drain.clone(),
            Action::Sql(_)
            | Action::Job(_)
            | Action::Replicate(_)
            | Action::Backfill(_)
            | Action::Verify(_)
            | Action::Observe(_)
            | Action::Bake(_)
            | Action::Approval => None,
        });
        self.drain(entry, Side::To, drain.as_ref())
    }

    /// A Service that doesn't exist has no traffic to take back. Answers true: that was that.
    fn gone(&mut self, entry: usize) -> bool {
        let traffic = &mut self.status.traffic[entry];
        if traffic.step != TrafficStep::Released {
            traffic.step = TrafficStep::Released;
            let (service, phase) = (traffic.service.clone(), traffic.phase.clone());
            let why = format!("Service {service} does not exist any more: nothing to take back");
            self.alarm("ServiceGone", Some(&phase), why);
        }
        true
    }

    /// Whether new connections of a Service have been seen to go to the old side.
    pub fn takes_new_connections_back(&self, entry: usize) -> bool {
        let traffic = &self.status.traffic[entry];
        if traffic.flipped_at.is_none() {
            return true;
        }
        match self.sight(entry) {
            Sight::Seen(view) => traffic.back_at.is_some() && view.confirmed == Some(Side::From),
            Sight::Absent => true,
            Sight::Unseen => false,
        }
    }

    /// Why lane 3 may not go on: traffic isn't on the old side. Schema that the new side needs is never taken from under
    /// it, whoever moved traffic there, and before or after we did.
    pub fn why_traffic_is_not_back(&self) -> Option<Hold> {
        let may_undo = self.is_something_left_to_undo();
        let concerns = |entry: &usize| {
            let traffic = &self.status.traffic[*entry];
            let never_moved = traffic.step != TrafficStep::Unclaimed && !self.is_going_back_with(*entry);
            traffic.back_at.is_some() || (may_undo && never_moved)
        };
        self.entries().filter(concerns).find_map(|entry| {
            let traffic = &self.status.traffic[entry];
            let service = traffic.service.clone();
            match self.sight(entry) {
                Sight::Unseen => Some(Hold::ServiceUnseen { service }),
                Sight::Absent => None,
                Sight::Seen(view) => {
                    (view.points(traffic) != Points::At(Side::From)).then_some(Hold::ForeignSelector { service })
                }
            }
        })
    }

    /// Whether lane 1 has still to move this Service's traffic, or to see that it did.
    fn is_going_back_with(&self, entry: usize) -> bool {
        self.is_on_new_side(entry) || self.status.traffic[entry].step == TrafficStep::BackIntended
    }

    /// Why traffic can't be taken back as things are, if only somebody else could change that.
    pub fn why_traffic_stays(&self) -> Option<Hold> {
        self.entries()
            .find_map(|entry| {
                let Sight::Seen(view) = self.sight(entry) else { return None };
                if self.is_going_back_with(entry) { self.way_back_from(entry, view).err() } else { None }
            })
            .or_else(|| self.why_traffic_is_not_back())
            .filter(|hold| hold.class() == Class::Stall)
    }
}
