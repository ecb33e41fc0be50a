//! Effects: what a decision asks for. Each is idempotent under a name or a compare-and-swap of its own.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::api::{DrainHook, OnFenceTimeout, Span, Time};

use super::{mark::Mark, plan::hex, world::Side};

/// One thing to do to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Writes the plan down as an immutable ControllerRevision.
    FreezePlan {
        /// Its name.
        revision: String,
        /// Hash of the plan that it holds.
        hash: String,
    },
    /// Puts our finalizer on the Migration.
    AddFinalizer,
    /// Takes it off, and lets go of children that still carry theirs.
    RemoveFinalizer,
    /// Makes a Job. "Already exists" is success if it carries our UID.
    CreateJob(JobOrder),
    /// Takes our finalizer off a Job whose outcome is in status, and sets its time to live.
    SettleJob {
        /// Name of the Job.
        name: String,
    },
    /// Stops a Job and its pods.
    StopJob {
        /// Name of the Job.
        name: String,
        /// Its UID; another one under that name is left alone.
        uid: String,
    },
    /// Writes to a Service, by compare-and-swap.
    PatchService(ServicePatch),
    /// Asks a side's open connections to leave. Goes on in the background; asking again changes nothing.
    Drain(DrainOrder),
    /// Tells an agent where writes are to go. Telling it again changes nothing.
    Order(AgentOrder),
}

impl Effect {
    /// The names of all kinds, for metrics and for the list of boundaries that crash tests walk.
    pub const NAMES: [&'static str; 9] = [
        "FreezePlan",
        "AddFinalizer",
        "RemoveFinalizer",
        "CreateJob",
        "SettleJob",
        "StopJob",
        "PatchService",
        "Drain",
        "Order",
    ];

    /// Whether it changes what others see: by a write to the API server, or in a store. A drain only asks pods.
    pub fn changes_the_cluster(&self) -> bool {
        match self {
            Effect::FreezePlan { .. }
            | Effect::AddFinalizer
            | Effect::RemoveFinalizer
            | Effect::CreateJob(_)
            | Effect::SettleJob { .. }
            | Effect::StopJob { .. }
            | Effect::PatchService(_)
            | Effect::Order(_) => true,
            Effect::Drain(_) => false,
        }
    }

    /// The name of its kind.
    pub fn name(&self) -> &'static str {
        let index = match self {
            Effect::FreezePlan { .. } => 0,
            Effect::AddFinalizer => 1,
            Effect::RemoveFinalizer => 2,
            Effect::CreateJob(_) => 3,
            Effect::SettleJob { .. } => 4,
            Effect::StopJob { .. } => 5,
            Effect::PatchService(_) => 6,
            Effect::Drain(_) => 7,
            Effect::Order(_) => 8,
        };
        Self::NAMES[index]
    }
}

/// A Job to make.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobOrder {
    /// Its name.
    pub name: String,
    /// The phase that it works for.
    pub phase: String,
    /// What it is for.
    pub role: JobRole,
    /// The Migration's attempt.
    pub attempt: u32,
    /// The try within the attempt.
    pub tries: u32,
    /// Made suspended: it never runs, but nobody else can make it any more. Where a Job of that name is there after all,
    /// nothing happens to it: that is how a cache that lags behind is told from a Job that is gone.
    pub tombstone: bool,
    /// Made while the Migration is going away: without owner, or the garbage collector would take it at once.
    pub orphan: bool,
}

/// What a Job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobRole {
    /// Asks the store what can be asked before the first effect.
    Preflight,
    /// Does the phase's action.
    Do,
    /// Takes it back.
    Undo,
    /// Clears away what it kept up for the way back.
    CleanUp,
}

impl JobRole {
    /// The role's name, in a Job's label and in its name.
    pub fn name(self) -> &'static str {
        match self {
            JobRole::Preflight => "preflight",
            JobRole::Do => "do",
            JobRole::Undo => "undo",
            JobRole::CleanUp => "cleanup",
        }
    }
}

/// The name of a Job: the same for the same work, and another for any other (design section 4).
///
/// At most 63 bytes, for a Job's pods carry it as a label.
pub fn job_name(
    migration: &str,
    uid: &str,
    plan: &str,
    phase: &str,
    role: JobRole,
    attempt: u32,
    tries: u32,
) -> String {
    // Only preflight depends on the plan: a phase that has begun keeps its Job when later phases change.
    let plan = match role {
        JobRole::Preflight => plan,
        JobRole::Do | JobRole::Undo | JobRole::CleanUp => "",
    };
    let digest = Sha256::digest(format!("{uid}\n{plan}\n{phase}\n{}\n{attempt}\n{tries}", role.name()).as_bytes());
    format!("{}-{}-{}", label_part(migration, 26), label_part(phase, 24), hex(&digest[..5]))
}

/// The beginning of a name, fit to stand before a dash: a Migration's name may hold dots, and `.-` is in no valid name.
pub(crate) fn label_part(name: &str, length: usize) -> String {
    let cut: String = name.chars().take(length).map(|c| if c == '.' { '-' } else { c }).collect();
    cut.trim_end_matches('-').to_owned()
}

/// A write to a Service: if it is as expected, it becomes as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePatch {
    /// Name of the Service.
    pub service: String,
    /// The mark that it must carry for the write to happen.
    pub expect_mark: Option<Mark>,
    /// Labels that its selector must hold for the write to happen.
    pub expect_selector: BTreeMap<String, String>,
    /// Labels that its selector holds afterwards; others stay as they are.
    pub selector: BTreeMap<String, String>,
    /// The mark that it carries afterwards.
    pub mark: Mark,
}

/// A side to drain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DrainOrder {
    /// Name of the Service whose pods are meant.
    pub service: String,
    /// Labels of the side, over the Service's selector.
    pub labels: BTreeMap<String, String>,
    /// Which side it is.
    pub side: Side,
    /// How.
    pub way: DrainWay,
    /// When it is given up: nobody is asked or evicted from then on. Another end is another drain.
    pub until: Time,
}

/// How open connections are made to leave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DrainWay {
    /// By asking each pod.
    Hook(DrainHookOrder),
    /// By evicting pods one by one.
    RestartPods,
    /// By waiting.
    Wait(Span),
}

/// Where an agent is to take writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentOrder {
    /// Name of its Job.
    pub job: String,
    /// Number of the order: an agent that has heard of a higher one doesn't obey.
    pub epoch: u64,
    /// What it is to do.
    pub goal: AgentGoal,
}

/// What an agent is to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AgentGoal {
    /// Leave writes where they are, and give up an attempt that has not been committed.
    Stay,
    /// Move writes to the new store.
    CutOver {
        /// The term to reach.
        term: u32,
    },
    /// Move writes back to the old store.
    Back {
        /// The term to reach.
        term: u32,
        /// Time after which `on_timeout` decides; absent: there is no limit.
        deadline: Option<Span>,
        /// What happens then.
        on_timeout: OnFenceTimeout,
    },
}

/// The hook to ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DrainHookOrder {
    /// Path to POST to.
    pub path: String,
    /// Port of the pod.
    pub port: u16,
}

impl From<&DrainHook> for DrainHookOrder {
    fn from(hook: &DrainHook) -> Self {
        Self { path: hook.path.clone(), port: hook.port }
    }
}
