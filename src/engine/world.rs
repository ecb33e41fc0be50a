//! The world: what was observed, each thing with what it says about how well it was seen.

use std::collections::BTreeMap;

use crate::api::{DeletionPolicy, Span, Time, TrafficStatus, WorkStatus};

use super::{
    guard::{BaselineView, GuardView, ObservationView},
    mark::Mark,
};

/// Everything a decision looks at besides the plan and what is remembered.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a sighting of its own, and none excludes another")]
pub struct World {
    /// UID of the Migration.
    pub uid: String,
    /// Name of the Migration.
    pub name: String,
    /// Namespace of the Migration.
    pub namespace: String,
    /// Generation of the spec that was read.
    pub generation: i64,
    /// The live `until`.
    pub until: Option<String>,
    /// The live deletion policy.
    pub deletion_policy: DeletionPolicy,
    /// Whether our finalizer is on the Migration.
    pub finalizer: bool,
    /// Whether the Migration is going away.
    pub lifecycle: Lifecycle,
    /// The verbs that users have set.
    pub verbs: Verbs,
    /// UIDs whose marks may be taken over.
    pub adopt: Vec<String>,
    /// What preflight found.
    pub preflight: Preflight,
    /// Whether the frozen plan's ControllerRevision is there.
    pub plan_stored: bool,
    /// Whether the revision under its name holds another plan.
    pub plan_foreign: bool,
    /// What the guards say now.
    pub guards: Vec<GuardView>,
    /// Since when every guard has passed without a break and been watched all along.
    pub guarded_since: Option<Time>,
    /// Baselines of the guards that need one.
    pub baselines: Vec<BaselineView>,
    /// The present phase's observation.
    pub observation: Option<ObservationView>,
    /// Every Service of the plan and of `status.traffic`: one that has left the plan must be given up.
    pub services: BTreeMap<String, Sight<ServiceView>>,
    /// Every Job of the Migration, by name.
    pub jobs: BTreeMap<String, JobView>,
    /// Why no pod of a Job runs yet, by Job, where that doesn't pass by itself in a moment.
    pub stuck: BTreeMap<String, String>,
    /// What the workers in those Jobs said last, by Job.
    pub work: BTreeMap<String, WorkStatus>,
    /// What the agents said last that keep stores in step, by their Job; absent where nobody hears of one.
    pub agents: BTreeMap<String, AgentView>,
    /// Whether Jobs could be listed at all.
    pub jobs_seen: bool,
    /// What the API server said to our last write to a Service, by Service, where it refused it although the Service was
    /// as expected.
    pub denied: BTreeMap<String, String>,
    /// Why the API server would not take a Service's way back, by Service, where a dry run has said so.
    pub way_back_denied: BTreeMap<String, String>,
    /// Drains under way, by Service: of each the one that was ordered last.
    pub drains: BTreeMap<String, DrainView>,
    /// Why a Job that status waits for could not be made, such as a quota or a policy; absent once it could.
    pub jobs_refused: Option<String>,
}

/// A thing that was looked for. "Not there" and "could not look" are different answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Sight<T> {
    /// The look failed, or has not been tried.
    #[default]
    Unseen,
    /// It isn't there.
    Absent,
    /// There it is.
    Seen(T),
}

/// Whether a Migration is going away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lifecycle {
    /// It stays.
    #[default]
    Alive,
    /// It has been deleted, and our finalizer holds it.
    Deleting,
    /// Its whole namespace is going: no Job or Event can be made there any more.
    NamespaceTerminating,
}

/// The verbs as users wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Verbs {
    /// Value of the approve annotation.
    pub approve: Option<String>,
    /// Who approved, as the admission policy enforces it.
    pub approved_by: Option<String>,
    /// Value of the pause annotation.
    pub pause: Option<String>,
    /// Value of the abort annotation.
    pub abort: Option<String>,
    /// Value of the rollback annotation.
    pub rollback: Option<String>,
    /// Value of the retry annotation.
    pub retry: Option<String>,
}

