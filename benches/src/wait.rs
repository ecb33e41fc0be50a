//! Waiting for a state, with a deadline.

use std::time::{Duration, Instant};

/// Long enough for whatever works at all, on a busy machine.
pub const LONG: Duration = Duration::from_mins(10);

/// Looks again and again until there is something, and returns it.
///
/// # Panics
/// With the sentence, once `deadline` has passed.
pub async fn until<T>(deadline: Duration, sentence: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < deadline, "not true within {deadline:?}: {sentence}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A number from 0 up to 1, different with each call: breaches must not keep step with any poll.
pub fn fraction() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let bits = RandomState::new().hash_one(0) % 10_000;
    f64::from(u16::try_from(bits).unwrap_or_default()) / 10_000.0
}
