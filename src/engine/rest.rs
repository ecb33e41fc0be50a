//! Rest: a wait of which everything that could end it is on the Migration itself.

use super::world::{Lifecycle, Verbs};
use crate::api::{MigrationStatus, State, TrafficStep};

/// The waits, by their holds' words, that only a person ends, and ends by a change of the Migration.
const AWAITS_A_PERSON: [&str; 3] = ["Approval", "Paused", "Until"];

/// Whether nothing needs to be looked at until the Migration changes: it waits for a person, nobody has asked for
/// anything, no guard watches over it, no Job is out and no traffic has moved.
///
/// Ten thousand may wait like this. What others do meanwhile to its Services is found out before its next step.
pub fn rests(status: &MigrationStatus, generation: i64, lifecycle: Lifecycle, verbs: &Verbs) -> bool {
    let Some(hold) = &status.hold else { return false };
    let nobody_asks = [&verbs.approve, &verbs.abort, &verbs.rollback, &verbs.retry].into_iter().all(Option::is_none);
    let is_where_it_was = |step: TrafficStep| [TrafficStep::Unclaimed, TrafficStep::Claimed].contains(&step);
    status.state == State::Waiting
        && AWAITS_A_PERSON.contains(&hold.reason.as_str())
        && verbs.pause.is_some() == (hold.reason == "Paused")
        && nobody_asks
        && lifecycle == Lifecycle::Alive
        && status.observed_generation == generation
        && status.plan.is_some()
        && status.guards.is_empty()
        && status.rollback.is_none()
        && status.traffic.iter().all(|traffic| is_where_it_was(traffic.step))
        && status.awaited_jobs().next().is_none()
}
