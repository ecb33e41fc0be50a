//! The `verify` worker: proves that data is as it must be, or says where it isn't.
//!
//! ```text
//!   within one store     each row meets each expression          ranges of the key, bounded statements
//!   between two stores   the same rows, column by column         barrier ─▶ snapshots ─▶ sums ─▶ rows ─▶ a second look
//! ```
//!
//! Promises: "equal" is said only of what was compared, to its end, and of at least one row; a difference is said only of
//! a row that differed twice; nothing is written but by a repair that the spec asks for. Not protected against: a table
//! whose structure changes under way (the run fails), and rows that are written on the new side by somebody else between
//! two looks.

mod between;
mod compare;
mod doubled;
pub mod evidence;
mod expect;
mod halt;
mod look;
mod pool;
mod portion;
mod repair;
mod table;
pub mod task;
mod walk;

use std::{sync::Mutex, time::Duration};

use tokio_util::sync::CancellationToken;

use self::{
    between::Context,
    evidence::{Evidence, Finding},
    halt::{Halt, noise},
    pool::now,
    task::{BarrierTask, VerifyRole, VerifyTask},
};
use crate::{
    api::verify::{OnEmpty, VerifyAction},
    stores::postgres::{barrier::Heartbeat, ident::QualifiedName},
    worker::{
        live,
        progress::Progress,
        task::StoreRef,
        verdict::{Outcome, Verdict},
    },
};

/// How often the figures follow the evidence.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Does what a task says and tells the operator meanwhile; at the end it hands the whole evidence over.
pub async fn run(task: &VerifyTask, stop: &CancellationToken) -> Verdict {
    let progress = Progress::default();
    let served = match task.key {
        Some(key) => live::serve(&task.migration.uid, key, &progress).await,
        None => None,
    };
    let verdict = execute_shown(task, &progress, stop).await;
    if let (Some(served), Some(file)) = (served, &task.evidence_file)
        && let Ok(text) = tokio::fs::read_to_string(file).await
    {
        // What was found is in the verdict in short, whoever keeps the rest.
        tokio::select! {
            kept = served.hand_over(text) => if !kept {
                tracing::warn!("nobody came for the whole evidence");
            },
            () = stop.cancelled() => {}
        }
    }
    verdict
}

/// Does what a task says. Cancelling `stop` cancels the statements under way on the servers and ends within seconds.
pub async fn execute(task: &VerifyTask, stop: &CancellationToken) -> Verdict {
    execute_shown(task, &Progress::default(), stop).await
}

async fn execute_shown(task: &VerifyTask, progress: &Progress, stop: &CancellationToken) -> Verdict {
    let seed = task.seed.unwrap_or_else(|| noise().cast_signed());
    let evidence = Mutex::new(Evidence {
        format_version: evidence::FORMAT_VERSION,
        migration: Some(task.migration.clone()),
        phase: task.phase.clone(),
        attempt: (task.attempt, task.try_),
        began: now(),
        seed,
        ..Evidence::default()
    });
    let show = async {
        loop {
            tokio::time::sleep(SHOW_EVERY).await;
            let rows = evidence.lock().unwrap_or_else(std::sync::PoisonError::into_inner).short().rows;
            progress.reach(rows);
        }
    };
    let end = tokio::select! {
        end = verify(task, stop, &evidence) => end,
        never = show => never,
    };
    let mut evidence = evidence.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    evidence.ended = now();
    let (outcome, finding, message) = match end {
        Ok(()) => match task.role {
            VerifyRole::Preflight => (
                Outcome::Succeeded,
                Finding::Incomplete,
                "Nothing stands in the way; nothing was compared yet.".to_owned(),
            ),
            VerifyRole::Verify => judge(&evidence, task.action.empty),
        },
        Err(halt) => {
            let (outcome, message) = halt.into_outcome();
            (outcome, Finding::Incomplete, message)
        }
    };
    evidence.finding = finding;
    evidence.message.clone_from(&message);
    let begun = !evidence.stores.is_empty();
    let mut verdict = Verdict { verified: begun.then(|| evidence.short()), ..Verdict::new(outcome, message) };
    if let Some(file) = &task.evidence_file
        && let Err(error) = write(file, &evidence).await
    {
        // What was found stands; that it can't be shown in full is said.
        tracing::error!(%error, file = %file.display(), "could not write the evidence");
        verdict.message = format!("{} The whole evidence could not be written: {error}.", verdict.message);
    }
    verdict
}

