//! Conditions after the kstatus convention, and `GuardsHealthy` and `RollbackReady`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time as MetaTime};

use crate::api::{State, Time};

use super::{
    draft::Draft,
    explain::{has_ended, verdict_word},
    guard::Verdict,
    hold::Hold,
    plan::{self, Action},
    traffic::{self, WayBack},
};

/// What a condition says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    True,
    False,
    Unknown,
}

impl From<bool> for Holds {
    fn from(yes: bool) -> Self {
        if yes { Holds::True } else { Holds::False }
    }
}

impl Holds {
    fn word(self) -> &'static str {
        match self {
            Holds::True => "True",
            Holds::False => "False",
            Holds::Unknown => "Unknown",
        }
    }
}

impl Draft<'_> {
    /// Writes all conditions.
    pub fn show_conditions(&mut self) {
        let state = self.status.state;
        let stalled = state == State::Stalled;
        let ended = has_ended(state);
        // A bake that is the last phase `until` allows would hold a sync open for its whole length (behaviour 41).
        let ready =
            state == State::Succeeded || (!stalled && self.hold.as_ref().is_some_and(|hold| self.is_at_rest(hold)));
        let word = match (&self.hold, state) {
            (_, State::Succeeded) => "Succeeded",
            (_, State::RolledBack) => "RolledBack",
            (Some(hold), _) => hold.word(),
            (None, _) => "GoingOn",
        };
        let message = self.status.message.clone();
        let failed = stalled || state == State::RolledBack;
        self.condition("Ready", ready.into(), word, &message);
        self.condition("Reconciling", (!ready && !failed && !ended).into(), word, &message);
        self.condition("Stalled", failed.into(), word, &message);
        if !ended {
            self.show_guards_healthy();
        }
        self.show_rollback_ready();
    }

    /// A guard that isn't seen at all has not been asked: that is not healthy.
    fn show_guards_healthy(&mut self) {
        let present = self.current().unwrap_or(self.status.phases.len());
        let expected = self.plan.guards_during(present);
        let missing = expected.iter().find(|guard| self.world.guards.iter().all(|view| view.name != guard.name));
        let unhealthy = self.world.guards.iter().find(|guard| !guard.dry_run && guard.verdict != Verdict::Pass);
        let (healthy, word, message) = match (unhealthy, missing) {
            (Some(guard), _) => (false, verdict_word(&guard.verdict), format!("guard {} does not pass", guard.name)),
            (None, Some(guard)) => (false, "NotAsked", format!("guard {} has not been asked yet", guard.name)),
            (None, None) => (true, "Passing", "every guard passes".to_owned()),
        };
        self.condition("GuardsHealthy", healthy.into(), word, &message);
    }

    fn show_rollback_ready(&mut self) {
        let flipped = self.status.traffic.iter().any(|traffic| traffic::has_flipped(traffic.step));
        let was = self.status.conditions.iter().find(|c| c.type_ == "RollbackReady").map(|c| c.status.clone());
        if !flipped || self.bake_is_over() {
            self.status.conditions.retain(|condition| condition.type_ != "RollbackReady");
            return;
        }
        match self.way_back() {
            WayBack::Open => {
                self.condition("RollbackReady", Holds::True, "Ready", "traffic can go back at any moment");
            }
            WayBack::Shut(why) => {
                // While writes move, either way, another move of them isn't open, and nothing is wrong.
                let moves =
                    self.is_going_back() || self.status.traffic.iter().any(|traffic| traffic::is_moving(traffic.step));
                if was.as_deref() != Some(Holds::False.word()) && !moves {
                    let phase = self.status.phase.clone();
                    self.alarm("RollbackNotReady", phase.as_deref(), format!("the way back is not open: {why}"));
                }
                self.condition("RollbackReady", Holds::False, "NotReady", &why);
            }
            WayBack::Unknown(hold) => {
                self.condition("RollbackReady", Holds::Unknown, hold.word(), &hold.to_string());
            }
        }
    }

    /// Whether all that the user asked for so far is done, and what is left is time or a later `until`.
    fn is_at_rest(&self, hold: &Hold) -> bool {
        match hold {
            Hold::Until { .. } => true,
            Hold::Baking { phase } => {
                let is_bake = self.plan.phase(phase).is_some_and(|phase| match plan::action(phase) {
                    Action::Bake(_) => true,
                    Action::Sql(_)
                    | Action::Job(_)
                    | Action::Replicate(_)
                    | Action::Backfill(_)
                    | Action::Verify(_)
                    | Action::Switch(_)
                    | Action::Observe(_)
                    | Action::Approval => false,
                });
                is_bake && self.world.until.as_deref() == Some(phase)
            }
            Hold::NewerFormat(_)
            | Hold::PreflightNotAsked
            | Hold::PreflightRefused(_)
            | Hold::PreflightWaits(_)
            | Hold::Storing
            | Hold::PlanLost(_)
            | Hold::PlanForeign(_)
            | Hold::StatusForeign { .. }
            | Hold::BegunEdited { .. }
            | Hold::StatusBehind { .. }
            | Hold::PreflightJob { .. }
            | Hold::PreflightJobFailed { .. }
            | Hold::Claiming { .. }
            | Hold::ClaimedByOther { .. }
            | Hold::Paused
            | Hold::Approval { .. }
            | Hold::GuardSilent { .. }
            | Hold::GuardBreached { .. }
            | Hold::BaselineMissing
            | Hold::BaselineRefused { .. }
            | Hold::ServiceUnseen { .. }
            | Hold::ServiceAbsent { .. }
            | Hold::ForeignSelector { .. }
            | Hold::ForeignMark { .. }
            | Hold::NewSideNotServing { .. }
            | Hold::OldSideGone { .. }
            | Hold::Writing { .. }
            | Hold::MovingWrites { .. }
            | Hold::AgentUnseen { .. }
            | Hold::AgentGivenUp { .. }
            | Hold::WriteDenied { .. }
            | Hold::Confirming { .. }
            | Hold::Draining { .. }
            | Hold::JobRuns { .. }
            | Hold::JobRefused { .. }
            | Hold::JobStuck { .. }
            | Hold::JobStops { .. }
            | Hold::RetryLater { .. }
            | Hold::FailedForGood { .. }
            | Hold::Observing { .. }
            | Hold::RollbackNotReady { .. }
            | Hold::UndoFailed { .. }
            | Hold::Undoing { .. }
            | Hold::CleanUpFailed { .. }
            | Hold::CleaningUp { .. }
            | Hold::NoWayBack { .. }
            | Hold::Releasing { .. } => false,
        }
    }

    fn condition(&mut self, type_: &str, holds: Holds, reason: &str, message: &str) {
        let status = holds.word();
        let known = self.status.conditions.iter_mut().find(|condition| condition.type_ == type_);
        let at = meta_time(self.now);
        let generation = Some(self.status.observed_generation);
        match known {
            Some(known) => {
                if known.status != status {
                    known.last_transition_time = at;
                }
                status.clone_into(&mut known.status);
                reason.clone_into(&mut known.reason);
                message.clone_into(&mut known.message);
                known.observed_generation = generation;
            }
            None => self.status.conditions.push(Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: message.to_owned(),
                last_transition_time: at,
                observed_generation: generation,
            }),
        }
    }
}

fn meta_time(at: Time) -> MetaTime {
    MetaTime(jiff::Timestamp::from_second(at.0.div_euclid(1000)).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}
