//! A report as Markdown.

use std::fmt::Write as _;

use super::{
    super::{
        get::{lanes_of, millis, state_word},
        words::{figure, grouped, labels, short, word_of, word_of_step},
    },
    facts::Facts,
};

/// What a report says of figures that it doesn't have.
pub const ABOUT_GUARDS: &str = "Values are those of the last change of each verdict, as status keeps them; the course of \
                                a guard is in Prometheus.";

/// The whole page.
pub fn page(facts: &Facts) -> String {
    let mut text = format!("# Migration {} in {}\n\n", facts.name, facts.namespace);
    let _ = writeln!(text, "**{}**: {}\n", state_word(facts.state), cell(&facts.message));
    table(&mut text, &["", ""], &summary(facts));
    let _ = writeln!(text, "\n## Phases\n");
    table(&mut text, &["phase", "kind", "state", "began", "took", "tries", "what it reported"], &phases(facts));
    if !facts.guards.is_empty() {
        let _ = writeln!(text, "\n## Guards\n");
        table(&mut text, &["guard", "before the flip", "last", "limit", "verdict", "since"], &guards(facts));
        let _ = writeln!(text, "\n{ABOUT_GUARDS}");
    }
    if !facts.evidence.is_empty() || facts.evidence_unseen.is_some() {
        let _ = writeln!(text, "\n## Evidence\n");
        if let Some(why) = &facts.evidence_unseen {
            let _ = writeln!(text, "Evidence could not be read: {}\n", cell(why));
        }
        for evidence in &facts.evidence {
            let (phase, finding) = (&evidence.phase, &evidence.finding);
            let _ = writeln!(
                text,
                "**{phase}**: {finding}. {} (ConfigMap `{}`)\n",
                cell(&evidence.message),
                evidence.config_map
            );
            table(&mut text, &["what", "rows", "differing", "to its end"], &tables(&evidence.tables));
            text.push('\n');
        }
    }
    if !facts.traffic.is_empty() || facts.rollback.is_some() {
        let _ = writeln!(text, "\n## Traffic and the way back\n");
        if !facts.traffic.is_empty() {
            table(&mut text, &["Service", "old side", "new side", "where it is", "moved", "back"], &traffic(facts));
        }
        if let Some(rollback) = &facts.rollback {
            let _ = writeln!(text, "\n{}\n", cell(&rollback.message));
            table(&mut text, &["lane", "after the sample that showed it"], &lanes(facts));
        }
    }
    let _ = writeln!(text, "\n## Who approved\n");
    if facts.approvals.is_empty() {
        let _ = writeln!(text, "Nobody was asked, or has answered.");
    } else {
        table(&mut text, &["phase", "by", "when"], &approvals(facts));
    }
    let _ = writeln!(text, "\n## History\n");
    table(&mut text, &["when", "what", "phase", "by", "why"], &history(facts));
    let _ = writeln!(text, "\nWritten {} by kubectl-alongside {}.", facts.written_at, env!("CARGO_PKG_VERSION"));
    text
}

/// A text within one cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace('<', "&lt;")
}

fn table(text: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    text.push_str(&line(head.iter().map(|name| (*name).to_owned()).collect()));
    text.push_str(&line(head.iter().map(|_| "---".to_owned()).collect()));
    for row in rows {
        text.push_str(&line(row.iter().map(|text| cell(text)).collect()));
    }
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// What it was, in pairs of name and value.
pub fn summary(facts: &Facts) -> Vec<Vec<String>> {
    let pair = |name: &str, value: String| vec![name.to_owned(), value];
    vec![
        pair("attempt", facts.attempt.to_string()),
        pair("plan", or_dash(facts.plan.clone())),
        pair("began", or_dash(facts.began)),
        pair("ended", or_dash(facts.ended)),
        pair("took", or_dash(facts.took.map(short))),
        pair("UID", facts.uid.clone()),
    ]
}

/// Rows of the phases.
pub fn phases(facts: &Facts) -> Vec<Vec<String>> {
    let row = |phase: &super::facts::PhaseFacts| {
        let mark = if phase.point_of_no_return { " (point of no return)" } else { "" };
        vec![
            format!("{}{mark}", phase.name),
            phase.kind.clone(),
            word_of(phase.state).to_owned(),
            or_dash(phase.began),
            or_dash(phase.took.map(short)),
            phase.tries.to_string(),
            or_dash(phase.message.clone()),
        ]
    };
    facts.phases.iter().map(row).collect()
}

/// Rows of the guards.
pub fn guards(facts: &Facts) -> Vec<Vec<String>> {
    let row = |guard: &super::facts::GuardFacts| {
        let before = guard.before.as_ref();
        let before =
            before.map(|one| format!("{} ± {} ({} samples)", figure(one.value), figure(one.spread), one.samples));
        let value = guard.value.as_ref().map(|value| value.parse().map_or_else(|_| value.clone(), figure));
        let verdict = if guard.dry_run { format!("{} (only reports)", guard.verdict) } else { guard.verdict.clone() };
        vec![
            guard.name.clone(),
            or_dash(before),
            or_dash(value),
            or_dash(guard.limit.clone()),
            verdict,
            guard.since.to_string(),
        ]
    };
    facts.guards.iter().map(row).collect()
}

/// Rows of what a verification compared.
pub fn tables(tables: &[super::facts::TableFacts]) -> Vec<Vec<String>> {
    let row = |table: &super::facts::TableFacts| {
        let complete = if table.complete { "yes" } else { "no" };
        vec![table.name.clone(), grouped(table.rows), grouped(table.differing), complete.to_owned()]
    };
    tables.iter().map(row).collect()
}

/// Rows of the Services.
pub fn traffic(facts: &Facts) -> Vec<Vec<String>> {
    let row = |one: &crate::api::TrafficStatus| {
        let step = word_of_step(one.step).to_owned();
        vec![
            one.service.clone(),
            labels(&one.from),
            labels(&one.to),
            step,
            or_dash(one.flipped_at),
            or_dash(one.back_at),
        ]
    };
    facts.traffic.iter().map(row).collect()
}

/// Rows of a rollback's lanes.
pub fn lanes(facts: &Facts) -> Vec<Vec<String>> {
    let Some(rollback) = &facts.rollback else { return Vec::new() };
    let began = rollback.sample_at.unwrap_or(rollback.seen_at);
    let row = |(lane, at): (&str, Option<crate::api::Time>)| {
        vec![lane.to_owned(), at.map_or_else(|| "-".to_owned(), |at| millis(at, began))]
    };
    lanes_of(rollback).into_iter().map(row).collect()
}

/// Rows of the approvals.
pub fn approvals(facts: &Facts) -> Vec<Vec<String>> {
    let row =
        |entry: &crate::api::HistoryEntry| vec![or_dash(entry.phase.clone()), entry.by.clone(), entry.at.to_string()];
    facts.approvals.iter().map(row).collect()
}

/// Rows of the history.
pub fn history(facts: &Facts) -> Vec<Vec<String>> {
    let row = |entry: &crate::api::HistoryEntry| {
        let phase = or_dash(entry.phase.clone());
        vec![entry.at.to_string(), entry.what.clone(), phase, entry.by.clone(), entry.why.clone()]
    };
    facts.history.iter().map(row).collect()
}
