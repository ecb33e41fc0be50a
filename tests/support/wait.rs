//! Waiting for a state, with a deadline.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// Asks again and again until the answer is `Ok`, and returns what is in it.
///
/// # Panics
/// With the sentence and the last answer, once `deadline` has passed. The last try begins before it.
pub async fn within<T, E: Display>(
    deadline: Duration,
    sentence: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(found) => return found,
            Err(last) if start.elapsed() > deadline => panic!("not true within {deadline:?}: {sentence}: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
