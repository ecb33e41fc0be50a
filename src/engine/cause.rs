//! Causes: what makes a migration go back, in the order in which they count.

use crate::api::{DeletionPolicy, OnBreach, RollbackReason, Time, TrafficStep};

use super::{
    draft::Draft,
    guard::Verdict,
    mark::Role,
    plan::{self, Action},
    traffic, verb,
    world::{Lifecycle, Points, Side, Sight},
};

/// Why a migration goes back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cause {
    pub reason: RollbackReason,
    pub message: String,
    pub by: String,
    pub sample_at: Option<Time>,
    /// Traffic stays where it is: only Jobs are stopped and marks given up.
    pub keeps_traffic: bool,
}

impl Cause {
    pub fn new(reason: RollbackReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), by: "operator".to_owned(), sample_at: None, keeps_traffic: false }
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
        let service = self.status.traffic.iter().enumerate().find_map(|(entry, traffic)| {
            let Sight::Seen(view) = self.sight(entry) else { return None };
            self.is_ours(view.mark.as_ref(), Role::Back).then_some(&traffic.service)
        })?;
        Some(Cause::new(
            RollbackReason::Evidence,
            format!("Service {service} carries the mark of a rollback that had begun"),
        ))
    }

    /// After the flip the selector is on the old side again, and not by our hand.
    fn foreign_way_back(&self) -> Option<Cause> {
        let service = self.status.traffic.iter().enumerate().find_map(|(entry, traffic)| {
            let Sight::Seen(view) = self.sight(entry) else { return None };
            let back = traffic::has_flipped(traffic.step) && view.points(traffic) == Points::At(Side::From);
            back.then_some(&traffic.service)
        })?;
        let message = format!("someone else moved the traffic of Service {service} back to the old side");
        Some(Cause { by: "someone else".to_owned(), ..Cause::new(RollbackReason::ForeignWayBack, message) })
    }

    fn deleted(&self) -> Option<Cause> {
        match self.world.lifecycle {
            Lifecycle::Alive => return None,
            Lifecycle::Deleting | Lifecycle::NamespaceTerminating => {}
        }
        let moved = self.status.traffic.iter().any(|traffic| traffic::in_effect(traffic.step));
        let stays = match self.world.deletion_policy {
            DeletionPolicy::Orphan => Some("deletionPolicy is Orphan".to_owned()),
            DeletionPolicy::Rollback if self.past_no_return() => Some("the point of no return is passed".to_owned()),
            DeletionPolicy::Rollback if moved && self.bake_is_over() => Some("the bake is over".to_owned()),
            DeletionPolicy::Rollback => self.rollback_ready().err(),
        };
        Some(match stays {
            None => Cause::new(RollbackReason::Deleted, "the Migration was deleted"),
            Some(why) => Cause {
                keeps_traffic: true,
                ..Cause::new(RollbackReason::Deleted, format!("the Migration was deleted; traffic stays: {why}"))
            },
        })
    }

    /// A guard that rolls back is breached.
    fn breach(&self) -> Option<Cause> {
        self.world.guards.iter().filter(|guard| !guard.dry_run && guard.on_breach == OnBreach::Rollback).find_map(
            |guard| {
                let Verdict::Breach { sample_at, .. } = guard.verdict else { return None };
                let value = guard.value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
                let message = format!("guard {} is breached: {value} against {}", guard.name, guard.limit);
                Some(Cause { sample_at, ..Cause::new(RollbackReason::Breach, message) })
            },
        )
    }

    fn asked(&self, verb: &str, value: Option<&str>, reason: RollbackReason) -> Option<Cause> {
        let value = value?;
        let phase = self.status.phase.clone().unwrap_or_default();
        let acts = !verb::is_consumed(verb, value, &self.status) && verb::is_bound_to_any(value, &phase, &self.status);
        acts.then(|| Cause { by: "user".to_owned(), ..Cause::new(reason, format!("asked for by {verb} {value}")) })
    }

    /// Whether each bake that follows a switch is done, and there is one.
    pub fn bake_is_over(&self) -> bool {
        let mut bakes =
            self.plan.phases().iter().zip(&self.status.phases).filter(|(phase, _)| match plan::action(phase) {
                Action::Bake(_) => true,
                Action::Sql(_) | Action::Job(_) | Action::Switch(_) | Action::Observe(_) | Action::Approval => false,
            });
        let mut any = false;
        bakes.all(|(_, status)| {
            any = true;
            status.state == crate::api::PhaseState::Done
        }) && any
    }

    /// Whether a Service is claimed or moved, so that marks have to be given up before the end.
    pub fn holds_marks(&self) -> bool {
        self.status.traffic.iter().any(|traffic| match traffic.step {
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
        })
    }
}
