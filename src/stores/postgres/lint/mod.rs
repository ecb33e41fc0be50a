//! What a script would do to those who use the database meanwhile: pure, from text to findings.
//!
//! squawk's linter does most of it ([`squawk`]); [`own`] adds what it lacks. How much a rule weighs depends on where the
//! script stands: both sides of a migration run side by side until its point of no return, so what breaks the old side
//! is an error before that point and worth a warning after it. Rules of taste, and those that ask for what the worker
//! does by itself (timeouts, transactions), are off.

mod own;
mod squawk;

use std::collections::BTreeSet;

use squawk_syntax::ast::{self, AstNode};

use super::script::{Nature, Script, line_at, node_text};
use crate::stores::finding::{Finding, Severity};

/// Name of the rule for text that the parser doesn't understand. Accepting it runs the script as one piece.
pub const SYNTAX_ERROR: &str = "syntax-error";

/// One script to look at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its name, as findings show it.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// The same, split.
    pub script: &'a Script,
    /// Which way it leads.
    pub direction: Direction,
}

/// Which way a script leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Forward.
    Up,
    /// Back: it may remove what its up script has added.
    Down,
}

/// What the author accepts, and where the scripts stand.
#[derive(Clone, Copy, Debug)]
pub struct Leniency<'a> {
    /// Names of rules to accept.
    pub allow: &'a [String],
    /// The phase is at or past the point of no return, so nobody needs the old form any more.
    pub past_no_return: bool,
    /// Which rules count.
    pub strictness: Strictness,
}

/// Which rules count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// All.
    Full,
    /// Only those that say that the worker can't run the script.
    OnlyWhatCannotRun,
}

/// How much a rule weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// Not asked for.
    Off,
    /// Worth knowing, either way.
    Notes,
    /// May surprise clients: worth knowing on the way forward; the way back only returns to what they knew.
    Changes,
    /// Breaks the old side or destroys its data: an error before the point of no return, worth knowing after it.
    Breaks,
    /// Makes users wait: an error, either way.
    Blocks,
    /// Can't be run by the worker, so it can't be accepted either.
    Never,
}

/// What one rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hit {
    rule: String,
    weight: Weight,
    /// Offset in bytes.
    at: usize,
    message: String,
    advice: &'static str,
}

/// Looks at a phase's scripts, in the order in which they will run. Errors come first, then by script and line.
///
/// What one script creates is new to those after it: nobody waits for a table that nobody uses yet.
pub fn lint(subjects: &[Subject<'_>], leniency: Leniency<'_>) -> Vec<Finding> {
    let mut created = BTreeSet::new();
    let mut findings = Vec::new();
    for subject in subjects {
        created.extend(created_tables(subject.script));
        let mut hits = Vec::new();
        syntax(subject, &mut hits);
        if subject.script.is_understood() {
            squawk::look(subject, &created, &mut hits);
            own::look(subject, &created, &mut hits);
        }
        hits.sort_by_key(|hit| hit.at);
        findings.extend(hits.into_iter().filter_map(|hit| judge(subject, hit, leniency)));
    }
    findings.sort_by_key(|finding| !finding.is_error());
    findings
}

fn judge(subject: &Subject<'_>, hit: Hit, leniency: Leniency<'_>) -> Option<Finding> {
    let cannot_run = hit.weight == Weight::Never || hit.rule == SYNTAX_ERROR;
    if leniency.strictness == Strictness::OnlyWhatCannotRun && !cannot_run {
        return None;
    }
    let accepted = hit.weight != Weight::Never && leniency.allow.contains(&hit.rule);
    let severity = match (hit.weight, subject.direction) {
        (Weight::Off, _) | (Weight::Changes | Weight::Breaks, Direction::Down) => None,
        (Weight::Notes, _) | (Weight::Changes, Direction::Up) => Some(Severity::Warning),
        (Weight::Breaks, Direction::Up) if leniency.past_no_return => Some(Severity::Warning),
        (Weight::Breaks, Direction::Up) | (Weight::Blocks | Weight::Never, _) => Some(Severity::Error),
    }?;
    (!accepted).then(|| Finding {
        rule: hit.rule,
        severity,
        script: Some(subject.name.to_owned()),
        line: Some(line_at(subject.text, hit.at)),
        message: hit.message,
        advice: hit.advice.to_owned(),
    })
}

fn syntax(subject: &Subject<'_>, hits: &mut Vec<Hit>) {
    let offset_of_line = |line: usize| {
        let before = subject.text.split_inclusive('\n').take(line - 1);
        before.map(str::len).sum()
    };
    hits.extend(subject.script.errors.iter().map(|error| Hit {
        rule: SYNTAX_ERROR.to_owned(),
        weight: if error.in_body { Weight::Notes } else { Weight::Blocks },
        at: offset_of_line(error.line),
        message: format!("The script can't be parsed here: {}.", error.message.trim_end_matches('.')),
        advice: if error.in_body {
            "Check the function's body."
        } else {
            "Write plain SQL, without psql's backslash commands and COPY data; if the server does understand it, accept \
             `syntax-error`: the script then runs as one piece in one transaction, without any other lint."
        },
    }));
    if subject.script.statements.is_empty() && subject.direction == Direction::Up {
        hits.push(Hit {
            rule: "empty-script".to_owned(),
            weight: Weight::Never,
            at: 0,
            message: "The script has no statement.".to_owned(),
            advice: "Write its SQL, or leave the script out.",
        });
    }
    for statement in &subject.script.statements {
        if let Nature::Apart(super::script::Apart::BuildIndex { index: None, .. }) = &statement.nature {
            hits.push(Hit {
                rule: "unnamed-concurrent-index".to_owned(),
                weight: Weight::Never,
                at: offset_of_line(statement.line),
                message: "An index that is built concurrently can be left INVALID, and without a name nobody finds it \
                          again."
                    .to_owned(),
                advice: "Give the index a name.",
            });
        }
    }
}

/// Names of the tables that a script creates, without schema.
fn created_tables(script: &Script) -> BTreeSet<String> {
    let created = script.tree.tree().stmts().filter_map(|stmt| match stmt {
        ast::Stmt::CreateTable(create) => create.table_name().map(|name| bare_name(&node_text(name.syntax()))),
        ast::Stmt::CreateTableAs(create) => create.table_name().map(|name| bare_name(&node_text(name.syntax()))),
        _ => None,
    });
    created.collect()
}

/// The last part of a name as the server stores it: without schema, unquoted names in lower case.
fn bare_name(name: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or(name).trim();
    match last.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => last.to_lowercase(),
    }
}

/// The one table that a statement changes, if it is of a kind that changes one.
fn table_of(stmt: &ast::Stmt) -> Option<String> {
    let name = match stmt {
        ast::Stmt::AlterTable(alter) => alter.table_relation_name().and_then(|relation| relation.table_name_ref()),
        ast::Stmt::CreateIndex(create) => create.table_relation_name().and_then(|relation| relation.table_name_ref()),
        ast::Stmt::Cluster(cluster) => cluster.table_name_ref(),
        _ => None,
    };
    name.map(|name| bare_name(&node_text(name.syntax())))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
