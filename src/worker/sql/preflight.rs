//! Every question about a `sql` phase that can be asked before its first effect. Changes nothing in the store.

use tokio_util::sync::CancellationToken;

use super::{
    Prepared,
    halt::{Halt, describe},
    prepare, standing,
    wait::Waits,
};
use crate::{
    stores::{
        Finding, Severity,
        postgres::{
            Postgres, QueryError, Session,
            history::{History, Layout, Way},
            lint::{self, Direction, Leniency, Strictness, Subject},
            server,
            touched::Touched,
        },
    },
    worker::task::Task,
};

/// Looks at the scripts and at the store. Returns warnings; an error among the findings is a refusal.
pub(super) async fn look(task: &Task, stop: &CancellationToken) -> Result<Vec<Finding>, Halt> {
    let forward = prepare(task, Way::Up);
    let mut findings = lint_both_ways(task, &forward);
    let store = Postgres::new(&task.store.uri_file, &task.application_name());
    let waits = Waits::new(task.retry, stop);
    let session = waits.connect(&store).await?;
    let suitability = server::suitability(&session, &store, stop).await?;
    let unsuitable = suitability.iter().any(Finding::is_error);
    findings.extend(suitability);
    if unsuitable {
        return Err(Halt::by_findings(findings));
    }
    session.reset(task.lock_timeout.0, task.statement_timeout.map(|span| span.0)).await?;
    let mut touched = Touched::default();
    for script in forward.iter().filter_map(|prepared| prepared.text.as_ref()).map(|(script, _)| script) {
        touched.add(script);
    }
    let rights = or_missing_right(server::rights(&session, &touched).await)?;
    let may_read_history = rights.iter().all(|finding| finding.rule != server::NO_HISTORY_RIGHTS);
    findings.extend(rights);
    if may_read_history {
        findings.extend(history_findings(task, &session, &forward).await?);
    }
    findings.extend(or_missing_right(server::obstacles(&session, &touched, task.lock_timeout.0).await)?);
    for finding in &findings {
        tracing::info!(rule = finding.rule, severity = ?finding.severity, "{}", describe(finding));
    }
    if findings.iter().any(Finding::is_error) { Err(Halt::by_findings(findings)) } else { Ok(findings) }
}

/// Even a question may need a right that the role lacks: that is a finding of its own.
fn or_missing_right(answer: Result<Vec<Finding>, QueryError>) -> Result<Vec<Finding>, QueryError> {
    match answer {
        Err(QueryError::Refused(refusal)) if refusal.sqlstate == "42501" => {
            let message = format!("The role may not even see what the scripts work on: {}.", refusal.message);
            Ok(vec![finding("missing-right", Severity::Error, message, "Grant it the right.")])
        }
        other => other,
    }
}

fn lint_both_ways(task: &Task, forward: &[Prepared<'_>]) -> Vec<Finding> {
    let leniency =
        Leniency { allow: &task.lint.allow, past_no_return: task.lint.past_no_return, strictness: Strictness::Full };
    let back = prepare(task, Way::Down);
    let ways = [(forward, Direction::Up), (back.as_slice(), Direction::Down)];
    let look = |(prepared, direction): (&[Prepared<'_>], Direction)| {
        let subjects: Vec<_> = prepared
            .iter()
            .filter_map(|one| {
                let text = match direction {
                    Direction::Up => Some(one.script.up.as_str()),
                    Direction::Down => one.script.down.as_deref(),
                };
                let script = one.text.as_ref().map(|(script, _)| script);
                Some(Subject { name: &one.script.name, text: text?, script: script?, direction })
            })
            .collect();
        lint::lint(&subjects, leniency)
    };
    ways.into_iter().flat_map(look).collect()
}

/// What the store's own history has against the scripts.
async fn history_findings(task: &Task, session: &Session, forward: &[Prepared<'_>]) -> Result<Vec<Finding>, Halt> {
    let scope = task.scope();
    let history = History::new(session, &scope);
    match history.layout().await? {
        Layout::Absent | Layout::SchemaOnly => return Ok(Vec::new()),
        Layout::Newer(step) => {
            let message = format!("The schema `alongside` was made by a newer version (step {step}).");
            return Ok(vec![finding("newer-layout", Severity::Error, message, "Use an image at least as new.")]);
        }
        Layout::At(_) => {}
    }
    let entries = history.entries().await?;
    let mut findings = Vec::new();
    for one in forward {
        let Some((script, _)) = &one.text else { continue };
        let entry = entries.iter().find(|entry| entry.version == one.script.version);
        if let Err(conflict) = standing::forward(&one.script.checksum, script, entry) {
            let advice = "See the message; nothing is run before that.";
            findings.push(finding("script-conflict", Severity::Error, format!("{conflict}."), advice));
        }
    }
    let checksums: Vec<String> = forward.iter().map(|one| one.script.checksum.clone()).collect();
    for foreign in history.foreign(&checksums).await? {
        findings.push(if foreign.same_name {
            finding(
                "foreign-history",
                Severity::Error,
                format!(
                    "The store carries history of another {} (UID {}): its {} is in effect.",
                    foreign.migration, foreign.uid, foreign.name
                ),
                "Name that UID in `spec.adopt` if this migration carries on where that one was; else clear it away.",
            )
        } else {
            finding(
                "applied-by-another",
                Severity::Warning,
                format!("{} has put {} into effect, with this very text.", foreign.migration, foreign.name),
                "Leave the script out if it isn't meant to run a second time.",
            )
        });
    }
    Ok(findings)
}

fn finding(rule: &str, severity: Severity, message: String, advice: &str) -> Finding {
    Finding { rule: rule.to_owned(), severity, script: None, line: None, message, advice: advice.to_owned() }
}
