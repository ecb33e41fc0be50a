//! Figures as people read them.

/// Digits that carry meaning in a metric; more is noise in a message.
const SIGNIFICANT_DIGITS: usize = 4;

/// Writes a value with at most four significant digits, without trailing zeros: `0.0105`, `12.5`, `1200000`.
///
/// What is not a number is written as Prometheus writes it: `NaN`, `+Inf`, `-Inf`.
pub fn figure(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let rounded = format!("{value:.*e}", SIGNIFICANT_DIGITS - 1).parse().unwrap_or(value);
    let plain = format!("{rounded}");
    // Very large and very small values would print as a long row of zeros.
    if plain.len() > 14 { format!("{rounded:e}") } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_short_and_never_longer_than_what_is_known() {
        for (value, text) in [
            (0.0, "0"),
            (0.010_500_000_000_000_002, "0.0105"),
            (0.1 + 0.2, "0.3"),
            (12.5, "12.5"),
            (123_456.0, "123500"),
            (-3.25, "-3.25"),
            (1.5e-12, "1.5e-12"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
