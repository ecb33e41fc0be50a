//! Causes: what makes a migration go back, in the order in which they count.

use crate::api::{DeletionPolicy, OnBreach, PhaseState, RollbackReason, Span, Time, TrafficStep};

use super::{
    draft::Draft,
    guard::{GuardView, Verdict},
    hold::Hold,
    mark::Role,
    plan::{self, Action},
    traffic::{self, WayBack},
    verb,
    world::{Lifecycle, Points, Side, Sight},
};

/// How long a Migration that goes away waits for a Service that can't be read before it leaves traffic where it is.
const LEAVE_UNSEEN: Span = Span::secs(60);

/// Why a migration goes back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cause {
    pub reason: RollbackReason,
    pub message: String,
    pub by: String,
    pub sample_at: Option<Time>,
    pub seen_at: Option<Time>,
    /// Traffic stays where it is: only Jobs are stopped and marks given up.
    pub keeps_traffic: bool,
}

impl Cause {
    pub fn new(reason: RollbackReason, message: impl Into<String>) -> Self {
        let by = "operator".to_owned();
        Self { reason, message: message.into(), by, sample_at: None, seen_at: None, keeps_traffic: false }
    }
}

impl Draft<'_> {
    /// The first cause to go back, by precedence:
    /// 1. what has already happened to traffic, by our own hand or someone else's: it can only be followed;
    /// 2. the Migration going away: nobody will be there to act on anything below;
    /// 3. a breach: the numbers speak before people do;
    /// 4. abort, then rollback: what a person asked for.
    pub fn why_go_back(&self) -> Option<Cause> {
        self.evidence()
            .or_else(|| self.foreign_way_back())
            .or_else(|| self.deleted())
            .or_else(|| self.breach())
            .or_else(|| self.asked("abort", self.world.verbs.abort.as_deref(), RollbackReason::Abort))
            .or_else(|| self.asked("rollback", self.world.verbs.rollback.as_deref(), RollbackReason::Requested))
    }

    /// Our own mark of a way back that status has not heard of: lane 1 went out and its status write was lost.
    fn evidence(&self) -> Option<Cause> {
        if let Some(service) = self.agent_goes_back() {
            let message = format!("the agent had been told to take the writes of Service {service} back");
            return Some(Cause::new(RollbackReason::Evidence, message));
        }
        let service = self.status.traffic.iter().enumerate().find_map(|(entry, traffic)| {
            let Sight::Seen(view) = self.sight(entry) else { return None };
            self.is_ours(view.mark.as_ref(), Role::Back).then_some(&traffic.service)
        })?;
        Some(Cause::new(
            RollbackReason::Evidence,
            format!("Service {service} carries the mark of a rollback that had begun"),
        ))
    }

    /// After the flip the selector is on the old side again, and not by our hand. Past the point of no return the
    /// Service isn't ours any more.
    fn foreign_way_back(&self) -> Option<Cause> {
        if self.is_past_no_return() {
            return None;
        }
        let service = self.status.traffic.iter().enumerate().find_map(|(entry, traffic)| {
            let Sight::Seen(view) = self.sight(entry) else { return None };
            let flipped = self.is_on_new_side(entry) && traffic.step != TrafficStep::FlipIntended;
            (flipped && view.points(traffic) == Points::At(Side::From)).then_some(&traffic.service)
        })?;
        let message = format!("someone else moved the traffic of Service {service} back to the old side");
        Some(Cause { by: "someone else".to_owned(), ..Cause::new(RollbackReason::ForeignWayBack, message) })
    }

    /// What must be looked at before a Migration that goes away can say whether traffic stays: "could not look" decides
    /// nothing, for a while.
    pub fn must_look_before_leaving(&self) -> Option<Hold> {
        if !self.is_leaving() || self.world.deletion_policy == DeletionPolicy::Orphan {
            return None;
        }
        let WayBack::Unknown(hold) = self.way_back() else { return None };
        let known = self.status.hold.as_ref().filter(|known| known.reason == hold.word());
        let waited = known.map_or(Span::millis(0), |known| self.now.since(known.since));
        (waited < LEAVE_UNSEEN).then_some(hold)
    }

    fn deleted(&self) -> Option<Cause> {
        match self.world.lifecycle {
            Lifecycle::Alive => return None,
            Lifecycle::Deleting | Lifecycle::NamespaceTerminating => {}
        }
        let moved = self.entries().any(|entry| self.is_on_new_side(entry));
        let stays = match self.world.deletion_policy {
            DeletionPolicy::Orphan => Some("deletionPolicy is Orphan".to_owned()),
            DeletionPolicy::Rollback if self.is_past_no_return() => Some("the point of no return is passed".to_owned()),
            DeletionPolicy::Rollback if moved && self.bake_is_over() => Some("the bake is over".to_owned()),
            DeletionPolicy::Rollback => match self.way_back() {
                WayBack::Open => None,
                WayBack::Shut(why) => Some(why),
                WayBack::Unknown(hold) => Some(hold.to_string()),
            },
        };
        Some(match stays {
            None => Cause::new(RollbackReason::Deleted, "the Migration was deleted"),
            Some(why) => Cause {
                keeps_traffic: true,
                ..Cause::new(RollbackReason::Deleted, format!("the Migration was deleted; traffic stays: {why}"))
            },
        })
    }

    /// The guards that hold now, as they are seen. One that belongs to another phase has no say.
    pub fn guards_now(&self) -> impl Iterator<Item = &GuardView> {
        let present = self.current().unwrap_or(self.status.phases.len());
        let expected = self.plan.guards_during(present);
        self.world.guards.iter().filter(move |view| expected.iter().any(|guard| guard.name == view.name))
    }

    /// A guard that rolls back is breached.
    fn breach(&self) -> Option<Cause> {
        let acts = |guard: &&GuardView| !guard.dry_run && guard.on_breach == OnBreach::Rollback;
        self.guards_now().filter(acts).find_map(|guard| {
            let Verdict::Breach { sample_at, seen_at } = guard.verdict else { return None };
            let value = guard.value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            let message = format!("guard {} is breached: {value} against {}", guard.name, guard.limit);
            let cause = Cause::new(RollbackReason::Breach, message);
            Some(Cause { sample_at, seen_at: Some(seen_at), ..cause })
        })
    }

    fn asked(&self, verb: &str, value: Option<&str>, reason: RollbackReason) -> Option<Cause> {
        let value = value?;
        let phase = self.status.phase.clone().unwrap_or_default();
        let acts = !verb::is_consumed(verb, value, &self.status) && verb::is_bound_to_any(value, &phase, &self.status);
        acts.then(|| Cause { by: "user".to_owned(), ..Cause::new(reason, format!("asked for by {verb} {value}")) })
    }

    /// Whether each bake is done, and there is one; or every phase is.
    pub fn bake_is_over(&self) -> bool {
        let is_bake = |phase: &crate::api::Phase| match plan::action(phase) {
            Action::Bake(_) => true,
            Action::Sql(_)
            | Action::Job(_)
            | Action::Replicate(_)
            | Action::Backfill(_)
            | Action::Verify(_)
            | Action::Switch(_)
            | Action::Observe(_)
            | Action::Approval => false,
        };
        let is_done = |phase: &crate::api::PhaseStatus| phase.state == PhaseState::Done;
        let mut bakes = self
            .plan
            .phases()
            .iter()
            .zip(&self.status.phases)
            .filter(|(phase, _)| is_bake(phase))
            .map(|(_, status)| status)
            .peekable();
        let all_baked = bakes.peek().is_some() && bakes.all(is_done);
        all_baked || (!self.status.phases.is_empty() && self.status.phases.iter().all(is_done))
    }

    /// Whether a Service is claimed or moved, so that marks have to be given up before the end.
    pub fn holds_marks(&self) -> bool {
        self.status.traffic.iter().any(|traffic| traffic::holds_mark(traffic.step))
    }
}
