//! Traffic: how one Service is claimed, moved, confirmed, drained, moved back and given up.
//!
//! Each write is announced in status first (the step that ends in `Intended`), is a compare-and-swap on the Service's
//! mark and selector, and is settled by what is seen afterwards. The way back writes its mark even where traffic has
//! never moved: 1. a leader announces the flip and freezes; 2. its successor takes the migration back; 3. the frozen
//! leader's PATCH arrives. Without the new mark it would still match.

mod back;
mod bound;
mod claim;
mod drain;
mod flip;
mod release;

use crate::api::{Span, TrafficStep};

use super::{
    draft::Draft,
    hold::Hold,
    mark::{Mark, Role},
    world::{Points, RESYNC, ServiceView, Side, Sight},
};

/// When to stop draining where the spec says nothing.
pub const DEFAULT_DRAIN_DEADLINE: Span = Span::secs(30);
/// When to stop restarting pods where the spec says nothing: they go one by one, and each may take its grace period, 30 s
/// unless it says otherwise, and then its replacement's start.
pub const DEFAULT_RESTART_DEADLINE: Span = Span::secs(600);
/// How long the EndpointSlices may take to show a move of traffic before something else must be wrong: the
/// EndpointSlice controller needs 40 ms, or 0.9 s after a recent change (design section 6). A flip forward is then
/// taken back.
pub const CONFIRM_DEADLINE: Span = Span::secs(60);
/// How soon to look again while a move of traffic is under way.
pub const LOOK_AGAIN: Span = Span::millis(200);
/// How soon to look again at a Service that is in the way, or that could not be read. Its watch wakes us sooner.
const LOOK_LATER: Span = Span::secs(2);
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

