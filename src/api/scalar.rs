//! Scalars with a unit: durations, shares and points in time, each with its parser and its schema.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The pattern of a [`Span`]; the schema carries it so that a typing error gets a message of its own. Its digits are
/// counted so that no span that it lets pass is longer than CEL's `duration` can hold (292 years).
pub const SPAN_PATTERN: &str = r"^([0-9]{1,9}m?s|[0-9]{1,7}m|[0-9]{1,5}[hd]){1,5}$";
/// The pattern of a [`Percent`].
pub const PERCENT_PATTERN: &str = r"^[0-9]+(\.[0-9]+)?%$";

/// A length of time as users write it: `500ms`, `30s`, `1h30m`, `3d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

/// Why a scalar could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScalarError {
    /// Not a length of time.
    #[error("{0:?} is not a duration; write a number and a unit, such as 500ms, 30s, 10m, 24h or 3d")]
    Span(String),
    /// Not a share.
    #[error("{0:?} is not a share; write a number and a percent sign, such as 5%")]
    Percent(String),
}

impl Span {
    /// A span of whole seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A span of milliseconds.
    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// Length in milliseconds, capped at `i64::MAX`.
    pub fn as_millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Span {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ScalarError::Span(text.to_owned());
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
            let count: u64 = rest[..digits].parse().map_err(|_| refuse())?;
            rest = &rest[digits..];
            let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let milliseconds = match &rest[..unit] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(refuse()),
            };
            let part = count.checked_mul(milliseconds).ok_or_else(refuse)?;
            total = total.checked_add(Duration::from_millis(part)).ok_or_else(refuse)?;
            rest = &rest[unit..];
        }
        if text.is_empty() { Err(refuse()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, milliseconds) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            // A day reads better as 24h up to two days: that is how bakes are written.
            if unit == "d" && left < 3 * 86_400_000 {
                continue;
            }
            if left >= milliseconds {
                write!(f, "{}{unit}", left / milliseconds)?;
                left %= milliseconds;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": SPAN_PATTERN, "maxLength": 32 })
    }
}

/// A share as users write it: `5%`, `0.5%`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl Percent {
    /// The share as a factor: `5%` is `0.05`.
    pub fn fraction(self) -> f64 {
        self.0 / 100.0
    }
}

impl FromStr for Percent {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ScalarError::Percent(text.to_owned());
        let number = text.strip_suffix('%').ok_or_else(refuse)?;
        let share: f64 = number.parse().map_err(|_| refuse())?;
        if share.is_finite() && share >= 0.0 { Ok(Self(share)) } else { Err(refuse()) }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PERCENT_PATTERN, "maxLength": 16 })
    }
}

/// A point in time in whole milliseconds since the Unix epoch; RFC 3339 on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub i64);

impl Time {
    /// Time passed from `earlier` to `self`; zero where the clock went backwards, never negative.
    pub fn since(self, earlier: Time) -> Span {
        Span::millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The point that lies `span` later.
    #[must_use]
    pub fn after(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.as_millis()))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let at: jiff::Timestamp = String::deserialize(deserializer)?.parse().map_err(D::Error::custom)?;
        Ok(Self(at.as_millisecond()))
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_reads_as_it_is_written() {
        for (text, milliseconds) in
            [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("24h", 86_400_000), ("72h", 259_200_000)]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span::millis(milliseconds), "{text}");
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span, "{text} printed as {span}");
        }
    }

    #[test]
    fn a_span_without_unit_or_number_is_refused() {
        for text in ["", "5", "s", "5 s", "-5s", "1.5h", "5weeks", "99999999999999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn elapsed_time_is_never_negative() {
        assert_eq!(Time(5).since(Time(9)), Span::millis(0));
        assert_eq!(Time(9).since(Time(5)), Span::millis(4));
    }

    #[test]
    fn a_time_survives_the_wire_to_the_millisecond() {
        let at = Time(1_764_000_000_123);
        let text = serde_json::to_string(&at).unwrap();
        assert_eq!(text, "\"2025-11-24T16:00:00.123Z\"");
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), at);
    }
}
