//! The status: everything the operator remembers about a Migration. Its schema carries no rules, so that no later
//! CRD can refuse an older object's status write; sizes are bounded by the code that writes it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    replicate::ReplicationStatus,
    scalar::{Span, Time},
};

/// Version of this status's meaning. An operator refuses to touch a newer one.
pub const FORMAT_VERSION: u32 = 1;
/// Entries kept in `status.history`; the oldest go first.
pub const MAX_HISTORY: usize = 50;
/// Longest message kept, in bytes.
pub const MAX_MESSAGE: usize = 1024;
/// Longest status, in bytes of JSON: the history gives way to what is needed to go on.
pub const MAX_STATUS: usize = 64 * 1024;

/// What the operator remembers and shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationStatus {
    /// Version of this status's meaning.
    pub format_version: u32,
    /// Generation of the spec that the last decision saw.
    pub observed_generation: i64,
    /// Where in its life the migration is.
    pub state: State,
    /// Name of the phase under way or waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Phases done of phases planned, such as `2/5`.
    pub progress: String,
    /// What it is doing, or what it waits for.
    pub message: String,
    /// What a person can do next, as a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What verbs must be bound to right now: `<phase>@<plan hash>/<attempt>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// The frozen plan that all effects come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanRef>,
    /// Counts from 1; a retry after a rollback begins the next.
    pub attempt: u32,
    /// How many phases have begun. The API server refuses edits of these.
    pub begun: i64,
    /// Number of the last write to any Service; each further write uses the next.
    pub epoch: u64,
    /// Each phase of the plan, in order.
    pub phases: Vec<PhaseStatus>,
    /// Why no forward step is taken right now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldStatus>,
    /// What each guard last changed to.
    pub guards: Vec<GuardStatus>,
    /// What guards were like just before the flip.
    pub baselines: Vec<BaselineStatus>,
    /// Every Service of the plan: where its traffic is and all that moving it back needs.
    pub traffic: Vec<TrafficStatus>,
    /// How the stores stand that are kept in step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication: Option<Box<ReplicationStatus>>,
    /// How the rollback went, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackStatus>,
    /// Verbs that have been acted on, so that each acts once.
    pub verbs: BTreeMap<String, String>,
    /// Conditions after the kstatus convention, and `GuardsHealthy` and `RollbackReady`.
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Who or what did what, when and why; the last 50.
    pub history: Vec<HistoryEntry>,
}

impl MigrationStatus {
    /// Every Job that it speaks of.
    pub fn jobs(&self) -> impl Iterator<Item = &JobRef> {
        self.phases
            .iter()
            .flat_map(|phase| [&phase.preflight_job, &phase.job, &phase.undo_job, &phase.cleanup_job])
            .flatten()
    }

    /// The Jobs of which the outcome is still awaited.
    pub fn awaited_jobs(&self) -> impl Iterator<Item = &JobRef> {
        self.jobs().filter(|job| !job.settled)
    }
}

fn conditions_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    <Vec<Condition>>::json_schema(generator)
}

/// Where in its life a migration is (design section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum State {
    /// Seen, nothing asked yet.
    #[default]
    Pending,
    /// Every question that can be asked before the first effect is being asked.
    Preflight,
    /// A phase is under way.
    Running,
    /// Nothing is wrong; a person, `until`, a guard or readiness is waited for.
    Waiting,
    /// Everything is being taken back.
    RollingBack,
    /// Everything has been taken back.
    RolledBack,
    /// Every phase is done.
    Succeeded,
    /// A person is needed; the message says what for.
    Stalled,
}

/// The frozen plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanRef {
    /// Hash of the plan; verbs are bound to it.
    pub hash: String,
    /// Name of the ControllerRevision that holds it.
    pub revision: String,
    /// When it was adopted.
    pub adopted_at: Time,
}

/// How far one phase is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PhaseStatus {
    /// Name of the phase.
    pub name: String,
    /// Kind of its action.
    pub kind: String,
    /// How far it is.
    pub state: PhaseState,
    /// It has begun as the point of no return: once it is past its announcement, nothing goes back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub point_of_no_return: bool,
    /// Try of the action within this attempt, from 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub tries: u32,
    /// Try of the undo within this attempt, from 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub undo_tries: u32,
    /// When its action began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When its action ended, one way or the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Guarded time baked so far, as of the last checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baked: Option<Span>,
    /// When `baked` was last written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baked_at: Option<Time>,
    /// The Job that asked its store what can be asked before the first effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight_job: Option<JobRef>,
    /// Try of that Job within this attempt, from 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub preflight_tries: u32,
    /// The Job that works for it now, or did last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRef>,
    /// The Job that takes it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_job: Option<JobRef>,
    /// The Job that clears away what it kept up for the way back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleanup_job: Option<JobRef>,
    /// Try of that Job within this attempt, from 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub cleanup_tries: u32,
    /// Nothing is left of what it kept up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cleaned_up: bool,
    /// Not before this time is the action tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// Why its worker is to do nothing for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// How far its worker is, while one works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<WorkStatus>,
    /// What its action reported, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far a phase's worker is. Written every few seconds while it works; its metrics have the live figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkStatus {
    /// What it does, in a word or two.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stage: String,
    /// Rows dealt with.
    pub done: u64,
    /// Rows to deal with in all, as estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Rows a second of late.
    pub rate: u64,
    /// Time left at that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<Span>,
    /// How far the new store is behind the old one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<Span>,
    /// Why it goes slower than it could, or has paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled: Option<String>,
    /// When this was written.
    pub at: Time,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How far one phase is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PhaseState {
    /// Not begun.
    #[default]
    Pending,
    /// Its effect has been announced; whether it has happened must be looked up.
    Intended,
    /// Its effect has been seen and goes on.
    Running,
    /// Done; an undo may be needed.
    Done,
    /// Given up after its tries.
    Failed,
    /// Its undo has been announced or goes on.
    Undoing,
    /// Taken back.
    Undone,
    /// Left as it is by a rollback, because nothing has to be taken back or the spec says to keep it.
    Kept,
}

