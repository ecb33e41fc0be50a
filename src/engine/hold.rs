//! Why no forward step is taken: one typed value that conditions, Events and messages are all printed from.

use std::fmt;

use crate::api::{Time, WorkStatus};

use super::{guard::Silence, world::Finding};

/// Why a decision does nothing more right now.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields' names say what they are")]
pub enum Hold {
    /// The status was written by a newer operator.
    NewerFormat(u32),
    /// Preflight has not been asked yet.
    PreflightNotAsked,
    /// Preflight found what a person must mend.
    PreflightRefused(Vec<Finding>),
    /// Preflight found what may mend itself.
    PreflightWaits(Finding),
    /// The plan's revision or the finalizer is being written.
    Storing,
    /// The frozen plan is gone, and the spec is another by now.
    PlanLost(String),
    /// The revision under the frozen plan's name holds another plan.
    PlanForeign(String),
    /// Status says what can't have been written for this plan.
    StatusForeign { why: String },
    /// The spec has changed in a phase that has begun.
    BegunEdited { phase: String },
    /// A store is being asked.
    PreflightJob { phase: String },
    /// A store refused.
    PreflightJobFailed { phase: String, tries: u32, message: String },
    /// A Service is being claimed.
    Claiming { service: String },
    /// A Service belongs to another migration.
    ClaimedByOther { service: String, uid: String },
    /// Somebody paused.
    Paused,
    /// `until` names the phase before.
    Until { phase: String },
    /// A person must approve.
    Approval { phase: String },
    /// A guard says nothing.
    GuardSilent { guard: String, why: Silence, over_budget: bool },
    /// A guard that only pauses is breached.
    GuardBreached { guard: String },
    /// A baseline has not been taken yet.
    BaselineMissing,
    /// A baseline can't serve.
    BaselineRefused { guard: String, why: String },
    /// A Service could not be read.
    ServiceUnseen { service: String },
    /// A Service isn't there.
    ServiceAbsent { service: String },
    /// A Service carries a later mark of ours than status knows of.
    StatusBehind { service: String },
    /// A Service's selector isn't where this migration has left it.
    ForeignSelector { service: String },
    /// A Service carries another mark than it should.
    ForeignMark { service: String },
    /// The new side has too few serving pods.
    NewSideNotServing { service: String, serving: u32, wanted: u32 },
    /// The old side has no serving pod.
    OldSideGone { service: String },
    /// A write to a Service has been announced and not been seen yet.
    Writing { service: String },
    /// The API server refuses a write to a Service.
    WriteDenied { service: String, why: String },
    /// Nobody hears of the agent that keeps the stores in step.
    AgentUnseen { phase: String },
    /// The agent won't be started again by itself.
    AgentGivenUp { phase: String, tries: u32, message: String },
    /// Writes are being moved from one store to the other.
    MovingWrites { phase: String, why: Option<String> },
    /// The EndpointSlices don't show the flip yet.
    Confirming { service: String },
    /// Open connections are leaving.
    Draining { service: String },
    /// A Job works.
    JobRuns { phase: String, how_far: Option<Box<WorkStatus>> },
    /// A Job is there, and no pod of it can run.
    JobStuck { phase: String, why: String },
    /// A Job can't be made.
    JobRefused { phase: String, why: String },
    /// A Job is stopped.
    JobStops { phase: String },
    /// A failed action is tried again later.
    RetryLater { phase: String, at: Time, message: String },
    /// An action failed after the point of no return.
    FailedForGood { phase: String, tries: u32, message: String },
    /// A bound must hold for longer.
    Observing { phase: String },
    /// Guarded time must pass.
    Baking { phase: String },
    /// The way back isn't open.
    RollbackNotReady { why: String },
    /// An undo failed after its tries.
    UndoFailed { phase: String, tries: u32, message: String },
    /// An undo works.
    Undoing { phase: String },
    /// What a phase kept up for the way back could not be cleared away.
    CleanUpFailed { phase: String, tries: u32, message: String },
    /// What a phase kept up for the way back is being cleared away.
    CleaningUp { phase: String },
    /// Something asks for a way back that doesn't exist any more.
    NoWayBack { why: String },
    /// The mark on a Service is being given up.
    Releasing { service: String },
}

