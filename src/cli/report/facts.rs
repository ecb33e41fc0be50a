//! The facts of a report. Pure: from a Migration and its evidence to what all forms print. The JSON form is these, so its
//! field names are an interface.

use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::Value;

use crate::api::{
    BaselineStatus, HistoryEntry, Migration, MigrationStatus, PhaseState, PhaseStatus, RollbackStatus, Span, State,
    Time, TrafficStatus,
};

/// Version of the JSON form.
const FORMAT_VERSION: u32 = 1;

/// All that a report says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Version of this form.
    pub format_version: u32,
    /// When it was written.
    pub written_at: Time,
    /// Name of the Migration.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// Where in its life it is.
    pub state: State,
    /// What it does or waits for.
    pub message: String,
    /// Which attempt this is about.
    pub attempt: u32,
    /// Hash of the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// When the first phase began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<Time>,
    /// When the last thing happened, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// How long it took, or has taken so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took: Option<Span>,
    /// Its phases.
    pub phases: Vec<PhaseFacts>,
    /// Its guards.
    pub guards: Vec<GuardFacts>,
    /// Its Services.
    pub traffic: Vec<TrafficStatus>,
    /// How it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackStatus>,
    /// Who approved what.
    pub approvals: Vec<HistoryEntry>,
    /// What verifications have seen.
    pub evidence: Vec<EvidenceFacts>,
    /// Why evidence may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence_unseen: Option<String>,
    /// All that was written down.
    pub history: Vec<HistoryEntry>,
}

/// A phase.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseFacts {
    /// Its name.
    pub name: String,
    /// The kind of its action.
    pub kind: String,
    /// How far it is.
    pub state: PhaseState,
    /// It is the point of no return.
    pub point_of_no_return: bool,
    /// Tries of its action.
    pub tries: u32,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took: Option<Span>,
    /// What it reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A guard: what it was like before the flip, and what it said last.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardFacts {
    /// Its name.
    pub name: String,
    /// What it said last.
    pub verdict: String,
    /// Its value then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its limit then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Since when it says so.
    pub since: Time,
    /// It only reports.
    pub dry_run: bool,
    /// The window just before the flip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<BaselineStatus>,
    /// Its breach, where it was what took the migration back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breach: Option<String>,
}

/// What a verification has seen.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceFacts {
    /// The ConfigMap that holds all of it.
    pub config_map: String,
    /// The phase.
    pub phase: String,
    /// What came of it, in a word.
    pub finding: String,
    /// The same as a sentence.
    pub message: String,
    /// When it began.
    pub began: String,
    /// When it ended.
    pub ended: String,
    /// What was compared.
    pub tables: Vec<TableFacts>,
}

/// A table that was compared.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableFacts {
    /// Its name, or the expression that was asked of each row.
    pub name: String,
    /// Rows looked at, on the old side where there are two.
    pub rows: u64,
    /// Rows that differ or don't meet the expectation.
    pub differing: u64,
    /// Whether it was looked at to its end.
    pub complete: bool,
}

impl Facts {
    /// The facts of a Migration.
    pub fn of(migration: &Migration, evidence: &[(String, Value)], unseen: Option<String>, now: Time) -> Self {
        let status = migration.status.clone().unwrap_or_default();
        let began = status.phases.iter().filter_map(|phase| phase.started_at).min();
        let has_ended = [State::Succeeded, State::RolledBack].contains(&status.state);
        let ended = if has_ended { end(&status) } else { None };
        Self {
            format_version: FORMAT_VERSION,
            written_at: now,
            name: migration.name_any(),
            namespace: migration.namespace().unwrap_or_default(),
            uid: migration.uid().unwrap_or_default(),
            state: status.state,
            message: status.message.clone(),
            attempt: status.attempt,
            plan: status.plan.as_ref().map(|plan| plan.hash.clone()),
            began,
            ended,
            took: began.map(|began| ended.unwrap_or(now).since(began)),
            phases: status.phases.iter().map(|phase| of_phase(phase, migration)).collect(),
            guards: of_guards(&status),
            approvals: status.history.iter().filter(|entry| entry.what == "Approved").cloned().collect(),
            evidence: evidence.iter().map(|(name, evidence)| of_evidence(name, evidence)).collect(),
            evidence_unseen: unseen,
            traffic: status.traffic,
            rollback: status.rollback,
            history: status.history,
        }
    }
}

fn end(status: &MigrationStatus) -> Option<Time> {
    let back = status.rollback.as_ref().and_then(|rollback| rollback.done);
    let last = status.history.last().map(|entry| entry.at);
    back.or(last).or_else(|| status.phases.iter().filter_map(|phase| phase.finished_at).max())
}

fn of_phase(phase: &PhaseStatus, migration: &Migration) -> PhaseFacts {
    let spec = migration.spec.phases.iter().find(|known| known.name == phase.name);
    PhaseFacts {
        name: phase.name.clone(),
        kind: phase.kind.clone(),
        state: phase.state,
        point_of_no_return: phase.point_of_no_return || spec.is_some_and(|spec| spec.point_of_no_return),
        tries: phase.tries,
        began: phase.started_at,
        ended: phase.finished_at,
        took: phase.started_at.zip(phase.finished_at).map(|(began, ended)| ended.since(began)),
        message: phase.message.clone(),
    }
}

fn of_guards(status: &MigrationStatus) -> Vec<GuardFacts> {
    let breach = |name: &str| {
        let message = &status.rollback.as_ref()?.message;
        message.starts_with(&format!("guard {name} ")).then(|| message.clone())
    };
    let facts = |guard: &crate::api::GuardStatus| GuardFacts {
        name: guard.name.clone(),
        verdict: guard.verdict.clone(),
        value: guard.value.clone(),
        limit: guard.limit.clone(),
        since: guard.since,
        dry_run: guard.dry_run,
        before: status.baselines.iter().find(|baseline| baseline.guard == guard.name).cloned(),
        breach: breach(&guard.name),
    };
    status.guards.iter().map(facts).collect()
}

/// Reads what it knows of a worker's evidence; a newer worker may write more.
fn of_evidence(name: &str, evidence: &Value) -> EvidenceFacts {
    let text = |field: &str| evidence[field].as_str().unwrap_or_default().to_owned();
    let list = |field: &str| evidence[field].as_array().cloned().unwrap_or_default();
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let tables = list("tables").into_iter().map(|table| TableFacts {
        name: table["name"].as_str().unwrap_or_default().to_owned(),
        rows: count(&table["rowsFrom"]),
        differing: ["missing", "extra", "different"].iter().map(|kind| count(&table["differing"][*kind])).sum(),
        complete: table["complete"].as_bool().unwrap_or(false),
    });
    let expectations = list("expectations").into_iter().map(|expectation| {
        let differing = ["fails", "isNull", "raises"].iter().map(|kind| count(&expectation[*kind])).sum();
        TableFacts {
            name: expectation["expression"].as_str().unwrap_or_default().to_owned(),
            rows: count(&expectation["holds"]) + differing,
            differing,
            complete: evidence["finding"] != "Incomplete",
        }
    });
    EvidenceFacts {
        config_map: name.to_owned(),
        phase: text("phase"),
        finding: text("finding"),
        message: text("message"),
        began: text("began"),
        ended: text("ended"),
        tables: tables.chain(expectations).collect(),
    }
}
