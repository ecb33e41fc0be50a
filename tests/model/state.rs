//! What the model is made of: an API server, two operators, people and pods, and a ledger of what truly happened.

use std::collections::{BTreeMap, BTreeSet};

use alongside::{
    api::MigrationStatus,
    engine::{
        effect::Effect,
        world::{Lifecycle, Side, Verbs},
    },
};

use crate::{
    cluster::{Cluster, Job, Service},
    kept::{Kept, hash_of},
    promises::Broken,
    stores::Stores,
};

/// What an operator reads of the Migration itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    pub status: Kept<MigrationStatus>,
    pub verbs: Kept<Verbs>,
    pub lifecycle: Lifecycle,
    pub finalizer: bool,
}

impl Object {
    /// Stands for the resourceVersion. Two versions with the same content count as one, which only allows more.
    pub fn version(&self) -> u64 {
        hash_of(self)
    }
}

/// What the guards say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mood {
    Pass,
    Breach,
    Silent,
}

/// The API server and all behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    pub object: Object,
    pub services: Kept<BTreeMap<String, Service>>,
    pub jobs: Kept<BTreeMap<String, Job>>,
    pub rest: Kept<Rest>,
    pub mood: Mood,
    /// Hours since the beginning: more than any deadline passes in one.
    pub clock: u8,
}

/// What else the cluster holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rest {
    pub revisions: BTreeSet<String>,
    pub drains: BTreeMap<String, alongside::engine::effect::DrainOrder>,
    pub jobs_made: u32,
    pub stores: Stores,
}

impl Server {
    pub fn cluster(&self) -> Cluster {
        Cluster {
            finalizer: self.object.finalizer,
            revisions: self.rest.revisions.clone(),
            services: (*self.services).clone(),
            jobs: (*self.jobs).clone(),
            drains: self.rest.drains.clone(),
            drains_stick: false,
            jobs_made: self.rest.jobs_made,
            stores: self.rest.stores.clone(),
        }
    }

    pub fn set_cluster(&mut self, cluster: Cluster) {
        let Cluster { finalizer, revisions, services, jobs, drains, drains_stick: _, jobs_made, stores } = cluster;
        self.object.finalizer = finalizer;
        self.services = Kept::new(services);
        self.jobs = Kept::new(jobs);
        self.rest = Kept::new(Rest { revisions, drains, jobs_made, stores });
    }

    pub fn edit_service(&mut self, name: &str, edit: impl FnOnce(&mut Service)) {
        let mut services = (*self.services).clone();
        if let Some(service) = services.get_mut(name) {
            edit(service);
        }
        self.services = Kept::new(services);
    }

    pub fn edit_jobs(&mut self, edit: impl FnOnce(&mut BTreeMap<String, Job>)) {
        let mut jobs = (*self.jobs).clone();
        edit(&mut jobs);
        self.jobs = Kept::new(jobs);
    }

    /// Whether a Service of the plan points at the new side.
    pub fn is_on_new_side(&self) -> bool {
        self.services.values().any(|service| service.points_at(Side::To))
    }
}

/// What was true when an operator looked, whatever it made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Look {
    /// Each Service's old side, and each one's new side, had a serving pod.
    pub from_served: bool,
    pub to_served: bool,
    /// Some Service of the plan pointed at its new side.
    pub on_new_side: bool,
    /// Some Service that we had moved in this attempt did.
    pub moved_and_not_back: bool,
    /// Every Service of the plan that existed did.
    pub all_on_new_side: bool,
    pub guards_passed: bool,
}

/// An effect on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    pub effect: Kept<Effect>,
    pub look: Look,
}

/// A status write on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Put {
    pub status: Kept<MigrationStatus>,
    pub version: u64,
    pub look: Look,
}

/// What an operator has decided and not finished.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    /// Absent once the API server has taken it.
    pub put: Option<Put>,
    pub at_once: Vec<Order>,
    pub after: Vec<Order>,
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Operator {
    /// It leads, and goes on deciding.
    pub leads: bool,
    pub pending: Option<Pending>,
    /// The Migration as it was last read.
    pub object: Option<Object>,
    /// The Jobs as its cache showed them when they were last read.
    pub jobs: Option<Kept<BTreeMap<String, Job>>>,
    /// The Services as the predecessor saw them last: only a mutant decides by them.
    pub services: Option<Kept<BTreeMap<String, Service>>>,
}

/// What truly happened, for the promises only: no operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Ledger {
    /// Two bits for each Job that can succeed: how often it did.
    pub successes: u64,
    /// Services that we have moved in this attempt.
    pub moved: BTreeSet<String>,
    /// A way back has landed by our own hand in this attempt, and nobody has touched a Service since.
    pub went_back: bool,
    /// Services that somebody has moved back after we had moved them.
    pub taken_back_by_others: BTreeSet<String>,
    /// Somebody has ever touched a Service.
    pub touched: bool,
    /// Names of Jobs and numbers of writes that status has announced.
    pub announced: BTreeSet<u64>,
}

/// How often each thing may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Budget {
    /// The leader freezes with whatever it has pending, and a successor leads.
    pub freeze: u8,
    /// The frozen one decides again, by what it read before, before it notices.
    pub deposed: u8,
    /// The leader dies and starts again.
    pub crash: u8,
    /// A request is carried out and its answer lost.
    pub lost: u8,
    /// A request is carried out twice.
    pub twice: u8,
    /// The leader decides by an old Migration.
    pub old_status: u8,
    /// The leader decides by an old list of Jobs.
    pub old_jobs: u8,
    pub breach: u8,
    pub silence: u8,
    /// The old side's pods go, and may come back.
    pub old_side_dies: u8,
    /// The new side's pods go, and may come back.
    pub new_side_dies: u8,
    /// Somebody edits, strips, replaces or deletes a Service.
    pub foreign: u8,
    pub abort: u8,
    pub rollback: u8,
    pub pause: u8,
    pub approve: u8,
    pub retry: u8,
    pub delete: u8,
    pub job_fails: u8,
    /// A Job disappears without a trace, its finalizer torn off.
    pub job_vanishes: u8,
    /// The agent that keeps two stores in step is killed.
    pub agent_dies: u8,
    pub hours: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub server: Server,
    pub operators: [Operator; 2],
    pub budget: Budget,
    pub ledger: Kept<Ledger>,
    pub broken: Broken,
}
