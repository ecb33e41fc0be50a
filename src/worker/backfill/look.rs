//! Every question about a `backfill` phase that can be asked before its first effect. Changes nothing in the store.

use tokio_util::sync::CancellationToken;

use super::{
    halt::{Halt, connect},
    task::Task,
};
use crate::{
    api::backfill::Sync as SyncKind,
    stores::{
        Finding, Severity,
        postgres::{
            Postgres, QueryError, Session,
            assignments::{self, Derivation, Wish},
            chunks::{Before, Chunks, FORMAT_VERSION, LONG_TRANSACTIONS, Run, RunState, settle_session},
            history::{History, Layout},
            server,
            sync::Sync,
            touched::Touched,
        },
    },
};

const MEBIBYTE: f64 = 1_048_576.0;
/// Rows that the expressions are tried on beforehand.
const TRIED_ROWS: i64 = 1_000;

/// Looks at the store. Returns warnings; an error among the findings is a refusal.
pub(super) async fn look(task: &Task, stop: &CancellationToken) -> Result<Vec<Finding>, Halt> {
    let store = Postgres::new(&task.store.uri_file, &task.application_name());
    let session = connect(&store, task.retry, stop, stop).await?;
    let mut findings = server::suitability(&session, &store, stop).await?;
    if findings.iter().any(Finding::is_error) {
        return Err(Halt::by_findings(findings));
    }
    session.reset(task.lock_timeout(), None).await?;
    settle_session(&session, task.lock_timeout(), None, false).await?;
    let rights = server::rights(&session, &Touched::default()).await?;
    let may_read_history = rights.iter().all(|finding| !finding.is_error());
    findings.extend(rights);
    match derive(task, &session).await? {
        Err(objections) => findings.extend(objections),
        Ok(of) => {
            findings.extend(rules(task, &session, &of).await?);
            if may_read_history {
                findings.extend(history(task, &session, &of).await?);
            }
            findings.extend(surroundings(task, &session, &of).await?);
            findings.extend(trial(&session, &of).await?);
        }
    }
    for finding in &findings {
        tracing::info!(rule = finding.rule, severity = ?finding.severity, "{} {}", finding.message, finding.advice);
    }
    if findings.iter().any(Finding::is_error) { Err(Halt::by_findings(findings)) } else { Ok(findings) }
}

/// What the task computes, as the server understands it; or what stands in the way.
pub(super) async fn derive(task: &Task, session: &Session) -> Result<Result<Derivation, Vec<Finding>>, Halt> {
    let set: Vec<(String, String)> =
        task.action.set.iter().map(|(column, expression)| (column.clone(), expression.clone())).collect();
    let wish = Wish { table: &task.action.table, set: &set, filter: task.action.filter.as_deref() };
    let objections = match assignments::understand(session, wish).await? {
        Ok(derivation) => return Ok(Ok(derivation)),
        Err(objections) => objections,
    };
    let findings = objections
        .into_iter()
        .map(|objection| finding(objection.rule, Severity::Error, objection.message, &objection.advice));
    Ok(Err(findings.collect()))
}

/// Whether what is wished for can be kept true. Errors only.
pub(super) async fn rules(task: &Task, session: &Session, of: &Derivation) -> Result<Vec<Finding>, Halt> {
    let mut findings = Vec::new();
    let SyncKind::Trigger = task.action.sync else { return Ok(findings) };
    let table = &of.table.name;
    if !of.filter_is_marker {
        findings.push(finding(
            "no-marker",
            Severity::Error,
            "With `sync: Trigger`, `where` names none of the columns of `set`: a row that nobody has filled yet can't be \
             told from one that a new version has written."
                .to_owned(),
            "Write it so, for instance `first_name IS NULL`.",
        ));
    }
    if !of.table.is_owner {
        findings.push(finding(
            "not-owner",
            Severity::Error,
            format!("The role can't make and drop triggers on {table}, which belongs to {}.", of.table.owner),
            "Make the role a member of the owner, or use the owner's credentials in the Secret.",
        ));
    }
    let sync = Sync::of(&task.migration.uid, &task.phase);
    for other in sync.company(session, of).await?.into_iter().filter(|other| other.comes_last) {
        findings.push(finding(
            "trigger-order",
            Severity::Error,
            format!("The trigger {} of {table} runs after the sync trigger and may undo what it does.", other.name),
            "Rename it: triggers run in the order of their names, and the sync trigger's begins with a tilde.",
        ));
    }
    for (role, function) in Sync::shut_out(session, of).await? {
        findings.push(finding(
            "writer-rights",
            Severity::Error,
            format!("The role {role} writes {table}, but may not call {function}, which the sync trigger calls then."),
            "Grant it EXECUTE on the function and USAGE on its schema.",
        ));
    }
    Ok(findings)
}

