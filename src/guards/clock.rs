//! The edge where time comes in.

use std::{
    sync::Mutex,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::api::Time;

/// A difference between wall and steady time that is no ordinary drift: the machine slept, or its clock was set.
const STEP: Duration = Duration::from_secs(1);

/// Says what time it is.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// The time now. Never earlier than any time told before.
    fn now(&self) -> Time;
}

/// The machine's clock, made safe to measure ages with: it follows the wall clock forward, never back.
///
/// A wall clock that is set back would make an old sample look fresh for as long as the step was wide; a steady clock
/// alone stands still while the machine sleeps, which would do the same.
#[derive(Debug)]
pub struct SystemClock {
    anchor: Mutex<(Instant, Duration)>,
}

impl SystemClock {
    /// A clock that begins at the wall's time.
    pub fn new() -> Self {
        Self { anchor: Mutex::new((Instant::now(), wall())) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let mut anchor = self.anchor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (started, at) = *anchor;
        let steady = at + started.elapsed();
        let wall = wall();
        let now = if wall > steady + STEP { wall } else { steady };
        if now != steady {
            *anchor = (Instant::now(), wall);
        }
        Time(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }
}

fn wall() -> Duration {
    // Before 1970 only an unset clock says; zero is as good as any wrong time and never panics.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_follows_the_wall_forward_but_never_back() {
        let behind =
            SystemClock { anchor: Mutex::new((Instant::now(), wall().checked_sub(Duration::from_hours(1)).unwrap())) };
        let now = i64::try_from(wall().as_millis()).unwrap();
        assert!(behind.now().0 >= now, "a machine that slept an hour still lives an hour ago");
        let ahead = SystemClock { anchor: Mutex::new((Instant::now(), wall() + Duration::from_hours(1))) };
        assert!(ahead.now().0 >= now + 3_600_000, "the clock went back with the wall");
    }
}
