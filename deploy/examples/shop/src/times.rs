//! Durations as people write them, and the wall clock as the reports print it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

/// What is wrong with a duration.
#[derive(Debug, thiserror::Error)]
pub enum DurationError {
    /// It isn't a number with a unit.
    #[error("a duration is a number with a unit, such as 200ms, 5s or 1m")]
    Unreadable(#[source] jiff::Error),
    /// It is negative.
    #[error("a duration can't be negative")]
    Negative,
}

/// Reads a duration such as `200ms`, `5s` or `1m 30s`.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let signed: SignedDuration = text.parse().map_err(DurationError::Unreadable)?;
    signed.try_into().map_err(|_| DurationError::Negative)
}

/// Reads an optional duration in JSON, written as a string: `"5s"`.
pub fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Option::<String>::deserialize(deserializer)?
        .map(|text| duration(&text).map_err(serde::de::Error::custom))
        .transpose()
}

/// Returns the wall-clock time in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Returns a duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit() {
        assert_eq!(duration("200ms").unwrap(), Duration::from_millis(200));
        assert_eq!(duration("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("1m 30s").unwrap(), Duration::from_secs(90));
        assert!(matches!(duration("5"), Err(DurationError::Unreadable(_))));
        assert!(matches!(duration("-5s"), Err(DurationError::Negative)));
    }
}
