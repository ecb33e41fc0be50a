//! Traffic: how one Service is claimed, moved, confirmed, drained, moved back and given up.
//!
//! Each write is announced in status first (the step that ends in `Intended`), is a compare-and-swap on the Service's
//! mark and selector, and is settled by what is seen afterwards. The way back writes its mark even where traffic has
//! never moved: 1. a leader announces the flip and freezes; 2. its successor takes the migration back; 3. the frozen
//! leader's PATCH arrives. Without the new mark it would still match.

use crate::api::{Drain, Span, SwitchAction, TrafficStep};

use super::{
    draft::Draft,
    effect::{DrainOrder, DrainWay, Effect, ServicePatch},
    hold::Hold,
    mark::{Mark, Role},
    plan::{self, Action},
    world::{Points, ServiceView, Side, Sight},
};

/// When to stop draining where the spec says nothing.
pub const DEFAULT_DRAIN_DEADLINE: Span = Span::secs(30);
/// How long the EndpointSlices may take to show a flip forward before it is taken back. The EndpointSlice controller
/// needs 40 ms, or 0.9 s after a recent change (design section 6); past this, something else is wrong.
pub const CONFIRM_DEADLINE: Span = Span::secs(60);
/// How soon to look again while a move of traffic is under way.
pub const LOOK_AGAIN: Span = Span::millis(200);
/// Share of the old side's pods that the new side must have, in percent.
const DEFAULT_CAPACITY: f64 = 100.0;
/// Share of the old side's pods that must stay for the way back to be open, in percent.
const DEFAULT_KEEP_OLD: f64 = 50.0;

/// Whether traffic may be on the new side: it is, or a write that moves it there may still land.
pub fn in_effect(step: TrafficStep) -> bool {
    match step {
        TrafficStep::FlipIntended | TrafficStep::Flipped | TrafficStep::Confirmed | TrafficStep::Drained => true,
        // `BackIntended` is the rollback's own: it goes on by itself, whatever else is decided.
        TrafficStep::Unclaimed
        | TrafficStep::ClaimIntended
        | TrafficStep::Claimed
        | TrafficStep::BackIntended
        | TrafficStep::Back
        | TrafficStep::BackDrained
        | TrafficStep::ReleaseIntended
        | TrafficStep::Released => false,
    }
}

/// Whether the flip has been seen and nothing has been taken back or given up since.
pub fn has_flipped(step: TrafficStep) -> bool {
    match step {
        TrafficStep::Flipped | TrafficStep::Confirmed | TrafficStep::Drained => true,
        TrafficStep::FlipIntended
        | TrafficStep::Unclaimed
        | TrafficStep::ClaimIntended
        | TrafficStep::Claimed
        | TrafficStep::BackIntended
        | TrafficStep::Back
        | TrafficStep::BackDrained
        | TrafficStep::ReleaseIntended
        | TrafficStep::Released => false,
    }
}

