//! Guards: what each says, against which limit, and what it was like before.

use super::{
    super::{
        super::{
            look::{Look, Tone, align},
            words::{figure, short},
        },
        gauge::curve,
    },
    Page, Seen,
};
use crate::{
    api::{Guard, Migration, MigrationStatus, OnBreach, Time},
    engine::Plan,
};

/// Values that a curve needs to say something.
const LEAST_CURVE: usize = 2;

/// Shows the guards that hold now.
pub fn show(page: &mut Page, seen: &Seen, migration: &Migration, status: &MigrationStatus, now: Time) {
    let plan = Plan { hash: String::new(), spec: migration.spec.clone() };
    let present = status.phase.as_deref().and_then(|phase| plan.index_of(phase));
    let specs = plan.guards_during(present.unwrap_or(0));
    let spec_of = |name: &str| specs.iter().find(|guard| guard.name == name);
    if status.guards.is_empty() && specs.is_empty() {
        return;
    }
    page.title("GUARDS");
    let look = page.look;
    let mut rows: Vec<Vec<String>> = Vec::new();
    for guard in &status.guards {
        let (sign, tone) = match guard.verdict.as_str() {
            "Pass" => ("✔", Tone::Good),
            "Breach" => ("✘", Tone::Bad),
            _ => ("?", Tone::Warn),
        };
        let value = guard.value.as_ref().map(|value| value.parse().map_or_else(|_| value.clone(), figure));
        let baseline = status.baselines.iter().find(|baseline| baseline.guard == guard.name);
        let baseline = baseline.map(|baseline| {
            let (value, spread) = (figure(baseline.value), figure(baseline.spread));
            format!("before {value} ± {spread} ({} samples)", baseline.samples)
        });
        let heard = seen.heard.get(&guard.name).filter(|heard| heard.len() >= LEAST_CURVE);
        rows.push(vec![
            look.paint(tone, sign),
            guard.name.clone(),
            look.paint(tone, &guard.verdict),
            value.unwrap_or_else(|| "-".to_owned()),
            guard.limit.clone().unwrap_or_else(|| "-".to_owned()),
            format!("for {}", short(now.since(guard.since))),
            heard.map(|heard| curve(heard)).unwrap_or_default(),
            notes(spec_of(&guard.name), guard.dry_run, baseline, &look),
        ]);
    }
    for spec in specs.iter().filter(|spec| status.guards.iter().all(|known| known.name != spec.name)) {
        let unasked = look.paint(Tone::Faint, "not asked");
        let dash = || "-".to_owned();
        let row =
            [look.paint(Tone::Faint, "○"), spec.name.clone(), unasked, dash(), limits(spec), dash(), String::new()];
        let mut row = row.to_vec();
        row.push(notes(Some(spec), spec.dry_run, None, &look));
        rows.push(row);
    }
    for line in align(&rows) {
        page.line(0, &line);
    }
    if !status.guards.is_empty() {
        // Status is written on changes only; the live values are metrics.
        page.line(
            0,
            &look.paint(
                Tone::Faint,
                "values are of the last change of each verdict; live ones: metric alongside_guard_value",
            ),
        );
    }
}

fn notes(spec: Option<&Guard>, dry_run: bool, baseline: Option<String>, look: &Look) -> String {
    let mut notes = Vec::new();
    notes.extend(baseline);
    if dry_run {
        notes.push("only reports".to_owned());
    } else if spec.is_some_and(|spec| spec.on_breach == OnBreach::Pause) {
        notes.push("a breach pauses".to_owned());
    }
    look.paint(Tone::Faint, notes.join("  "))
}

/// A guard's limits as its author wrote them.
pub fn limits(guard: &Guard) -> String {
    let limits = [
        guard.max.map(|max| format!("max {max}")),
        guard.min.map(|min| format!("min {min}")),
        guard.max_increase.map(|share| format!("baseline + {share}")),
        guard.max_decrease.map(|share| format!("baseline - {share}")),
    ];
    limits.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
