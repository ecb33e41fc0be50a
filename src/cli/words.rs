//! States, times and figures as people read them.

use std::collections::BTreeMap;

use super::look::Tone;
use crate::api::{PhaseState, Span, State, Time, TrafficStep};

/// The time now.
pub fn now() -> Time {
    Time(jiff::Timestamp::now().as_millisecond())
}

/// What a migration's state means to who looks on.
pub fn tone_of(state: State) -> Tone {
    match state {
        State::Succeeded => Tone::Good,
        State::Stalled | State::RolledBack | State::RollingBack => Tone::Bad,
        State::Waiting => Tone::Warn,
        State::Running | State::Preflight => Tone::Busy,
        State::Pending => Tone::Faint,
    }
}

/// A phase's state as one sign.
pub fn sign_of(state: PhaseState) -> (&'static str, Tone) {
    match state {
        PhaseState::Pending => ("○", Tone::Faint),
        PhaseState::Intended | PhaseState::Running => ("▶", Tone::Busy),
        PhaseState::Done => ("✔", Tone::Good),
        PhaseState::Failed => ("✘", Tone::Bad),
        PhaseState::Undoing => ("↩", Tone::Warn),
        PhaseState::Undone => ("↶", Tone::Warn),
        PhaseState::Kept => ("=", Tone::Faint),
    }
}

/// A phase's state in a word.
pub fn word_of(state: PhaseState) -> &'static str {
    match state {
        PhaseState::Pending => "to do",
        PhaseState::Intended => "beginning",
        PhaseState::Running => "at work",
        PhaseState::Done => "done",
        PhaseState::Failed => "failed",
        PhaseState::Undoing => "being undone",
        PhaseState::Undone => "undone",
        PhaseState::Kept => "kept",
    }
}

/// Where a Service's traffic is, in words.
pub fn word_of_step(step: TrafficStep) -> &'static str {
    match step {
        TrafficStep::Unclaimed => "not touched",
        TrafficStep::ClaimIntended => "being claimed",
        TrafficStep::Claimed => "claimed, not moved",
        TrafficStep::FlipIntended => "moving to the new side",
        TrafficStep::Flipped => "moved to the new side, not confirmed yet",
        TrafficStep::Confirmed => "on the new side, the old one drains",
        TrafficStep::Drained => "on the new side",
        TrafficStep::BackIntended => "moving back",
        TrafficStep::Back => "back on the old side, the new one drains",
        TrafficStep::BackDrained => "back on the old side",
        TrafficStep::ReleaseIntended => "being given up",
        TrafficStep::Released => "given up",
    }
}

/// A length of time in its two largest units.
pub fn short(span: Span) -> String {
    let seconds = span.0.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds == 0 && !span.0.is_zero() => format!("{}ms", span.0.as_millis()),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) if minutes < 10 && !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, 0) => format!("{hours}h"),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, 0, _) => format!("{days}d"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

/// A whole number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A value of a guard as people read it: four digits that count.
pub fn figure(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return value.to_string();
    }
    let whole = value.abs().log10().floor();
    if !(-4.0..9.0).contains(&whole) {
        return format!("{value:.3e}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 7")]
    let places = (3.0 - whole).max(0.0) as usize;
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Labels as `kubectl` writes them.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (200, "3m20s"), (3_599, "59m"), (3_600, "1h"), (93_600, "1d2h")]
        {
            assert_eq!(short(Span::secs(seconds)), text);
        }
        assert_eq!(short(Span::millis(40)), "40ms");
    }

    #[test]
    fn figures_keep_the_digits_that_count() {
        for (value, text) in [(0.012_345, "0.01235"), (12.0, "12"), (1234.56, "1235"), (0.0, "0"), (f64::NAN, "NaN")] {
            assert_eq!(figure(value), text);
        }
        assert_eq!(
            (grouped(0).as_str(), grouped(999).as_str(), grouped(1_234_567).as_str()),
            ("0", "999", "1,234,567")
        );
    }
}
