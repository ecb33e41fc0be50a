//! The whole application as users run it: its processes, a real Postgres, and real connections.

mod load;
mod manifests;
mod postgres;
mod process;
mod serve;
mod service;
mod wire;

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take before its test fails. Generous: a slow machine is no failure.
const DEADLINE: Duration = Duration::from_mins(1);

/// Waits until `look` has something to return; fails with `what` after the deadline.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