/// What a hold means for the people who watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Work goes on.
    Work,
    /// Nothing is wrong; something is waited for.
    Wait,
    /// A person is needed.
    Stall,
}

impl Hold {
    /// What it means for the people who watch.
    pub fn class(&self) -> Class {
        match self {
            Hold::PreflightNotAsked
            | Hold::Storing
            | Hold::PreflightJob { .. }
            | Hold::Claiming { .. }
            | Hold::Writing { .. }
            | Hold::MovingWrites { .. }
            | Hold::Confirming { .. }
            | Hold::Draining { .. }
            | Hold::JobRuns { .. }
            | Hold::JobStops { .. }
            | Hold::RetryLater { .. }
            | Hold::Observing { .. }
            | Hold::Baking { .. }
            | Hold::Undoing { .. }
            | Hold::CleaningUp { .. }
            | Hold::Releasing { .. } => Class::Work,
            Hold::PreflightWaits(_)
            | Hold::Paused
            | Hold::Until { .. }
            | Hold::Approval { .. }
            | Hold::GuardSilent { .. }
            | Hold::GuardBreached { .. }
            | Hold::BaselineMissing
            | Hold::NewSideNotServing { .. }
            | Hold::RollbackNotReady { .. }
            | Hold::JobRefused { .. }
            | Hold::JobStuck { .. }
            | Hold::AgentUnseen { .. }
            | Hold::ServiceUnseen { .. } => Class::Wait,
            Hold::NewerFormat(_)
            | Hold::PreflightRefused(_)
            | Hold::PlanLost(_)
            | Hold::PlanForeign(_)
            | Hold::StatusForeign { .. }
            | Hold::BegunEdited { .. }
            | Hold::StatusBehind { .. }
            | Hold::PreflightJobFailed { .. }
            | Hold::ClaimedByOther { .. }
            | Hold::BaselineRefused { .. }
            | Hold::ServiceAbsent { .. }
            | Hold::ForeignSelector { .. }
            | Hold::ForeignMark { .. }
            | Hold::WriteDenied { .. }
            // Traffic stays on a side that has been found bad: nobody should have to look for that among the waits.
            | Hold::OldSideGone { .. }
            | Hold::AgentGivenUp { .. }
            | Hold::FailedForGood { .. }
            | Hold::UndoFailed { .. }
            | Hold::CleanUpFailed { .. }
            | Hold::NoWayBack { .. } => Class::Stall,
        }
    }

