//! The list of migrations: a line each.

use kube::ResourceExt as _;

use super::super::{
    look::{Look, Tone, align, columns, cut, pad},
    words::{self, tone_of},
};
use crate::api::{Migration, MigrationStatus, State, Time};

/// Columns that a message takes at least where lines are cut to a terminal's width.
const LEAST_MESSAGE: usize = 20;

/// Migrations as a table with a head.
pub fn table(migrations: &[Migration], namespaces: bool, wide: bool, now: Time, look: &Look) -> String {
    let mut sorted: Vec<_> = migrations.iter().collect();
    sorted.sort_by_key(|migration| (migration.namespace(), migration.name_any()));
    let mut rows = vec![head(namespaces, wide).iter().map(|cell| look.paint(Tone::Strong, cell)).collect()];
    rows.extend(sorted.iter().map(|migration| row(migration, namespaces, wide, now, look)));
    let mut text = String::new();
    for line in align(&rows) {
        // A terminal would break the line; what reads a pipe wants all of it.
        let line = if look.terminal && !wide { cut(&line, look.width.max(LEAST_MESSAGE)) } else { line };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn head(namespaces: bool, wide: bool) -> Vec<&'static str> {
    let first = namespaces.then_some("NAMESPACE");
    let more = ["ATTEMPT", "PLAN", "GUARDS", "WAY-BACK"].into_iter().filter(|_| wide);
    let common = ["NAME", "STATE", "PHASE", "PROGRESS", "AGE"];
    let last = if wide { vec!["MESSAGE", "NEXT"] } else { vec!["MESSAGE"] };
    first.into_iter().chain(common).chain(more).chain(last).collect()
}

/// One migration as cells.
pub fn row(migration: &Migration, namespaces: bool, wide: bool, now: Time, look: &Look) -> Vec<String> {
    let nothing = MigrationStatus::default();
    let status = migration.status.as_ref().unwrap_or(&nothing);
    let mut cells = Vec::new();
    if namespaces {
        cells.push(migration.namespace().unwrap_or_default());
    }
    let age = created(migration).map_or_else(|| "-".to_owned(), |at| words::short(now.since(at)));
    cells.extend([
        migration.name_any(),
        look.paint(tone_of(status.state), state_word(status.state)),
        or_dash(status.phase.clone().unwrap_or_default()),
        or_dash(status.progress.clone()),
        age,
    ]);
    if wide {
        let plan = status.plan.as_ref().map(|plan| plan.hash.clone()).unwrap_or_default();
        cells.extend([
            if status.attempt == 0 { "-".to_owned() } else { status.attempt.to_string() },
            or_dash(plan),
            condition(status, "GuardsHealthy", &["healthy", "not healthy"], look),
            condition(status, "RollbackReady", &["open", "shut"], look),
        ]);
    }
    cells.push(or_dash(status.message.clone()));
    if wide {
        cells.push(status.next.clone().unwrap_or_default());
    }
    cells
}

/// When it was made.
pub fn created(migration: &Migration) -> Option<Time> {
    migration.creation_timestamp().map(|at| Time(at.0.as_millisecond()))
}

/// The state as it stands in status.
pub fn state_word(state: State) -> &'static str {
    match state {
        State::Pending => "Pending",
        State::Preflight => "Preflight",
        State::Running => "Running",
        State::Waiting => "Waiting",
        State::RollingBack => "RollingBack",
        State::RolledBack => "RolledBack",
        State::Succeeded => "Succeeded",
        State::Stalled => "Stalled",
    }
}

fn condition(status: &MigrationStatus, kind: &str, [yes, no]: &[&str; 2], look: &Look) -> String {
    match status.conditions.iter().find(|condition| condition.type_ == kind).map(|found| found.status.as_str()) {
        Some("True") => look.paint(Tone::Good, yes),
        Some("False") => look.paint(Tone::Bad, no),
        Some(_) => look.paint(Tone::Warn, "unknown"),
        None => "-".to_owned(),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Rows that are printed one by one: columns only grow wider, so that they stay below each other.
pub struct Columns {
    namespaces: bool,
    wide: bool,
    widths: Vec<usize>,
    headed: bool,
}

impl Columns {
    /// No row yet.
    pub fn new(namespaces: bool, wide: bool) -> Self {
        let widths = head(namespaces, wide).iter().map(|cell| cell.len()).collect();
        Self { namespaces, wide, widths, headed: false }
    }

    /// One more row; the head goes before the first.
    pub fn row(&mut self, migration: &Migration, now: Time, look: &Look) -> String {
        let cells = row(migration, self.namespaces, self.wide, now, look);
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(columns(cell));
        }
        let mut text = String::new();
        if !std::mem::replace(&mut self.headed, true) {
            let head: Vec<String> = head(self.namespaces, self.wide).into_iter().map(str::to_owned).collect();
            self.push(&head, &mut text);
        }
        self.push(&cells, &mut text);
        text
    }

    fn push(&self, cells: &[String], text: &mut String) {
        let padded = cells.iter().zip(&self.widths).map(|(cell, width)| pad(cell, *width));
        let line = padded.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
}