impl Draft<'_> {
    /// What is seen of the Service of a traffic entry.
    pub fn sight(&self, entry: usize) -> &Sight<ServiceView> {
        self.world.services.get(&self.status.traffic[entry].service).unwrap_or(&Sight::Unseen)
    }

    fn mark(&self, epoch: u64, role: Role) -> Mark {
        Mark { uid: self.world.uid.clone(), attempt: self.status.attempt, epoch, role }
    }

    /// Whether a mark was written by this Migration in this attempt, in this role.
    pub fn is_ours(&self, mark: Option<&Mark>, role: Role) -> bool {
        mark.is_some_and(|m| m.uid == self.world.uid && m.attempt == self.status.attempt && m.role == role)
    }

    /// Whether a Service may be taken: nobody's, given up, named in `spec.adopt`, or ours from before.
    fn may_claim(&self, mark: Option<&Mark>) -> bool {
        match mark {
            None => true,
            Some(mark) => {
                mark.role == Role::Released || mark.uid == self.world.uid || self.world.adopt.contains(&mark.uid)
            }
        }
    }

    /// Claims each Service of the plan. True once all are ours.
    pub fn claim_all(&mut self) -> bool {
        let entries: Vec<usize> = (0..self.status.traffic.len()).collect();
        entries.into_iter().all(|entry| self.claim(entry))
    }

    fn claim(&mut self, entry: usize) -> bool {
        let step = self.status.traffic[entry].step;
        match step {
            TrafficStep::Unclaimed | TrafficStep::ClaimIntended => {}
            TrafficStep::Claimed
            | TrafficStep::FlipIntended
            | TrafficStep::Flipped
            | TrafficStep::Confirmed
            | TrafficStep::Drained
            | TrafficStep::BackIntended
            | TrafficStep::Back
            | TrafficStep::BackDrained
            | TrafficStep::ReleaseIntended
            | TrafficStep::Released => return true,
        }
        let service = self.status.traffic[entry].service.clone();
        let view = match self.sight(entry) {
            Sight::Unseen => return self.refuse(Hold::ServiceUnseen { service }),
            Sight::Absent => return self.refuse(Hold::ServiceAbsent { service }),
            Sight::Seen(view) => view.clone(),
        };
        if step == TrafficStep::ClaimIntended && self.is_ours(view.mark.as_ref(), Role::Claimed) {
            let traffic = &mut self.status.traffic[entry];
            traffic.step = TrafficStep::Claimed;
            traffic.uid = view.uid;
            return true;
        }
        if !self.may_claim(view.mark.as_ref()) {
            let uid = view.mark.map(|mark| mark.uid).unwrap_or_default();
            return self.refuse(Hold::ClaimedByOther { service, uid });
        }
        if view.points(&self.status.traffic[entry]) != Points::At(Side::From) {
            return self.refuse(Hold::ForeignSelector { service });
        }
        if step == TrafficStep::Unclaimed {
            let epoch = self.next_epoch();
            let traffic = &mut self.status.traffic[entry];
            traffic.step = TrafficStep::ClaimIntended;
            traffic.epoch = epoch;
        }
        let traffic = self.status.traffic[entry].clone();
        let patch = ServicePatch {
            service: service.clone(),
            expect_mark: view.mark,
            expect_selector: traffic.from.clone(),
            selector: traffic.from.clone(),
            mark: self.mark(traffic.epoch, Role::Claimed),
        };
        self.after.push(Effect::PatchService(patch));
        self.wake_in(LOOK_AGAIN);
        self.refuse(Hold::Claiming { service })
    }

    fn refuse(&mut self, hold: Hold) -> bool {
        self.hold(hold);
        self.wake_in(super::world::RESYNC);
        false
    }

    /// Why the Services of a switch may not be flipped now: the first check that fails decides.
    pub fn may_flip(&self, entry: usize, switch: &SwitchAction) -> Option<Hold> {
        let traffic = &self.status.traffic[entry];
        let service = traffic.service.clone();
        let view = match self.sight(entry) {
            Sight::Unseen => return Some(Hold::ServiceUnseen { service }),
            Sight::Absent => return Some(Hold::ServiceAbsent { service }),
            Sight::Seen(view) => view,
        };
        if view.uid != traffic.uid || !self.is_ours(view.mark.as_ref(), Role::Claimed) {
            return Some(Hold::ForeignMark { service });
        }
        if view.points(traffic) != Points::At(Side::From) {
            return Some(Hold::ForeignSelector { service });
        }
        let share = switch.capacity.map_or(DEFAULT_CAPACITY, |percent| percent.0);
        let wanted = share_of(view.from_serving, share);
        if view.to_serving < wanted {
            return Some(Hold::NewSideNotServing { service, serving: view.to_serving, wanted });
        }
        None
    }

    /// Announces the flip of one Service.
    pub fn flip(&mut self, entry: usize) {
        let epoch = self.next_epoch();
        let old_serving = match self.sight(entry) {
            Sight::Seen(view) => Some(view.from_serving),
            Sight::Unseen | Sight::Absent => None,
        };
        let claimed = self.mark(self.status.traffic[entry].epoch, Role::Claimed);
        let traffic = &mut self.status.traffic[entry];
        traffic.step = TrafficStep::FlipIntended;
        traffic.epoch = epoch;
        traffic.old_serving = old_serving;
        let patch = self.forward_patch(entry, claimed);
        self.after.push(patch);
        self.wake_in(LOOK_AGAIN);
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

    /// Goes on with the move forward of one Service. True once it is drained.
    pub fn follow_flip(&mut self, entry: usize, drain: Option<&Drain>) -> bool {
        let service = self.status.traffic[entry].service.clone();
        let view = match self.sight(entry) {
            Sight::Unseen => return self.look_again(Hold::ServiceUnseen { service }),
            Sight::Absent => return self.refuse(Hold::ServiceAbsent { service }),
            Sight::Seen(view) => view.clone(),
        };
        match self.status.traffic[entry].step {
            TrafficStep::FlipIntended => {
                if self.is_ours(view.mark.as_ref(), Role::Forward) {
                    let now = self.now;
                    let traffic = &mut self.status.traffic[entry];
                    traffic.step = TrafficStep::Flipped;
                    traffic.flipped_at = Some(now);
                    return self.look_again(Hold::Confirming { service });
                }
                if !self.is_ours(view.mark.as_ref(), Role::Claimed) {
                    return self.refuse(Hold::ForeignMark { service });
                }
                if view.points(&self.status.traffic[entry]) != Points::At(Side::From) {
                    return self.refuse(Hold::ForeignSelector { service });
                }
                let seen = view.mark.expect("a mark that is ours is there");
                let patch = self.forward_patch(entry, seen);
                self.after.push(patch);
                self.look_again(Hold::Writing { service })
            }
            TrafficStep::Flipped => {
                if view.confirmed != Some(Side::To) {
                    return self.look_again(Hold::Confirming { service });
                }
                let now = self.now;
                let traffic = &mut self.status.traffic[entry];
                traffic.step = TrafficStep::Confirmed;
                traffic.drain_started_at = Some(now);
                traffic.remaining = None;
                self.drain(entry, Side::From, drain)
            }
            TrafficStep::Confirmed => self.drain(entry, Side::From, drain),
            TrafficStep::Drained => true,
            step @ (TrafficStep::Unclaimed
            | TrafficStep::ClaimIntended
            | TrafficStep::Claimed
            | TrafficStep::BackIntended
            | TrafficStep::Back
            | TrafficStep::BackDrained
            | TrafficStep::ReleaseIntended
            | TrafficStep::Released) => unreachable!("a switch under way has announced its flip, not {step:?}"),
        }
    }

    fn look_again(&mut self, hold: Hold) -> bool {
        self.hold(hold);
        self.wake_in(LOOK_AGAIN);
        false
    }

    /// Drains one side until nothing is left or the deadline is over. True once it is over.
    fn drain(&mut self, entry: usize, side: Side, drain: Option<&Drain>) -> bool {
        let traffic = self.status.traffic[entry].clone();
        let started = traffic.drain_started_at.unwrap_or(self.now);
        let deadline = drain.and_then(|d| d.deadline).unwrap_or(DEFAULT_DRAIN_DEADLINE);
        let way = drain_way(drain, deadline);
        let waited = self.now.since(started);
        let seen = self.world.drains.get(&traffic.service).filter(|view| view.side == side);
        let remaining = seen.and_then(|view| view.remaining);
        let left_by_itself = match &way {
            DrainWay::Wait(span) => waited >= *span,
            DrainWay::Hook(_) | DrainWay::RestartPods => seen.is_some_and(|view| view.finished),
        };
        if left_by_itself || waited >= deadline {
            self.status.traffic[entry].remaining = remaining;
            self.status.traffic[entry].step = match side {
                Side::From => TrafficStep::Drained,
                Side::To => TrafficStep::BackDrained,
            };
            return true;
        }
        match way {
            DrainWay::Wait(span) => self.wake_in(Span(span.0.saturating_sub(waited.0))),
            DrainWay::Hook(_) | DrainWay::RestartPods => {
                let labels = match side {
                    Side::From => traffic.from.clone(),
                    Side::To => traffic.to.clone(),
                };
                let service = traffic.service.clone();
                self.after.push(Effect::Drain(DrainOrder { service, labels, side, way, since: started }));
                self.wake_in(LOOK_AGAIN);
            }
        }
        self.hold(Hold::Draining { service: traffic.service });
        false
    }

    /// Takes one Service's traffic back. True once the new side is drained, or nothing had to be moved.
    pub fn take_back(&mut self, entry: usize) -> bool {
        match self.status.traffic[entry].step {
            step if in_effect(step) => self.announce_way_back(entry),
            TrafficStep::BackIntended => self.follow_way_back(entry),
            TrafficStep::Back => self.drain_new_side(entry),
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
        let (expect_mark, expect_selector) = match self.sight(entry) {
            // Lane 1 waits for nothing: what was written last is what is expected.
            Sight::Unseen => {
                let traffic = &self.status.traffic[entry];
                let mark = self.mark(traffic.epoch, Role::Forward);
                (Some(mark), traffic.to.clone())
            }
            Sight::Absent => {
                self.gone(entry);
                return true;
            }
            Sight::Seen(view) => match self.way_back_from(entry, view) {
                Ok(expect) => expect,
                Err(hold) => return self.look_again(hold),
            },
        };
        let epoch = self.next_epoch();
        let traffic = &mut self.status.traffic[entry];
        traffic.step = TrafficStep::BackIntended;
        traffic.epoch = epoch;
        let patch = self.back_patch(entry, expect_mark, expect_selector);
        self.at_once.push(patch);
        self.look_again(Hold::Writing { service })
    }

    /// What a write back must find, or why it must not be made.
    #[allow(clippy::type_complexity, reason = "a pair that is taken apart at once")]
    fn way_back_from(
        &self,
        entry: usize,
        view: &ServiceView,
    ) -> Result<(Option<Mark>, std::collections::BTreeMap<String, String>), Hold> {
        let traffic = &self.status.traffic[entry];
        let service = traffic.service.clone();
        if view.mark.as_ref().is_some_and(|m| m.uid != self.world.uid && m.role != Role::Released) {
            return Err(Hold::ForeignMark { service });
        }
        match view.points(traffic) {
            Points::Elsewhere => Err(Hold::ForeignSelector { service }),
            // Nothing to move, but the mark must change, or a late flip would still match.
            Points::At(Side::From) => Ok((view.mark.clone(), traffic.from.clone())),
            Points::At(Side::To) if view.from_serving == 0 => Err(Hold::OldSideGone { service }),
            Points::At(Side::To) => Ok((view.mark.clone(), traffic.to.clone())),
        }
    }

    fn back_patch(
        &self,
        entry: usize,
        expect_mark: Option<Mark>,
        expect_selector: std::collections::BTreeMap<String, String>,
    ) -> Effect {
        let traffic = &self.status.traffic[entry];
        Effect::PatchService(ServicePatch {
            service: traffic.service.clone(),
            expect_mark,
            expect_selector,
            selector: traffic.from.clone(),
            mark: self.mark(traffic.epoch, Role::Back),
        })
    }

    fn follow_way_back(&mut self, entry: usize) -> bool {
        let service = self.status.traffic[entry].service.clone();
        let view = match self.sight(entry) {
            Sight::Unseen => return self.look_again(Hold::ServiceUnseen { service }),
            Sight::Absent => {
                self.gone(entry);
                return true;
            }
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
            Err(hold) => self.look_again(hold),
            Ok((expect_mark, expect_selector)) => {
                let patch = self.back_patch(entry, expect_mark, expect_selector);
                self.at_once.push(patch);
                self.look_again(Hold::Writing { service })
            }
        }
    }

    /// Lane 1b: frees those who are still connected to the new side.
    fn drain_new_side(&mut self, entry: usize) -> bool {
        let traffic = self.status.traffic[entry].clone();
        if traffic.drain_started_at.is_none() {
            let confirmed = match self.sight(entry) {
                Sight::Seen(view) => view.confirmed == Some(Side::From),
                Sight::Absent => {
                    self.gone(entry);
                    return true;
                }
                Sight::Unseen => false,
            };
            let waited = self.now.since(traffic.back_at.unwrap_or(self.now));
            // Drained earlier, a client would come back to the side that it was just sent away from.
            if !confirmed && waited < CONFIRM_DEADLINE {
                return self.look_again(Hold::Confirming { service: traffic.service });
            }
            self.status.traffic[entry].drain_started_at = Some(self.now);
            if traffic.flipped_at.is_none() {
                // Nobody was ever sent to the new side.
                self.status.traffic[entry].step = TrafficStep::BackDrained;
                return true;
            }
        }
        let phase = self.plan.phases().iter().find(|phase| phase.name == traffic.phase);
        let drain = phase.and_then(|phase| match plan::action(phase) {
            Action::Switch(switch) => switch.drain.clone(),
            Action::Sql(_) | Action::Job(_) | Action::Observe(_) | Action::Bake(_) | Action::Approval => None,
        });
        self.drain(entry, Side::To, drain.as_ref())
    }

    fn gone(&mut self, entry: usize) {
        let traffic = &mut self.status.traffic[entry];
        traffic.step = TrafficStep::Released;
        let (service, phase) = (traffic.service.clone(), traffic.phase.clone());
        self.alarm(
            "ServiceGone",
            Some(&phase),
            format!("Service {service} does not exist any more: nothing to take back"),
        );
    }

    /// Gives up the mark on each Service that carries ours. True once none does.
    pub fn release_all(&mut self) -> bool {
        let entries: Vec<usize> = (0..self.status.traffic.len()).collect();
        entries.into_iter().fold(true, |all, entry| self.release(entry) && all)
    }

    fn release(&mut self, entry: usize) -> bool {
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
            Sight::Unseen => return self.look_again(Hold::ServiceUnseen { service }),
            Sight::Absent => {
                self.status.traffic[entry].step = TrafficStep::Released;
                return true;
            }
            Sight::Seen(view) => view.clone(),
        };
        let given_up = self.is_ours(view.mark.as_ref(), Role::Released);
        let someone_elses =
            view.mark.as_ref().is_some_and(|mark| mark.uid != self.world.uid && mark.role != Role::Released);
        if given_up || someone_elses {
            self.status.traffic[entry].step = TrafficStep::Released;
            return true;
        }
        let epoch = self.status.traffic[entry].epoch;
        let patch = ServicePatch {
            service: service.clone(),
            expect_mark: view.mark.clone(),
            expect_selector: std::collections::BTreeMap::new(),
            selector: std::collections::BTreeMap::new(),
            mark: self.mark(epoch, Role::Released),
        };
        self.after.push(Effect::PatchService(patch));
        self.look_again(Hold::Releasing { service })
    }

    /// Why the way back of the switches in effect isn't open; `Ok` also where no switch is in effect.
    pub fn rollback_ready(&self) -> Result<(), String> {
        for (entry, traffic) in self.status.traffic.iter().enumerate() {
            if !has_flipped(traffic.step) {
                continue;
            }
            let service = &traffic.service;
            let view = match self.sight(entry) {
                Sight::Unseen => return Err(format!("Service {service} could not be read")),
                Sight::Absent => return Err(format!("Service {service} does not exist")),
                Sight::Seen(view) => view,
            };
            let phase = self.plan.phases().iter().find(|phase| phase.name == traffic.phase);
            let keep = phase
                .and_then(|phase| phase.switch.as_ref())
                .and_then(|switch| switch.keep_old)
                .map_or(DEFAULT_KEEP_OLD, |percent| percent.0);
            let wanted = share_of(traffic.old_serving.unwrap_or(1), keep);
            if view.from_serving < wanted {
                let serving = view.from_serving;
                return Err(format!("the old side of Service {service} has {serving} serving pods and needs {wanted}"));
            }
        }
        Ok(())
    }
}

/// A share of a count in percent, rounded up, at least one.
fn share_of(count: u32, percent: f64) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a u32 is clamped to one")]
    let share = (f64::from(count) * percent / 100.0).ceil().clamp(1.0, f64::from(u32::MAX)) as u32;
    share
}

fn drain_way(drain: Option<&Drain>, deadline: Span) -> DrainWay {
    match drain {
        Some(Drain { hook: Some(hook), .. }) => DrainWay::Hook(hook.into()),
        Some(Drain { restart_pods: Some(true), .. }) => DrainWay::RestartPods,
        Some(Drain { wait: Some(wait), .. }) => DrainWay::Wait(*wait),
        Some(_) | None => DrainWay::Wait(deadline),
    }
}