/// A Job of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JobRef {
    /// Its name, a hash of the Migration's UID, phase, attempt, try and role.
    pub name: String,
    /// Its UID, once it has been seen. Another UID under the same name isn't ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Its outcome is here for good; the Job object isn't needed any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
}

/// Why no forward step is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HoldStatus {
    /// What is waited for, as one word.
    pub reason: String,
    /// Since when.
    pub since: Time,
    /// Until when the wait is an ordinary one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// What the deadline means: `Pause`, `Rollback` or `Stall`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_deadline: Option<String>,
}

/// What a guard last changed to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GuardStatus {
    /// Name of the guard.
    pub name: String,
    /// `Pass`, `Breach`, or why it says nothing.
    pub verdict: String,
    /// The value at the change, as text: JSON has no NaN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The limit it was held against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// When it changed.
    pub since: Time,
    /// It only reports.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A guard's window just before the flip: a value and a spread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BaselineStatus {
    /// Name of the guard.
    pub guard: String,
    /// Mean of the window.
    pub value: f64,
    /// Largest distance of a sample from the mean.
    pub spread: f64,
    /// Samples in the window.
    pub samples: u32,
    /// When the window ended.
    pub taken_at: Time,
}

/// Where one Service's traffic is, and all that moving it back needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficStatus {
    /// Name of the Service.
    pub service: String,
    /// Its UID when it was claimed. Another UID is another Service.
    pub uid: String,
    /// Name of the phase that switches it.
    pub phase: String,
    /// It leads to one of two stores that are kept in step: traffic moves only with the writes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bound: bool,
    /// The labels to go back to.
    pub from: BTreeMap<String, String>,
    /// The labels it is moved to.
    pub to: BTreeMap<String, String>,
    /// How far its move is.
    pub step: TrafficStep,
    /// Epoch of the last write that was announced.
    pub epoch: u64,
    /// When the flip forward was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flipped_at: Option<Time>,
    /// When the way back was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_at: Option<Time>,
    /// When drain of the side that lost traffic last began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_started_at: Option<Time>,
    /// Connections that were left when the drain ended; absent is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
    /// Serving pods of the old side at the flip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_serving: Option<u32>,
}

/// How far the move of one Service's traffic is.
///
/// ```text
/// Unclaimed -> ClaimIntended -> Claimed -> FlipIntended -> Flipped -> Confirmed -> Drained
///                                  |            |             |          |            |
///                                  |            +-------------+----------+------------+--> BackIntended -> Back -> BackDrained
///                                  +--> ReleaseIntended -> Released <---------------------------------------'
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TrafficStep {
    /// Not ours yet.
    #[default]
    Unclaimed,
    /// The mark that makes it ours has been announced.
    ClaimIntended,
    /// Ours, on the old side, never moved.
    Claimed,
    /// The flip forward has been announced: it may or may not have happened.
    FlipIntended,
    /// The selector has been seen on the new side.
    Flipped,
    /// The new side's pods have been seen in the Service's EndpointSlices.
    Confirmed,
    /// The old side's open connections are gone, or its deadline is.
    Drained,
    /// The way back has been announced.
    BackIntended,
    /// The selector has been seen on the old side again.
    Back,
    /// The old side's pods have been seen in the EndpointSlices, and the new side's open connections are gone or its deadline is.
    BackDrained,
    /// Giving up the mark has been announced.
    ReleaseIntended,
    /// Not ours any more.
    Released,
}

/// How a rollback went, lane by lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RollbackStatus {
    /// Why.
    pub reason: RollbackReason,
    /// Why, in a sentence with the figures.
    pub message: String,
    /// Traffic stays where it is: the Migration goes away, and moving it was not asked for or not possible.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keeps_traffic: bool,
    /// When Prometheus took the sample that showed the breach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_at: Option<Time>,
    /// When the operator saw it.
    pub seen_at: Time,
    /// Lane 1: when new connections were going to the old side again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_connections_restored: Option<Time>,
    /// Lane 1b: when the new side was drained, or its deadline was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drained: Option<Time>,
    /// The deadline ended it: connections to the new side stayed, or nobody knows how many did.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drain_cut_short: bool,
    /// Lane 2: when no Job ran any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs_stopped: Option<Time>,
    /// Lane 3: when the last undo Job was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undone: Option<Time>,
    /// When everything had been taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<Time>,
}

/// Why a rollback began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RollbackReason {
    /// A guard was breached.
    #[default]
    Breach,
    /// A phase failed for good.
    PhaseFailed,
    /// Somebody set `alongside.dev/abort`.
    Abort,
    /// Somebody set `alongside.dev/rollback`.
    Requested,
    /// The Migration is being deleted.
    Deleted,
    /// Somebody else took traffic back.
    ForeignWayBack,
    /// A Service carries our own mark of a way back that status had not heard of.
    Evidence,
}

/// One entry of the audit trail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HistoryEntry {
    /// When.
    pub at: Time,
    /// Who or what: `operator`, or a user where that is known.
    pub by: String,
    /// What, as one word.
    pub what: String,
    /// The phase it happened in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why, in a sentence.
    pub why: String,
}
