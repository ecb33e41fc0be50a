//! The wall clock, read in one place: load, operator and Prometheus write down wall-clock times too.

use std::time::{SystemTime, UNIX_EPOCH};

use alongside::api::Time;

use crate::tell;

/// Returns the time.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Counts from a beginning.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begin: Time,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self { begin: now() }
    }

    /// When it began.
    pub fn begin(self) -> Time {
        self.begin
    }

    /// Tells a line that is true now.
    pub fn tell(self, text: &str) {
        self.tell_of(now(), text);
    }

    /// Tells a line that was true at a time.
    pub fn tell_of(self, at: Time, text: &str) {
        tell::line(self.begin, at, text);
    }
}