/// What the store remembers of this phase and of others that set the same columns. Errors, and what is worth knowing.
async fn history(task: &Task, session: &Session, of: &Derivation) -> Result<Vec<Finding>, Halt> {
    let scope = task.scope();
    match History::new(session, &scope).layout().await? {
        Layout::Absent | Layout::SchemaOnly => return Ok(Vec::new()),
        Layout::Newer(step) => {
            let message = format!("The schema `alongside` was made by a newer version (step {step}).");
            return Ok(vec![finding("newer-layout", Severity::Error, message, "Use an image at least as new.")]);
        }
        Layout::At(_) => {}
    }
    let chunks = Chunks::new(session, &scope);
    if !chunks.is_laid_out().await? {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    if let Some(run) = chunks.run().await?
        && let Err(why) = standing(task, of, &run)
    {
        findings.push(finding("other-run", Severity::Error, why, "See the message; nothing is done before that."));
    }
    let before = chunks.before(of.table.oid, &numbers(of)).await?;
    if let Some(message) = claimed(&before) {
        findings.push(finding("claimed-by-another", Severity::Error, message, CLAIMED));
    }
    if before.iter().any(|run| run.state == RunState::Undone) {
        findings.push(finding(
            "filled-before",
            Severity::Warning,
            format!("Columns of {} were filled before and not kept in step since.", of.table.name),
            "Nothing: each row that differs is computed again, also where `where` no longer holds.",
        ));
    }
    Ok(findings)
}

/// What to do about a run of another migration.
pub(super) const CLAIMED: &str = "Let that one succeed or roll it back first.";

/// Says which other migration is filling the same columns.
pub(super) fn claimed(before: &[Before]) -> Option<String> {
    let live = |run: &&Before| !run.is_ours && matches!(run.state, RunState::Running | RunState::Done);
    before.iter().find(live).map(|run| {
        format!("The phase {} of {} (UID {}) fills the same columns of this table.", run.phase, run.migration, run.uid)
    })
}

/// Whether a run that the store remembers is this one, to be carried on.
pub(super) fn standing(task: &Task, of: &Derivation, run: &Run) -> Result<(), String> {
    if run.format_version != FORMAT_VERSION {
        return Err(format!(
            "The chunk table is of format version {}, but this worker knows {FORMAT_VERSION}: let the image that began \
             the run end it, or roll back.",
            run.format_version
        ));
    }
    match run.state {
        RunState::Running | RunState::Done if run.statement != task.statement() => Err(format!(
            "A backfill of this phase has begun in attempt {} with another table, `set`, `where` or `sync`, and some rows \
             hold what that one computed: put the text back, or roll back and begin again.",
            run.attempt
        )),
        RunState::Running | RunState::Done if run.relation != of.table.oid || run.columns != numbers(of) => {
            Err(format!(
                "{} or a column of it is another than when the backfill began: it was dropped and made again. Roll back \
                 and begin again.",
                of.table.name
            ))
        }
        // Carried on; or, after its end, begun anew.
        RunState::Running | RunState::Done | RunState::Undone | RunState::SyncLost | RunState::Finished => Ok(()),
    }
}

/// Numbers of the columns that are set.
pub(super) fn numbers(of: &Derivation) -> Vec<i16> {
    of.assignments.iter().map(|assignment| assignment.column.number).collect()
}

/// What is worth knowing about the table and whoever works with it.
async fn surroundings(task: &Task, session: &Session, of: &Derivation) -> Result<Vec<Finding>, Halt> {
    let mut findings = Vec::new();
    let table = &of.table.name;
    let sync = Sync::of(&task.migration.uid, &task.phase);
    let fired: Vec<_> =
        sync.company(session, of).await?.into_iter().filter(|other| other.on_update).map(|other| other.name).collect();
    if !fired.is_empty() {
        findings.push(finding(
            "fires-triggers",
            Severity::Warning,
            format!("Each row that is changed fires the trigger(s) {} of {table}.", fired.join(", ")),
            "Make sure that this is wanted, such as a new updated_at, and fast enough.",
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let mebibytes = of.table.bytes as f64 / MEBIBYTE;
    findings.push(finding(
        "disk",
        Severity::Warning,
        format!(
            "{table} has about {:.0} rows in {mebibytes:.0} MiB. If each is changed, it grows by up to as much again \
             before VACUUM makes room, and about {:.0} MiB of WAL are written.",
            of.table.rows_estimated,
            mebibytes * 2.5
        ),
        "Have that much disk free here and on the replicas.",
    ));
    let (names, age) = (vec![table.to_string()], task.lock_timeout().as_secs_f64());
    for row in session.rows(LONG_TRANSACTIONS, &[&names, &age, &true]).await? {
        let (pid, seconds): (i32, i64) = (row.get("pid"), row.get("seconds"));
        let application: String = row.get("application_name");
        findings.push(finding(
            "long-transaction",
            Severity::Warning,
            format!("Backend {pid} ({application}) has had a transaction open for {seconds} s."),
            "End it: VACUUM can't clear away what the backfill leaves while it lasts, and the sync trigger may wait for it.",
        ));
    }
    Ok(findings)
}

/// Tries the expressions on some rows: one that fails there fails the backfill.
async fn trial(session: &Session, of: &Derivation) -> Result<Vec<Finding>, Halt> {
    match session.rows(&assignments::trial(of), &[&TRIED_ROWS]).await {
        Ok(_) => Ok(Vec::new()),
        Err(QueryError::Refused(refusal)) => Ok(vec![finding(
            "fails-on-a-row",
            Severity::Error,
            format!("Already among the first {TRIED_ROWS} rows one is refused: {}.", refusal.message),
            "Write the expression or `where` so that it can take such a row.",
        )]),
        Err(error) => Err(error.into()),
    }
}

/// A finding about the store.
pub(super) fn finding(rule: &str, severity: Severity, message: String, advice: &str) -> Finding {
    Finding { rule: rule.to_owned(), severity, script: None, line: None, message, advice: advice.to_owned() }
}
