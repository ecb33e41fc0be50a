//! Verbs: what a person asks for by annotation, bound to what it applies to, so that a stale one does nothing.

use crate::api::MigrationStatus;

/// What a verb must be bound to right now: `<phase>@<plan hash>/<attempt>`.
pub fn binding(phase: &str, hash: &str, attempt: u32) -> String {
    format!("{phase}@{hash}/{attempt}")
}

/// Whether a verb's value speaks of this phase, plan and attempt.
pub fn is_bound(value: &str, phase: &str, status: &MigrationStatus) -> bool {
    status.plan.as_ref().is_some_and(|plan| value == binding(phase, &plan.hash, status.attempt))
}

/// Whether a verb's value speaks of this plan and attempt, of whichever phase it is (`*`) or of this one.
pub fn is_bound_to_any(value: &str, phase: &str, status: &MigrationStatus) -> bool {
    is_bound(value, phase, status) || is_bound(value, "*", status)
}

/// Whether a `retry` speaks of this phase, plan and attempt, and of the try that has failed, if it names one
/// (`<phase>@<plan hash>/<attempt>/<try>`). One that names a try can be told from the one before it, so that a step
/// that fails again can be tried again.
pub fn is_retry_of(value: &str, phase: &str, tries: u32, status: &MigrationStatus) -> bool {
    let of_try = value.strip_suffix(&format!("/{tries}")).is_some_and(|rest| is_bound_to_any(rest, phase, status));
    of_try || is_bound_to_any(value, phase, status)
}

/// Whether a verb has been acted on before.
pub fn is_consumed(verb: &str, value: &str, status: &MigrationStatus) -> bool {
    status.verbs.get(verb).is_some_and(|consumed| consumed == value)
}
