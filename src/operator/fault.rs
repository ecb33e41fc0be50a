//! Boundaries between intent, effect and observation, at which tests stop the operator, kill it or let it go on.
//!
//! Only a binary built with the feature `fault-points` stops at them; in any other this room is empty.

use crate::engine::effect::Effect;

/// Which side of an effect or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has gone out yet.
    Before,
    /// The API server has answered.
    After,
}

/// The name under which a status write is stopped at.
pub const RECORD: &str = "Record";
/// The name under which a write of lane 1 is stopped at.
pub const WAY_BACK: &str = "WayBack";
/// The name under which an order of lane 1 to an agent is stopped at.
pub const ORDER_BACK: &str = "OrderBack";

/// The name of a boundary, such as `CreateJob.Before`.
pub fn name(what: &str, moment: Moment) -> String {
    format!("{what}.{moment:?}")
}

/// Every boundary there is, from the list of effects.
pub fn all() -> Vec<String> {
    let whats = Effect::NAMES.iter().copied().chain([RECORD, WAY_BACK, ORDER_BACK]);
    whats.flat_map(|what| [name(what, Moment::Before), name(what, Moment::After)]).collect()
}

/// Stops here if a test asks for it.
#[cfg(not(feature = "fault-points"))]
#[allow(clippy::unused_async, reason = "it waits where the feature is on")]
pub async fn point(_what: &str, _moment: Moment) {}

/// Stops here if the first word of the file `hold` in `$ALONGSIDE_FAULT_DIR` names this boundary: writes the file's text
/// into `reached`, and goes on once `hold` holds another text or is gone, or after a minute. Whatever follows the first
/// word tells one stop at a boundary from the next.
#[cfg(feature = "fault-points")]
pub async fn point(what: &str, moment: Moment) {
    use std::{path::PathBuf, time::Duration};
    let Some(dir) = std::env::var_os("ALONGSIDE_FAULT_DIR").map(PathBuf::from) else { return };
    let asked = || std::fs::read_to_string(dir.join("hold")).ok();
    let boundary = name(what, moment);
    let Some(hold) = asked().filter(|text| text.split_whitespace().next() == Some(&boundary)) else { return };
    if let Err(error) = std::fs::write(dir.join("reached"), &hold) {
        tracing::error!(%error, "the fault point can't say that it was reached");
    }
    for _ in 0..1200 {
        if asked().as_ref() != Some(&hold) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
