//! Giving a Service up: a mark that no write of ours expects any more, so that none that is still on its way can land.

use crate::api::TrafficStep;

use super::super::{
    draft::Draft,
    effect::{Effect, ServicePatch},
    hold::Hold,
    mark::Role,
    world::Sight,
};

impl Draft<'_> {
    /// Gives up the mark on each Service that carries ours. True once none does.
    pub fn release_all(&mut self) -> bool {
        let mut all = true;
        for entry in self.entries() {
            all &= self.release(entry);
        }
        all
    }

    /// Gives up the mark on one Service. True once it is given up.
    pub fn release(&mut self, entry: usize) -> bool {
        match self.status.traffic[entry].step {
            TrafficStep::Unclaimed | TrafficStep::Released => return true,
            TrafficStep::ReleaseIntended => {}
            // A claim that has only been announced may still land: it needs the new mark as much as a flip does.
            TrafficStep::ClaimIntended
            | TrafficStep::Claimed
            | TrafficStep::FlipIntended
            | TrafficStep::Flipped
            | TrafficStep::Confirmed
            | TrafficStep::Drained
            | TrafficStep::BackIntended
            | TrafficStep::Back
            | TrafficStep::BackDrained => {
                let epoch = self.next_epoch();
                let traffic = &mut self.status.traffic[entry];
                traffic.step = TrafficStep::ReleaseIntended;
                traffic.epoch = epoch;
            }
        }
        let service = self.status.traffic[entry].service.clone();
        let view = match self.sight(entry) {
            Sight::Unseen => return self.look_later(Hold::ServiceUnseen { service }),
            Sight::Absent => {
                self.status.traffic[entry].step = TrafficStep::Released;
                return true;
            }
            Sight::Seen(view) => view.clone(),
        };
        if self.carries(entry, view.mark.as_ref(), Role::Released) {
            self.status.traffic[entry].step = TrafficStep::Released;
            return true;
        }
        match self.why_not_write(&service, &view) {
            // Someone else has it: there is nothing of ours to give up.
            Some(Hold::ForeignMark { .. }) => {
                self.status.traffic[entry].step = TrafficStep::Released;
                return true;
            }
            Some(hold) => return self.look_later(hold),
            None => {}
        }
        let patch = ServicePatch {
            service: service.clone(),
            expect_mark: view.mark.clone(),
            expect_selector: std::collections::BTreeMap::new(),
            selector: std::collections::BTreeMap::new(),
            mark: self.mark(self.status.traffic[entry].epoch, Role::Released),
        };
        self.after.push(Effect::PatchService(patch));
        self.await_write(service.clone(), Hold::Releasing { service });
        false
    }
}
