//! What a decision says of itself: state, message, next command and conditions, all from one typed hold.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time as MetaTime};

use crate::api::{GuardStatus, PhaseState, State, Time};

use super::{
    draft::{Decision, Draft, cut},
    guard::{GuardView, Verdict},
    hold::{Class, Hold},
    plan::{self, Action},
    traffic, verb,
};

/// Turns a draft into a decision.
pub(crate) fn finish(mut draft: Draft<'_>) -> Decision {
    draft.show_phase();
    draft.show_guards();
    draft.show_hold();
    draft.show_conditions();
    Decision { status: draft.status, at_once: draft.at_once, after: draft.after, wake: draft.wake, notes: draft.notes }
}

impl Draft<'_> {
    fn show_phase(&mut self) {
        let done = self.status.phases.iter().filter(|phase| phase.state == PhaseState::Done).count();
        let planned = self.status.phases.len().max(self.plan.phases().len());
        self.status.progress = format!("{done}/{planned}");
        let ended = matches!(self.status.state, State::Succeeded | State::RolledBack);
        // On the way back the phase shown stays the one that was under way when it began.
        if !self.is_going_back() && !ended {
            self.status.phase = self
                .current()
                .and_then(|index| self.status.phases.get(index))
                .map(|phase| phase.name.clone())
                .or_else(|| self.plan.phases().first().map(|phase| phase.name.clone()));
        }
        let phase = self.status.phase.clone().unwrap_or_default();
        let attempt = self.status.attempt;
        self.status.binding = self.status.plan.as_ref().map(|plan| verb::binding(&phase, &plan.hash, attempt));
    }

    /// Status hears of changes, not of polls: a guard's entry is written when its verdict becomes another.
    fn show_guards(&mut self) {
        let known = std::mem::take(&mut self.status.guards);
        let now = self.now;
        self.status.guards = self
            .world
            .guards
            .iter()
            .map(|guard| {
                let word = verdict_word(&guard.verdict);
                match known.iter().find(|k| k.name == guard.name && k.verdict == word) {
                    Some(unchanged) => unchanged.clone(),
                    None => guard_status(guard, word, now),
                }
            })
            .collect();
    }

    fn show_hold(&mut self) {
        let ended = matches!(self.status.state, State::Succeeded | State::RolledBack);
        let going_back = self.is_going_back();
        let class = self.hold.as_ref().map(Hold::class);
        if !ended {
            self.status.state = match class {
                Some(Class::Stall) => State::Stalled,
                Some(Class::Wait | Class::Work) | None if going_back => State::RollingBack,
                _ if self.status.begun == 0 => State::Preflight,
                Some(Class::Wait) => State::Waiting,
                Some(Class::Work) | None => State::Running,
            };
            // A plan that waits for its first approval has passed its preflight.
            if self.status.state == State::Preflight && matches!(self.hold, Some(Hold::Approval { .. } | Hold::Paused))
            {
                self.status.state = State::Waiting;
            }
        }
        let message = match (&self.status.state, &self.hold) {
            (State::Succeeded, _) => "every phase is done".to_owned(),
            (State::RolledBack, _) => self.rolled_back_message(),
            (_, Some(hold)) if going_back => format!("{}; {hold}", self.rollback_message()),
            (_, Some(hold)) => hold.to_string(),
            (_, None) if going_back => self.rollback_message(),
            (_, None) => "going on".to_owned(),
        };
        self.status.message = cut(message);
        self.status.next = self.next_command();
        let since = |word: &str, draft: &Self| {
            draft.status.hold.as_ref().filter(|hold| hold.reason == word).map_or(draft.now, |hold| hold.since)
        };
        self.status.hold = self.hold.as_ref().filter(|_| !ended).map(|hold| crate::api::HoldStatus {
            reason: hold.word().to_owned(),
            since: since(hold.word(), self),
            deadline: None,
            on_deadline: None,
        });
    }

    fn rollback_message(&self) -> String {
        self.status.rollback.as_ref().map_or_else(String::new, |rollback| format!("rolling back: {}", rollback.message))
    }

    fn rolled_back_message(&self) -> String {
        self.status.rollback.as_ref().map_or_else(
            || "taken back before the first effect".to_owned(),
            |rollback| format!("rolled back: {}", rollback.message),
        )
    }

    /// What a person can do next, down to the command that takes traffic back by hand.
    fn next_command(&self) -> Option<String> {
        let (name, namespace) = (&self.world.name, &self.world.namespace);
        let plan = self.status.plan.as_ref()?;
        let any = verb::binding("*", &plan.hash, self.status.attempt);
        let annotate = |verb: &str, value: &str| {
            format!("kubectl -n {namespace} annotate --overwrite migration {name} alongside.dev/{verb}='{value}'")
        };
        if self.status.state == State::RolledBack {
            return Some(annotate("retry", &any));
        }
        match self.hold.as_ref()? {
            Hold::Approval { phase } => {
                let value = verb::binding(phase, &plan.hash, self.status.attempt);
                Some(annotate("approve", &value))
            }
            Hold::Paused => Some(format!("kubectl -n {namespace} annotate migration {name} alongside.dev/pause-")),
            Hold::PreflightJobFailed { .. } | Hold::UndoFailed { .. } | Hold::FailedForGood { .. } => {
                Some(annotate("retry", &any))
            }
            Hold::OldSideGone { service } | Hold::ForeignSelector { service } | Hold::ForeignMark { service } => {
                self.by_hand(service)
            }
            Hold::RollbackNotReady { .. }
            | Hold::Baking { .. }
            | Hold::Observing { .. }
            | Hold::GuardBreached { .. }
            | Hold::GuardSilent { .. } => Some(annotate("rollback", &any)),
            Hold::JobRuns { .. } | Hold::RetryLater { .. } | Hold::Draining { .. } | Hold::Confirming { .. } => {
                Some(annotate("abort", &any))
            }
            Hold::Until { .. }
            | Hold::NewerFormat(_)
            | Hold::PreflightNotAsked
            | Hold::PreflightRefused(_)
            | Hold::PreflightWaits(_)
            | Hold::Storing
            | Hold::PlanLost(_)
            | Hold::PreflightJob { .. }
            | Hold::Claiming { .. }
            | Hold::ClaimedByOther { .. }
            | Hold::BaselineMissing
            | Hold::BaselineRefused { .. }
            | Hold::ServiceUnseen { .. }
            | Hold::ServiceAbsent { .. }
            | Hold::NewSideNotServing { .. }
            | Hold::Writing { .. }
            | Hold::JobStops { .. }
            | Hold::Undoing { .. }
            | Hold::NoWayBack { .. }
            | Hold::Releasing { .. } => None,
        }
    }

    /// The `kubectl patch` that moves a Service's traffic back.
    fn by_hand(&self, service: &str) -> Option<String> {
        let traffic = self.status.traffic.iter().find(|traffic| traffic.service == service)?;
        let patch = serde_json::json!({ "spec": { "selector": traffic.from } });
        Some(format!("kubectl -n {} patch service {service} -p '{patch}'", self.world.namespace))
    }

    fn show_conditions(&mut self) {
        let state = self.status.state;
        let stalled = state == State::Stalled;
        let ended = matches!(state, State::Succeeded | State::RolledBack);
        // A bake that is the last phase `until` allows would hold a sync open for its whole length (behaviour 41).
        let ready =
            state == State::Succeeded || (!stalled && self.hold.as_ref().is_some_and(|hold| self.is_at_rest(hold)));
        let word = match (&self.hold, state) {
            (_, State::Succeeded) => "Succeeded".to_owned(),
            (_, State::RolledBack) => "RolledBack".to_owned(),
            (Some(hold), _) => hold.word().to_owned(),
            (None, _) => "GoingOn".to_owned(),
        };
        let message = self.status.message.clone();
        let failed = stalled || state == State::RolledBack;
        self.condition("Ready", ready, &word, &message);
        self.condition("Reconciling", !ready && !failed && !ended, &word, &message);
        self.condition("Stalled", failed, &word, &message);
        let unhealthy = self.world.guards.iter().find(|guard| !guard.dry_run && guard.verdict != Verdict::Pass);
        let (healthy, word, message) = match unhealthy {
            None => (true, "Passing", "every guard passes".to_owned()),
            Some(guard) => (false, verdict_word(&guard.verdict), format!("guard {} does not pass", guard.name)),
        };
        self.condition("GuardsHealthy", healthy, word, &message);
        self.show_rollback_ready();
    }

    fn show_rollback_ready(&mut self) {
        let flipped = self.status.traffic.iter().any(|traffic| traffic::has_flipped(traffic.step));
        let was = self.status.conditions.iter().find(|c| c.type_ == "RollbackReady").map(|c| c.status.clone());
        if !flipped || self.bake_is_over() {
            self.status.conditions.retain(|condition| condition.type_ != "RollbackReady");
            return;
        }
        match self.rollback_ready() {
            Ok(()) => self.condition("RollbackReady", true, "Ready", "traffic can go back at any moment"),
            Err(why) => {
                if was.as_deref() != Some("False") {
                    let phase = self.status.phase.clone();
                    self.alarm("RollbackNotReady", phase.as_deref(), format!("the way back is not open: {why}"));
                }
                self.condition("RollbackReady", false, "NotReady", &why);
            }
        }
    }

    /// Whether all that the user asked for so far is done, and what is left is time or a later `until`.
    fn is_at_rest(&self, hold: &Hold) -> bool {
        match hold {
            Hold::Until { .. } => true,
            Hold::Baking { phase } => {
                self.world.until.as_deref() == Some(phase)
                    && self.plan.phases().iter().any(|p| p.name == *phase && matches!(plan::action(p), Action::Bake(_)))
            }
            Hold::NewerFormat(_)
            | Hold::PreflightNotAsked
            | Hold::PreflightRefused(_)
            | Hold::PreflightWaits(_)
            | Hold::Storing
            | Hold::PlanLost(_)
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
            | Hold::Confirming { .. }
            | Hold::Draining { .. }
            | Hold::JobRuns { .. }
            | Hold::JobStops { .. }
            | Hold::RetryLater { .. }
            | Hold::FailedForGood { .. }
            | Hold::Observing { .. }
            | Hold::RollbackNotReady { .. }
            | Hold::UndoFailed { .. }
            | Hold::Undoing { .. }
            | Hold::NoWayBack { .. }
            | Hold::Releasing { .. } => false,
        }
    }

    fn condition(&mut self, type_: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
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

/// A verdict as one word, for status and metrics.
pub fn verdict_word(verdict: &Verdict) -> &'static str {
    use super::guard::Silence;
    match verdict {
        Verdict::Pass => "Pass",
        Verdict::Breach { .. } => "Breach",
        Verdict::Silent { why, .. } => match why {
            Silence::NotAsked => "NotAsked",
            Silence::NoData => "NoData",
            Silence::Stale { .. } => "Stale",
            Silence::Nan => "NaN",
            Silence::Unavailable => "Unavailable",
            Silence::LowTraffic { .. } => "LowTraffic",
            Silence::MultiSeries { .. } => "MultiSeries",
            Silence::Doubtful => "Doubtful",
            Silence::NoBaseline => "NoBaseline",
        },
    }
}

fn guard_status(guard: &GuardView, word: &str, now: Time) -> GuardStatus {
    GuardStatus {
        name: guard.name.clone(),
        verdict: word.to_owned(),
        value: guard.value.map(|value| value.to_string()),
        limit: Some(guard.limit.clone()).filter(|limit| !limit.is_empty()),
        since: now,
        dry_run: guard.dry_run,
    }
}

fn meta_time(at: Time) -> MetaTime {
    MetaTime(jiff::Timestamp::from_second(at.0.div_euclid(1000)).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}