/// What preflight found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Preflight {
    /// Whether it has been asked at all.
    pub asked: bool,
    /// What it found, worst first.
    pub findings: Vec<Finding>,
}

/// One answer of preflight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// Where in the spec, such as `spec.phases[1].switch.service`.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// The migration doesn't start until somebody mends it.
    Refuse,
    /// It may mend itself, such as a pod that isn't ready yet.
    Wait,
    /// Worth knowing.
    Warn,
}

/// An agent that keeps two stores in step, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct AgentView {
    /// The first copy is done, and the stream after it applies.
    pub in_step: bool,
    /// Moves of writes that were committed; after an odd number the new store takes them. Absent while it can't see the
    /// stores.
    pub term: Option<u32>,
    /// The term that it tries to reach; absent while it stays.
    pub asked: Option<u32>,
    /// Number of the last order that it has heard.
    pub epoch: u64,
    /// The store that takes writes lets them in, and nobody is made to wait.
    pub serves: bool,
    /// All is as it was asked to be, and another move could begin at once.
    pub settled: bool,
    /// What it waits for, or what went wrong last.
    pub trouble: Option<String>,
    /// How long clients waited at the last move.
    pub held: Option<Span>,
    /// Traffic moved by force, and so much WAL stayed behind, in bytes.
    pub left_behind: Option<i64>,
}

impl AgentView {
    /// Whether the new store takes the writes.
    pub fn has_moved(&self) -> bool {
        self.term.is_some_and(is_new_side)
    }
}

/// Whether in a term the new store takes the writes.
pub fn is_new_side(term: u32) -> bool {
    !term.is_multiple_of(2)
}

/// A Service and the pods behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ServiceView {
    /// Its UID.
    pub uid: String,
    /// Its whole selector.
    pub selector: BTreeMap<String, String>,
    /// The mark that it carries, ours or another migration's.
    pub mark: Option<Mark>,
    /// What stands in the mark's place and is none. Nothing is written over it.
    pub scribble: Option<String>,
    /// Pods of the old side that serve: ready and not terminating.
    pub from_serving: u32,
    /// Pods of the new side that serve.
    pub to_serving: u32,
    /// Whose pods, and only whose, the EndpointSlices hold as serving.
    pub confirmed: Option<Side>,
}

/// A side of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The old one.
    From,
    /// The new one.
    To,
}

/// Where a selector points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Points {
    /// At one of the two sides.
    At(Side),
    /// Somewhere else.
    Elsewhere,
}

impl ServiceView {
    /// Where the selector points, by the labels that the switch is about.
    pub fn points(&self, traffic: &TrafficStatus) -> Points {
        let holds =
            |side: &BTreeMap<String, String>| side.iter().all(|(key, value)| self.selector.get(key) == Some(value));
        if holds(&traffic.from) {
            Points::At(Side::From)
        } else if holds(&traffic.to) {
            Points::At(Side::To)
        } else {
            Points::Elsewhere
        }
    }
}

/// A Job of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JobView {
    /// Its UID.
    pub uid: String,
    /// Whether it carries this Migration's UID as its label.
    pub ours: bool,
    /// Whether it still carries our finalizer.
    pub finalizer: bool,
    /// How far it is.
    pub state: JobState,
}

/// How far a Job is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It runs, or will.
    Active,
    /// It was made suspended, so that nobody can make it any more.
    Tombstone,
    /// Every pod of it succeeded.
    Succeeded {
        /// What it reported.
        message: String,
    },
    /// It failed, or somebody deleted it. No pod of it runs any more: until then it is `Active`.
    Failed {
        /// Why.
        message: String,
        /// Trying again can't help, as the worker itself said.
        terminal: bool,
    },
}

/// A drain under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DrainView {
    /// Which side is being drained.
    pub side: Side,
    /// Whether no more needs to be waited for.
    pub finished: bool,
    /// Connections left; absent is unknown.
    pub remaining: Option<u64>,
}

/// How long a wait may last before it is looked at again although nothing has woken us: a missed event costs this much.
pub const RESYNC: Span = Span::secs(30);