    /// The reason as one word, for conditions and `status.hold`.
    pub fn word(&self) -> &'static str {
        match self {
            Hold::NewerFormat(_) => "NewerFormat",
            Hold::PreflightNotAsked => "Preflight",
            Hold::PreflightRefused(_) => "PreflightRefused",
            Hold::PreflightWaits(_) => "PreflightWaits",
            Hold::Storing => "StoringPlan",
            Hold::PlanLost(_) => "PlanLost",
            Hold::PlanForeign(_) => "PlanForeign",
            Hold::StatusForeign { .. } => "StatusForeign",
            Hold::BegunEdited { .. } => "BegunPhaseEdited",
            Hold::StatusBehind { .. } => "StatusBehind",
            Hold::JobRefused { .. } => "JobRefused",
            Hold::JobStuck { .. } => "JobStuck",
            Hold::PreflightJob { .. } => "AskingStore",
            Hold::PreflightJobFailed { .. } => "StoreRefused",
            Hold::Claiming { .. } => "Claiming",
            Hold::ClaimedByOther { .. } => "ClaimedByOther",
            Hold::Paused => "Paused",
            Hold::Until { .. } => "Until",
            Hold::Approval { .. } => "Approval",
            Hold::GuardSilent { over_budget: true, .. } => "PausedByGuard",
            Hold::GuardSilent { .. } => "GuardSilent",
            Hold::GuardBreached { .. } => "PausedByBreach",
            Hold::BaselineMissing => "TakingBaseline",
            Hold::BaselineRefused { .. } => "BaselineRefused",
            Hold::ServiceUnseen { .. } => "ServiceUnseen",
            Hold::ServiceAbsent { .. } => "ServiceAbsent",
            Hold::ForeignSelector { .. } => "ForeignSelector",
            Hold::ForeignMark { .. } => "ForeignMark",
            Hold::NewSideNotServing { .. } => "NewSideNotServing",
            Hold::OldSideGone { .. } => "OldSideGone",
            Hold::Writing { .. } => "MovingTraffic",
            Hold::WriteDenied { .. } => "WriteDenied",
            Hold::AgentUnseen { .. } => "AgentUnseen",
            Hold::AgentGivenUp { .. } => "AgentGivenUp",
            Hold::MovingWrites { .. } => "MovingWrites",
            Hold::Confirming { .. } => "ConfirmingTraffic",
            Hold::Draining { .. } => "Draining",
            Hold::JobRuns { .. } => "JobRunning",
            Hold::JobStops { .. } => "StoppingJob",
            Hold::RetryLater { .. } => "RetryLater",
            Hold::FailedForGood { .. } => "FailedForGood",
            Hold::Observing { .. } => "Observing",
            Hold::Baking { .. } => "Baking",
            Hold::RollbackNotReady { .. } => "RollbackNotReady",
            Hold::UndoFailed { .. } => "UndoFailed",
            Hold::Undoing { .. } => "Undoing",
            Hold::CleanUpFailed { .. } => "CleanUpFailed",
            Hold::CleaningUp { .. } => "CleaningUp",
            Hold::NoWayBack { .. } => "NoWayBack",
            Hold::Releasing { .. } => "Releasing",
        }
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No figures that change from poll to poll: this text stands in status, and status is written on changes only.
        f.write_str(match self {
            Silence::NotAsked => "it has not answered yet",
            Silence::NoData => "its query returns no data",
            Silence::Stale { .. } => "its newest sample is too old",
            Silence::Nan => "its value is not a number",
            Silence::Unavailable => "Prometheus does not answer",
            Silence::LowTraffic { .. } => "there is too little traffic to judge by",
            Silence::MultiSeries { .. } => "its query returns several series; aggregate them to one",
            Silence::NoBaseline => "traffic has moved and there is no baseline to compare with",
            Silence::Doubtful => "its limit is exceeded, but not for long enough to be a breach",
        })
    }
}

