//! Small pictures in a line of text: a bar for a share, a curve for values over time.

/// Columns of a bar.
pub const BAR: u16 = 20;
/// Values that a curve shows, the newest ones.
pub const CURVE: usize = 30;

/// A bar that is filled to a share between 0 and 1.
pub fn bar(share: f64) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and BAR * 8")]
    let eighths = (share.clamp(0.0, 1.0) * f64::from(BAR * 8)).floor() as usize;
    let (full, part) = (eighths / 8, eighths % 8);
    let bar = usize::from(BAR);
    let mut text = "█".repeat(full);
    if full < bar {
        text.push(if part == 0 { '░' } else { PARTS[part] });
        text.push_str(&"░".repeat(bar - full - 1));
    }
    text
}

/// A curve of values between their least and their greatest. A value that is no number is a gap.
pub fn curve(values: &[f64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = &values[values.len().saturating_sub(CURVE)..];
    let finite = values.iter().copied().filter(|value| value.is_finite());
    let (least, most) = finite.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    let level = |value: f64| {
        if !value.is_finite() {
            return ' ';
        }
        let share = if most > least { (value - least) / (most - least) } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 7")]
        LEVELS[(share * 7.0).round() as usize]
    };
    values.iter().map(|value| level(*value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_always_has_the_same_width() {
        for share in [-1.0, 0.0, 0.001, 0.5, 0.99, 1.0, 7.0] {
            assert_eq!(bar(share).chars().count(), usize::from(BAR), "{share}");
        }
        assert_eq!(bar(1.0), "█".repeat(usize::from(BAR)));
        assert_eq!(bar(0.0), "░".repeat(usize::from(BAR)));
        assert_eq!(bar(0.99).chars().next_back(), Some('▊'), "what isn't done never looks done");
    }

    #[test]
    fn a_curve_rises_with_its_values() {
        assert_eq!(curve(&[0.0, 1.0, f64::NAN, 2.0]), "▁▅ █");
        assert_eq!(curve(&[3.0, 3.0]), "▁▁");
        assert_eq!(curve(&[0.0; 99]).chars().count(), CURVE);
    }
}
