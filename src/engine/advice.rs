//! What a person can do next, as a command that can be pasted, down to the one that takes traffic back by hand.

use crate::api::{APPROVED_BY_ANNOTATION, EPOCH_ANNOTATION, State};

use super::{draft::Draft, hold::Hold, verb, world::Sight};

/// Who the shell's user is to the API server. An approval that doesn't name its giver is refused by the chart's policy,
/// which holds the name against the request's.
const WHO_AM_I: &str = "\"$(kubectl auth whoami -o jsonpath='{.status.userInfo.username}')\"";

impl Draft<'_> {
    /// The command that leads on from here.
    pub fn next_command(&self) -> Option<String> {
        let plan = self.status.plan.as_ref()?;
        let any = verb::binding("*", &plan.hash, self.status.attempt);
        let retry_of = |tries: u32| Some(self.annotate("retry", &format!("{any}/{tries}")));
        if self.status.state == State::RolledBack {
            return (!self.is_leaving()).then(|| self.annotate("retry", &any));
        }
        match self.hold.as_ref()? {
            Hold::Approval { phase } => {
                let value = verb::binding(phase, &plan.hash, self.status.attempt);
                Some(format!("{} {APPROVED_BY_ANNOTATION}={WHO_AM_I}", self.annotate("approve", &value)))
            }
            Hold::Paused => Some(self.unannotate("pause")),
            Hold::Until { .. } => Some(self.patch("{\"spec\":{\"until\":null}}")),
            Hold::UndoFailed { .. } if self.is_leaving() => {
                Some(self.patch("{\"spec\":{\"deletionPolicy\":\"Orphan\"}}"))
            }
            Hold::PreflightJobFailed { tries, .. }
            | Hold::UndoFailed { tries, .. }
            | Hold::CleanUpFailed { tries, .. }
            | Hold::AgentGivenUp { tries, .. }
            | Hold::FailedForGood { tries, .. } => retry_of(*tries),
            Hold::NoWayBack { .. } => {
                let verbs = &self.world.verbs;
                let asked = |value: &Option<String>| {
                    let phase = self.status.phase.as_deref().unwrap_or_default();
                    value.as_ref().is_some_and(|value| verb::is_bound_to_any(value, phase, &self.status))
                };
                let set = [("abort", &verbs.abort), ("rollback", &verbs.rollback)];
                set.into_iter().find(|(_, value)| asked(value)).map(|(verb, _)| self.unannotate(verb))
            }
            Hold::ForeignSelector { service } => self.by_hand(service),
            // Once nothing stands there, both the claim and the way back go on.
            Hold::ForeignMark { service } if self.is_scribbled_on(service) => Some(format!(
                "kubectl -n {} annotate service {service} {EPOCH_ANNOTATION}-",
                self.world.namespace
            )),
            Hold::ForeignMark { service } => {
                let moved = self.entries().find(|&entry| self.status.traffic[entry].service == *service);
                if moved.is_some_and(|entry| self.is_on_new_side(entry)) {
                    self.by_hand(service)
                } else {
                    Some(self.annotate("abort", &any))
                }
            }
            Hold::RollbackNotReady { .. }
            | Hold::Baking { .. }
            | Hold::Observing { .. }
            | Hold::GuardBreached { .. }
            | Hold::GuardSilent { .. } => Some(self.annotate("rollback", &any)),
            Hold::JobRuns { .. }
            | Hold::JobRefused { .. }
            | Hold::JobStuck { .. }
            | Hold::RetryLater { .. }
            | Hold::Draining { .. }
            | Hold::Confirming { .. }
            | Hold::NewSideNotServing { .. }
            | Hold::BaselineRefused { .. }
            | Hold::Writing { .. }
            | Hold::MovingWrites { .. }
            | Hold::AgentUnseen { .. }
            | Hold::WriteDenied { .. }
                if !self.is_going_back() =>
            {
                Some(self.annotate("abort", &any))
            }
            Hold::JobRuns { .. }
            | Hold::JobRefused { .. }
            | Hold::JobStuck { .. }
            | Hold::RetryLater { .. }
            | Hold::Draining { .. }
            | Hold::Confirming { .. }
            | Hold::NewSideNotServing { .. }
            | Hold::BaselineRefused { .. }
            | Hold::Writing { .. }
            | Hold::MovingWrites { .. }
            | Hold::AgentUnseen { .. }
            | Hold::WriteDenied { .. }
            | Hold::NewerFormat(_)
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
            | Hold::Claiming { .. }
            | Hold::ClaimedByOther { .. }
            | Hold::BaselineMissing
            | Hold::ServiceUnseen { .. }
            | Hold::ServiceAbsent { .. }
            // There is nothing to move traffic to, by whatever hand.
            | Hold::OldSideGone { .. }
            | Hold::JobStops { .. }
            | Hold::Undoing { .. }
            | Hold::CleaningUp { .. }
            | Hold::Releasing { .. } => None,
        }
    }

    fn is_scribbled_on(&self, service: &str) -> bool {
        match self.world.services.get(service) {
            Some(Sight::Seen(view)) => view.scribble.is_some(),
            Some(Sight::Unseen | Sight::Absent) | None => false,
        }
    }

    fn annotate(&self, verb: &str, value: &str) -> String {
        let (name, namespace) = (&self.world.name, &self.world.namespace);
        format!("kubectl -n {namespace} annotate --overwrite migration {name} alongside.dev/{verb}='{value}'")
    }

    fn unannotate(&self, verb: &str) -> String {
        let (name, namespace) = (&self.world.name, &self.world.namespace);
        format!("kubectl -n {namespace} annotate migration {name} alongside.dev/{verb}-")
    }

    fn patch(&self, patch: &str) -> String {
        let (name, namespace) = (&self.world.name, &self.world.namespace);
        format!("kubectl -n {namespace} patch migration {name} --type=merge -p '{patch}'")
    }

    /// The `kubectl patch` that moves a Service's traffic back.
    fn by_hand(&self, service: &str) -> Option<String> {
        let traffic = self.status.traffic.iter().find(|traffic| traffic.service == service)?;
        let patch = serde_json::json!({ "spec": { "selector": traffic.from } });
        Some(format!("kubectl -n {} patch service {service} -p '{patch}'", self.world.namespace))
    }
}
