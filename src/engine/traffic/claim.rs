//! Claiming a Service: a mark that says whose it is, written before traffic has anything to do with it.

use crate::api::TrafficStep;

use super::super::{
    draft::Draft,
    effect::{Effect, ServicePatch},
    hold::Hold,
    mark::{Mark, Role},
    world::{Points, ServiceView, Side, Sight},
};

impl Draft<'_> {
    /// Claims each Service of the plan, and gives up those that have left it. True once all is settled.
    ///
    /// None is claimed while another can't be: a migration that is refused has had no effect (behaviour 19).
    pub fn claim_all(&mut self) -> bool {
        let (planned, left): (Vec<usize>, Vec<usize>) = self.entries().partition(|&entry| self.is_planned(entry));
        let mut settled = true;
        for entry in left {
            settled &= self.release(entry);
        }
        for entry in planned.iter().copied().filter(|&entry| self.is_claimed_again(entry)).collect::<Vec<_>>() {
            if self.release(entry) {
                self.status.traffic[entry].step = TrafficStep::Unclaimed;
            } else {
                settled = false;
            }
        }
        if let Some(hold) = planned.iter().find_map(|&entry| self.why_not_claim(entry)) {
            return self.refuse(hold);
        }
        for entry in planned {
            settled &= self.claim(entry);
        }
        settled
    }

    /// Whether the plan has a switch for this Service.
    pub fn is_planned(&self, entry: usize) -> bool {
        let traffic = &self.status.traffic[entry];
        self.plan
            .phase(&traffic.phase)
            .and_then(|phase| phase.switch.as_ref())
            .is_some_and(|switch| switch.service_names().contains(&traffic.service.as_str()))
    }

    /// Whether a Service left the plan and has come back to it before the mark was given up.
    fn is_claimed_again(&self, entry: usize) -> bool {
        let traffic = &self.status.traffic[entry];
        super::is_given_up(traffic.step) && traffic.flipped_at.is_none()
    }

    fn is_to_be_claimed(&self, entry: usize) -> bool {
        match self.status.traffic[entry].step {
            TrafficStep::Unclaimed | TrafficStep::ClaimIntended => true,
            TrafficStep::Claimed
            | TrafficStep::FlipIntended
            | TrafficStep::Flipped
            | TrafficStep::Confirmed
            | TrafficStep::Drained
            | TrafficStep::BackIntended
            | TrafficStep::Back
            | TrafficStep::BackDrained
            | TrafficStep::ReleaseIntended
            | TrafficStep::Released => false,
        }
    }

    fn why_not_claim(&self, entry: usize) -> Option<Hold> {
        if !self.is_to_be_claimed(entry) {
            return None;
        }
        let traffic = &self.status.traffic[entry];
        let service = traffic.service.clone();
        let view = match self.sight(entry) {
            Sight::Unseen => return Some(Hold::ServiceUnseen { service }),
            Sight::Absent => return Some(Hold::ServiceAbsent { service }),
            Sight::Seen(view) => view,
        };
        if !self.may_claim(view.mark.as_ref()) {
            let uid = view.mark.as_ref().map(|mark| mark.uid.clone()).unwrap_or_default();
            return Some(Hold::ClaimedByOther { service, uid });
        }
        if view.mark.as_ref().is_none_or(|mark| mark.uid == self.world.uid)
            && let Some(hold) = self.why_not_write(&service, view)
        {
            return Some(hold);
        }
        (view.points(traffic) != Points::At(Side::From)).then_some(Hold::ForeignSelector { service })
    }

    /// Whether a Service may be taken: nobody's, given up, named in `spec.adopt`, or ours from before.
    fn may_claim(&self, mark: Option<&Mark>) -> bool {
        mark.is_none_or(|mark| {
            mark.role == Role::Released || mark.uid == self.world.uid || self.world.adopt.contains(&mark.uid)
        })
    }

    fn claim(&mut self, entry: usize) -> bool {
        if !self.is_to_be_claimed(entry) {
            return true;
        }
        let Sight::Seen(view) = self.sight(entry).clone() else { return false };
        let ServiceView { uid, mark, .. } = view;
        let step = self.status.traffic[entry].step;
        if step == TrafficStep::ClaimIntended && self.carries(entry, mark.as_ref(), Role::Claimed) {
            let traffic = &mut self.status.traffic[entry];
            traffic.step = TrafficStep::Claimed;
            traffic.uid = uid;
            return true;
        }
        if step == TrafficStep::Unclaimed {
            let epoch = self.next_epoch();
            let traffic = &mut self.status.traffic[entry];
            traffic.step = TrafficStep::ClaimIntended;
            traffic.epoch = epoch;
        }
        let traffic = &self.status.traffic[entry];
        let service = traffic.service.clone();
        let patch = ServicePatch {
            service: service.clone(),
            expect_mark: mark,
            expect_selector: traffic.from.clone(),
            selector: traffic.from.clone(),
            mark: self.mark(traffic.epoch, Role::Claimed),
        };
        self.after.push(Effect::PatchService(patch));
        self.await_write(service.clone(), Hold::Claiming { service });
        false
    }
}
