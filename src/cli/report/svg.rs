//! Charts as SVG that stands inside a page: times of phases, and guards before and after. Colours are the page's, by class.

use std::fmt::Write as _;

use super::{
    super::words::{figure, short},
    facts::{Facts, GuardFacts},
    html::escape,
};
use crate::api::{PhaseState, Time};

/// Width of a chart in the units of its view box.
const WIDTH: f64 = 860.0;
/// Where bars begin: names stand before them.
const LEFT: f64 = 160.0;
/// Height of one row.
const ROW: f64 = 26.0;
/// Least width of a bar, so that what took no time is seen.
const LEAST: f64 = 2.0;

/// When each phase began and ended, one below the other; and the rollback.
pub fn timeline(facts: &Facts) -> Option<String> {
    let began = facts.began?;
    let ended = facts.ended.unwrap_or(facts.written_at);
    let whole = as_f64(ended.since(began).as_millis()).max(1.0);
    let x = |at: Time| LEFT + as_f64(at.since(began).as_millis()) / whole * (WIDTH - LEFT - 90.0);
    let rows: Vec<_> = facts.phases.iter().filter_map(|phase| Some((phase, phase.began?))).collect();
    let lines = rows.len() + usize::from(facts.rollback.is_some());
    let height = as_f64(i64::try_from(lines).unwrap_or(i64::MAX)) * ROW + 30.0;
    let mut svg = open(height, "Times of the phases");
    let mut y = 10.0;
    for (phase, from) in rows {
        let to = phase.ended.unwrap_or(ended);
        let class = match phase.state {
            PhaseState::Done => "good",
            PhaseState::Failed => "bad",
            PhaseState::Undone | PhaseState::Undoing => "back",
            PhaseState::Pending | PhaseState::Intended | PhaseState::Running | PhaseState::Kept => "plain",
        };
        row(&mut svg, y, &phase.name, (x(from), x(to)), class, &short(to.since(from)));
        y += ROW;
    }
    if let Some(rollback) = &facts.rollback {
        let from = rollback.sample_at.unwrap_or(rollback.seen_at);
        let to = rollback.done.unwrap_or(ended);
        row(&mut svg, y, "rollback", (x(from), x(to)), "bad", &short(to.since(from)));
        y += ROW;
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>\
         <text class=\"faint\" x=\"{LEFT}\" y=\"{}\">{}</text>\
         <text class=\"faint\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text></svg>",
        WIDTH - 90.0,
        y + 16.0,
        escape(&began.to_string()),
        WIDTH - 90.0,
        y + 16.0,
        escape(&ended.to_string()),
    );
    Some(svg)
}

fn row(svg: &mut String, y: f64, name: &str, (from, to): (f64, f64), class: &str, told: &str) {
    let width = (to - from).max(LEAST);
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
         <rect class=\"{class}\" x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"16\" rx=\"3\"/>\
         <text class=\"faint\" x=\"{:.1}\" y=\"{}\">{}</text>",
        LEFT - 10.0,
        y + 13.0,
        escape(name),
        from + width + 6.0,
        y + 13.0,
        escape(told),
    );
}

/// A guard before the flip and at its last word: the window's spread, its mean, the last value.
pub fn before_and_after(guard: &GuardFacts) -> Option<String> {
    let before = guard.before.as_ref()?;
    let last: f64 = guard.value.as_ref()?.parse().ok().filter(|value: &f64| value.is_finite())?;
    let most = last.max(before.value + before.spread);
    let lowest = last.min(before.value - before.spread).min(0.0);
    if most <= lowest {
        return None;
    }
    let x = |value: f64| LEFT + (value - lowest) / (most - lowest) * (WIDTH - LEFT - 90.0);
    let mut svg = open(2.0 * ROW + 12.0, &format!("Guard {} before the flip and at its last word", guard.name));
    let (low, high) = (before.value - before.spread, before.value + before.spread);
    row(
        &mut svg,
        8.0,
        "before",
        (x(low), x(high)),
        "plain",
        &format!("{} ± {}", figure(before.value), figure(before.spread)),
    );
    let mean = x(before.value);
    let _ = write!(svg, "<line class=\"mean\" x1=\"{mean:.1}\" x2=\"{mean:.1}\" y1=\"4\" y2=\"{}\"/>", 2.0 * ROW + 4.0);
    let class = if guard.verdict == "Breach" { "bad" } else { "good" };
    let at = x(last);
    row(&mut svg, 8.0 + ROW, "last", (at - 3.0, at + 3.0), class, &figure(last));
    svg.push_str("</svg>");
    Some(svg)
}

fn open(height: f64, title: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>{}</title>", escape(title))
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn as_f64(number: i64) -> f64 {
    number as f64
}