async fn verify(task: &VerifyTask, stop: &CancellationToken, evidence: &Mutex<Evidence>) -> Result<(), Halt> {
    let VerifyAction { store, table, from, to, .. } = &task.action;
    match (store, table, from, to) {
        (Some(store), Some(table), None, None) => {
            expect::verify(task, store_ref(task, store)?, table, stop, evidence).await
        }
        (None, None, Some(from), Some(to)) => {
            let heartbeat = match &task.barrier {
                BarrierTask::None => None,
                BarrierTask::Replication { schema, table } => {
                    Some(Heartbeat::new(QualifiedName { schema: schema.clone(), name: table.clone() }))
                }
            };
            let (from, to) = (store_ref(task, from)?, store_ref(task, to)?);
            between::verify(&Context { task, from, to, heartbeat, stop }, evidence).await
        }
        _ => Err(Halt::Refused(
            "The action names neither one store with its table nor two stores; write `store` and `table`, or `from` and \
             `to`."
                .to_owned(),
        )),
    }
}

fn store_ref<'a>(task: &'a VerifyTask, name: &str) -> Result<&'a StoreRef, Halt> {
    task.store(name).ok_or_else(|| Halt::Refused(format!("The task doesn't say how to reach store {name}.")))
}

/// What a verification that came to its end has proven.
fn judge(evidence: &Evidence, empty: OnEmpty) -> (Outcome, Finding, String) {
    let short = evidence.short();
    let kinds = short.differing;
    let mut wrong = Vec::new();
    for (count, what) in [
        (kinds.missing, "missing"),
        (kinds.extra, "too many"),
        (kinds.different, "different"),
        (short.unmet, "not as expected"),
    ] {
        if count > 0 {
            wrong.push(format!("{count} {what}"));
        }
    }
    let tables = evidence.tables.iter();
    for table in tables.clone() {
        if let Some((from, to)) = table.counted.filter(|(from, to)| from != to) {
            wrong.push(format!("{} has {from} rows on the old side and {to} on the new", table.name));
        }
        if table.not_looked_into > 0 {
            wrong.push(format!("{} differs in {} more ranges", table.name, table.not_looked_into));
        }
    }
    if short.duplicates > 0 {
        wrong.push(format!("{} rows would break a unique index of the other side", short.duplicates));
    }
    let first = short.first.first().map(|first| format!(" First: {first}.")).unwrap_or_default();
    if !wrong.is_empty() || tables.clone().any(evidence::TableSeen::is_wrong) {
        let message = format!("Not equal: {} of {} rows looked at.{first}", wrong.join(", "), short.rows);
        return (Outcome::Failed, Finding::Differs, message);
    }
    if !tables.clone().all(evidence::TableSeen::is_certain) {
        let message = format!(
            "{} rows kept changing at every look, so nothing is proven. Compare under a barrier, or while nobody writes.",
            short.unsettled
        );
        return (Outcome::Failed, Finding::Incomplete, message);
    }
    if short.rows == 0 {
        let message = "Nothing was compared: no row was found on either side.".to_owned();
        return match empty {
            OnEmpty::Fail => (Outcome::Failed, Finding::ComparedNothing, message),
            OnEmpty::Pass => (Outcome::Succeeded, Finding::ComparedNothing, message),
        };
    }
    let empty: Vec<_> =
        evidence.tables.iter().filter(|table| table.rows_seen() == 0).map(|table| table.name.as_str()).collect();
    let empty = if empty.is_empty() { String::new() } else { format!(" Without a row: {}.", empty.join(", ")) };
    let repaired =
        if short.repaired > 0 { format!(" {} rows were made equal.", short.repaired) } else { String::new() };
    let finding = if short.repaired > 0 { Finding::Repaired } else { Finding::Equal };
    let message = if evidence.expectations.is_empty() && short.covered == "0%" {
        format!(
            "Equal in number: {} rows of {} tables were counted, and not compared.{empty}",
            short.rows, short.tables
        )
    } else if evidence.expectations.is_empty() {
        let of = if short.covered == "100%" { String::new() } else { format!(" ({} of all)", short.covered) };
        format!("Equal: {} rows{of} of {} tables.{repaired}{empty}", short.rows, short.tables)
    } else {
        format!("As expected: {} rows.", short.rows)
    };
    (Outcome::Succeeded, finding, message)
}

async fn write(file: &std::path::Path, evidence: &Evidence) -> std::io::Result<()> {
    let json = serde_json::to_vec_pretty(evidence).map_err(std::io::Error::other)?;
    tokio::fs::write(file, json).await
}