/// Whether the flip has been seen, and its phase isn't over.
pub(crate) fn is_moving(step: TrafficStep) -> bool {
    match step {
        TrafficStep::Flipped | TrafficStep::Confirmed => true,
        TrafficStep::Drained
        | TrafficStep::FlipIntended
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

/// Whether the mark is being given up, or has been.
fn is_given_up(step: TrafficStep) -> bool {
    match step {
        TrafficStep::ReleaseIntended | TrafficStep::Released => true,
        TrafficStep::Unclaimed
        | TrafficStep::ClaimIntended
        | TrafficStep::Claimed
        | TrafficStep::FlipIntended
        | TrafficStep::Flipped
        | TrafficStep::Confirmed
        | TrafficStep::Drained
        | TrafficStep::BackIntended
        | TrafficStep::Back
        | TrafficStep::BackDrained => false,
    }
}

/// Whether a mark of ours is on the Service, or may be.
pub(crate) fn holds_mark(step: TrafficStep) -> bool {
    match step {
        TrafficStep::Unclaimed | TrafficStep::Released => false,
        TrafficStep::ClaimIntended
        | TrafficStep::Claimed
        | TrafficStep::FlipIntended
        | TrafficStep::Flipped
        | TrafficStep::Confirmed
        | TrafficStep::Drained
        | TrafficStep::BackIntended
        | TrafficStep::Back
        | TrafficStep::BackDrained
        | TrafficStep::ReleaseIntended => true,
    }
}

/// Whether traffic can go back right now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum WayBack {
    /// At any moment; also where no switch is in effect.
    Open,
    /// Not now, with the reason.
    Shut(String),
    /// Could not look.
    Unknown(Hold),
}

impl Draft<'_> {
    /// What is seen of the Service of a traffic entry.
    pub fn sight(&self, entry: usize) -> &Sight<ServiceView> {
        self.world.services.get(&self.status.traffic[entry].service).unwrap_or(&Sight::Unseen)
    }

    /// Positions of all traffic entries.
    pub fn entries(&self) -> std::ops::Range<usize> {
        0..self.status.traffic.len()
    }

    /// Whether traffic was moved, or may have been, and hasn't been taken back: also while the mark is being given up.
    pub fn is_on_new_side(&self, entry: usize) -> bool {
        let traffic = &self.status.traffic[entry];
        in_effect(traffic.step)
            || (is_given_up(traffic.step) && traffic.flipped_at.is_some() && traffic.back_at.is_none())
    }

    fn mark(&self, epoch: u64, role: Role) -> Mark {
        Mark { uid: self.world.uid.clone(), attempt: self.status.attempt, epoch, role }
    }

    /// Whether a mark was written by this Migration in this attempt, in this role.
    pub fn is_ours(&self, mark: Option<&Mark>, role: Role) -> bool {
        mark.is_some_and(|m| m.uid == self.world.uid && m.attempt == self.status.attempt && m.role == role)
    }

    /// Whether a Service carries the very mark that was announced last. An older one of the same role doesn't count: 1. a
    /// mark is given up; 2. a way back is announced that expects it so; 3. the migration lets go. Unless the mark is
    /// given up anew, the way back still lands.
    fn carries(&self, entry: usize, mark: Option<&Mark>, role: Role) -> bool {
        mark == Some(&self.mark(self.status.traffic[entry].epoch, role))
    }

    /// Why the Service's mark forbids us to write: it is another migration's or can't be read, or status is older than the
    /// Service.
    ///
    /// Every write but lane 1's is announced with its epoch, so a mark of ours with a higher one proves that status has
    /// been read from a stale cache: 1. a leader reads old status; 2. its successor passes the point of no return and
    /// gives up the marks; 3. the first one reads the Service, fresh, and would move traffic back by its new mark.
    fn why_not_write(&self, service: &str, view: &ServiceView) -> Option<Hold> {
        let service = service.to_owned();
        if view.scribble.is_some() {
            return Some(Hold::ForeignMark { service });
        }
        let mark = view.mark.as_ref()?;
        if mark.uid != self.world.uid {
            return (mark.role != Role::Released).then_some(Hold::ForeignMark { service });
        }
        let newer = (mark.attempt, mark.epoch) > (self.status.attempt, self.status.epoch);
        let by_lane_1 = self.is_ours(Some(mark), Role::Back);
        (newer && !by_lane_1).then_some(Hold::StatusBehind { service })
    }

    /// Asks for a write to a Service, again and again until it is seen. `hold` is what is said meanwhile, unless the API
    /// server says something else.
    fn await_write(&mut self, service: String, hold: Hold) {
        let denied = self.world.denied.get(&service).cloned();
        self.hold(denied.map_or(hold, |why| Hold::WriteDenied { service, why }));
        self.wake_in(LOOK_AGAIN);
    }

    /// Waits without being in a hurry. Answers false, for those who ask whether they are done.
    fn refuse(&mut self, hold: Hold) -> bool {
        self.hold(hold);
        self.wake_in(RESYNC);
        false
    }

    /// Waits for something that is about to happen. Answers false.
    fn look_again(&mut self, hold: Hold) -> bool {
        self.hold(hold);
        self.wake_in(LOOK_AGAIN);
        false
    }

    /// Waits for something that somebody else must do. Answers false.
    fn look_later(&mut self, hold: Hold) -> bool {
        self.hold(hold);
        self.wake_in(LOOK_LATER);
        false
    }

    /// Who else has their hands on a Service of ours on the way forward: it must point where we left it. Past the point
    /// of no return it isn't ours any more.
    pub fn strangers(&self) -> Option<Hold> {
        if self.is_past_no_return() {
            return None;
        }
        self.entries().find_map(|entry| {
            let traffic = &self.status.traffic[entry];
            let side = if traffic.step == TrafficStep::Claimed {
                Side::From
            } else if self.is_on_new_side(entry) && traffic.step != TrafficStep::FlipIntended {
                Side::To
            } else {
                return None;
            };
            let service = traffic.service.clone();
            match self.sight(entry) {
                // Those who need to look say so themselves.
                Sight::Unseen => None,
                Sight::Absent => Some(Hold::ServiceAbsent { service }),
                Sight::Seen(view) if view.points(traffic) != Points::At(side) => {
                    Some(Hold::ForeignSelector { service })
                }
                Sight::Seen(view) => self.why_not_write(&service, view),
            }
        })
    }

    /// Whether the way back of the switches in effect is open.
    pub fn way_back(&self) -> WayBack {
        let mut unknown = None;
        for entry in self.entries().filter(|&entry| has_flipped(self.status.traffic[entry].step)) {
            let traffic = &self.status.traffic[entry];
            let service = &traffic.service;
            let view = match self.sight(entry) {
                Sight::Unseen => {
                    unknown.get_or_insert_with(|| Hold::ServiceUnseen { service: service.clone() });
                    continue;
                }
                Sight::Absent => return WayBack::Shut(format!("Service {service} does not exist")),
                Sight::Seen(view) => view,
            };
            if let Some(why) = self.world.way_back_denied.get(service) {
                return WayBack::Shut(format!("Service {service}: {why}"));
            }
            match if traffic.bound { self.why_writes_stay() } else { None } {
                Some(hold @ Hold::AgentUnseen { .. }) => {
                    unknown.get_or_insert(hold);
                }
                Some(hold) => return WayBack::Shut(hold.to_string()),
                None => {}
            }
            let keep = self
                .plan
                .phase(&traffic.phase)
                .and_then(|phase| phase.switch.as_ref())
                .and_then(|switch| switch.keep_old)
                .map_or(DEFAULT_KEEP_OLD, |percent| percent.0);
            let wanted = share_of(traffic.old_serving.unwrap_or(1), keep);
            if view.from_serving < wanted {
                let serving = view.from_serving;
                return WayBack::Shut(format!(
                    "the old side of Service {service} has {serving} of the {wanted} serving pods that it needs"
                ));
            }
        }
        unknown.map_or(WayBack::Open, WayBack::Unknown)
    }
}

/// A share of a count in percent, rounded up, at least one.
fn share_of(count: u32, percent: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what a u32 can hold")]
    let share = (f64::from(count) * percent / 100.0).ceil().clamp(1.0, f64::from(u32::MAX)) as u32;
    share
}