impl fmt::Display for Hold {
    #[expect(clippy::too_many_lines, reason = "a sentence for each")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::NewerFormat(version) => {
                write!(f, "status has format {version}, which this operator does not know; upgrade the operator")
            }
            Hold::PreflightNotAsked => f.write_str("asking what can be asked before the first effect"),
            Hold::PreflightRefused(findings) => {
                let first = findings.first().map(ToString::to_string).unwrap_or_default();
                match findings.len() {
                    0 | 1 => write!(f, "the spec can't be carried out: {first}"),
                    more => write!(f, "the spec can't be carried out: {first} (and {} more)", more - 1),
                }
            }
            Hold::PreflightWaits(finding) => write!(f, "not ready to begin: {finding}"),
            Hold::Storing => f.write_str("writing down the plan"),
            Hold::PlanLost(revision) => write!(
                f,
                "the ControllerRevision {revision} that holds the plan is gone and the spec has changed since; \
                 put the spec back as it was"
            ),
            Hold::PlanForeign(revision) => write!(
                f,
                "the ControllerRevision {revision} doesn't hold the plan that status speaks of; put it back as it was. \
                 Traffic still goes back"
            ),
            Hold::StatusForeign { why } => write!(f, "{why}; put the status back as it was, or roll back"),
            Hold::BegunEdited { phase } => {
                write!(
                    f,
                    "phase {phase} has begun and the spec says something else about it now; put it back as it was"
                )
            }
            Hold::StatusBehind { service } => write!(
                f,
                "Service {service} carries a later mark of this migration than its status knows of; one of the two was \
                 put back from a copy"
            ),
            Hold::JobRefused { phase, why } => write!(f, "the Job of phase {phase} can't be made: {why}"),
            Hold::JobStuck { phase, why } => write!(f, "no pod of the Job of phase {phase} runs: {why}"),
            Hold::PreflightJob { phase } => write!(f, "asking the store of phase {phase} before the first effect"),
            Hold::PreflightJobFailed { phase, message, .. } => {
                write!(f, "phase {phase} is refused before it begins: {message}")
            }
            Hold::Claiming { service } => write!(f, "marking Service {service} as this migration's"),
            Hold::ClaimedByOther { service, uid } => write!(
                f,
                "Service {service} belongs to the migration with UID {uid}; wait until it has ended, or name the UID in \
                 spec.adopt if that migration no longer exists"
            ),
            Hold::Paused => f.write_str("paused by annotation"),
            Hold::Until { phase } => write!(f, "phase {phase} is done, and spec.until says to go no further"),
            Hold::Approval { phase } => write!(f, "phase {phase} waits for approval"),
            Hold::GuardSilent { guard, why, over_budget: false } => write!(f, "guard {guard} says nothing: {why}"),
            Hold::GuardSilent { guard, why, over_budget: true } => {
                write!(f, "paused: guard {guard} has said nothing for longer than its budget: {why}")
            }
            Hold::GuardBreached { guard } => write!(f, "paused: guard {guard} is breached"),
            Hold::BaselineMissing => f.write_str("taking the guards' baselines"),
            Hold::BaselineRefused { guard, why } => write!(f, "guard {guard} has no usable baseline: {why}"),
            Hold::ServiceUnseen { service } => write!(f, "Service {service} could not be read"),
            Hold::ServiceAbsent { service } => write!(f, "Service {service} does not exist"),
            Hold::ForeignSelector { service } => write!(
                f,
                "someone else set the selector of Service {service}, and it is not overwritten; set it to the old side \
                 or to the new one"
            ),
            Hold::ForeignMark { service } => write!(
                f,
                "someone else replaced Service {service} or its annotation alongside.dev/epoch; traffic is not moved \
                 while it is unclear who moves it"
            ),
            Hold::NewSideNotServing { service, serving, wanted } => {
                write!(f, "the new side of Service {service} has {serving} of the {wanted} serving pods that it needs")
            }
            Hold::OldSideGone { service } => write!(
                f,
                "traffic of Service {service} can't go back: the old side has no serving pod; bring it up and traffic \
                 moves back by itself"
            ),
            Hold::Writing { service } => write!(f, "moving the traffic of Service {service}"),
            Hold::WriteDenied { service, why } => {
                write!(f, "the API server refuses our change to Service {service}, which is tried again: {why}")
            }
            Hold::AgentUnseen { phase } => {
                write!(f, "the agent of phase {phase}, which keeps the stores in step, is not heard from")
            }
            Hold::AgentGivenUp { phase, message, .. } => {
                write!(f, "the agent of phase {phase}, which keeps the stores in step, has given up: {message}")
            }
            Hold::MovingWrites { phase, why: None } => {
                write!(f, "phase {phase}: writes are being moved from one store to the other")
            }
            Hold::MovingWrites { phase, why: Some(why) } => {
                write!(f, "phase {phase}: writes are to move from one store to the other; waiting for {why}")
            }
            Hold::Confirming { service } => write!(f, "waiting for the EndpointSlices of Service {service} to show it"),
            Hold::Draining { service } => write!(f, "waiting for open connections of Service {service} to leave"),
            Hold::JobRuns { phase, how_far: None } => write!(f, "phase {phase} runs its Job"),
            Hold::JobRuns { phase, how_far: Some(work) } => write!(f, "phase {phase}: {work}"),
            Hold::JobStops { phase } => write!(f, "stopping the Job of phase {phase}"),
            Hold::RetryLater { phase, at, message } => {
                write!(f, "phase {phase} is tried again at {at}: {message}")
            }
            Hold::FailedForGood { phase, message, .. } => {
                write!(f, "phase {phase} failed after the point of no return: {message}")
            }
            Hold::Observing { phase } => write!(f, "phase {phase} waits until its bound has held long enough"),
            Hold::Baking { phase } => write!(f, "phase {phase} keeps the old side while the guards watch"),
            Hold::RollbackNotReady { why } => write!(f, "the way back is not open: {why}"),
            Hold::UndoFailed { phase, message, .. } => write!(f, "phase {phase} could not be taken back: {message}"),
            Hold::Undoing { phase } => write!(f, "taking back phase {phase}"),
            Hold::CleanUpFailed { phase, message, .. } => {
                write!(f, "what phase {phase} kept up for the way back could not be cleared away: {message}")
            }
            Hold::CleaningUp { phase } => write!(f, "clearing away what phase {phase} kept up for the way back"),
            Hold::NoWayBack { why } => write!(f, "past the point of no return: {why}; there is no way back"),
            Hold::Releasing { service } => write!(f, "giving up the mark on Service {service}"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
