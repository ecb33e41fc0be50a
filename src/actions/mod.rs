//! One file a phase kind: what is asked before the first effect, and what its effects are in Kubernetes.
//!
//! The engine decides when; these files know how. A new kind is a new file here and an arm in each match below.

pub mod backfill;
pub mod drain;
pub mod job;
pub mod replicate;
pub mod sql;
pub mod switch;
pub mod verify;
pub mod worker;

use std::collections::BTreeMap;

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::{Client, Resource, ResourceExt};

use crate::{
    api::{CHILD_FINALIZER, Migration, MigrationSpec, NAME_LABEL, PHASE_LABEL, Phase, UID_LABEL},
    engine::{
        effect::{JobOrder, JobRole},
        plan::{self, Action},
        scripts::VersionedScript,
        world::{Finding, Weight},
    },
    worker::signed::PublicKey,
};

/// Everything that a phase's questions and effects are made from.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The Migration, for its name, namespace and UID.
    pub migration: &'a Migration,
    /// The plan's spec. What the live object says by now is of no interest.
    pub spec: &'a MigrationSpec,
    /// Position of the phase in the plan.
    pub index: usize,
    /// The phase, from the plan.
    pub phase: &'a Phase,
}

/// What preflight asks the cluster about one phase. Nothing is changed. `image` is the operator's own.
pub async fn preflight(at: At<'_>, client: &Client, image: &str) -> Vec<Finding> {
    match plan::action(at.phase) {
        Action::Sql(_) | Action::Job(_) | Action::Replicate(_) | Action::Backfill(_) | Action::Verify(_) => {
            job::preflight(at, client, image).await
        }
        Action::Switch(switch) => switch::preflight(at, switch, client).await,
        // Queries are looked at together with the guards'; time and people are there for everyone.
        Action::Observe(_) | Action::Bake(_) | Action::Approval => Vec::new(),
    }
}

/// The Job of a phase. `None` where the kind has no Job of that role.
pub fn job_of(at: At<'_>, order: &JobOrder, image: &str) -> Option<Job> {
    let mut job = plain_job_of(at, order, image)?;
    adorn(&mut job, at.migration, order);
    Some(job)
}

fn plain_job_of(at: At<'_>, order: &JobOrder, image: &str) -> Option<Job> {
    match plan::action(at.phase) {
        Action::Sql(sql) => Some(sql::job(at, sql, order, image)).filter(|_| order.role != JobRole::CleanUp),
        Action::Replicate(replicate) => Some(replicate::job(at, replicate, order, image)),
        Action::Backfill(backfill) => Some(backfill::job(at, backfill, order, image)),
        Action::Verify(verify) => verify::job(at, verify, order, image),
        Action::Job(job) => match order.role {
            JobRole::Preflight | JobRole::CleanUp => None,
            JobRole::Do => Some(job::from_template(&job.template)),
            JobRole::Undo => job.undo.as_ref().map(job::from_template),
        },
        Action::Switch(_) | Action::Observe(_) | Action::Bake(_) | Action::Approval => None,
    }
}

/// What the worker in a phase's Job is told. `None` where the Job runs no worker of ours.
/// `scripts` are those that were frozen with the phase, `key` is what the worker knows the operator's requests by.
pub fn task_of(at: At<'_>, order: &JobOrder, scripts: Option<&[VersionedScript]>, key: PublicKey) -> Option<ConfigMap> {
    match plan::action(at.phase) {
        Action::Sql(sql) => sql::task(at, sql, order, scripts?),
        Action::Replicate(replicate) => Some(replicate::task(at, replicate, order, key)),
        Action::Backfill(backfill) => Some(backfill::task(at, backfill, order, key)),
        Action::Verify(verify) => verify::task(at, verify, order, key),
        Action::Job(_) | Action::Switch(_) | Action::Observe(_) | Action::Bake(_) | Action::Approval => None,
    }
}

/// Whether a phase's Job runs a worker of ours that can be asked how far it is.
pub fn can_be_asked(phase: &Phase) -> bool {
    match plan::action(phase) {
        Action::Backfill(_) | Action::Verify(_) => true,
        // An agent is asked otherwise: `operator::agents`.
        Action::Sql(_)
        | Action::Job(_)
        | Action::Replicate(_)
        | Action::Switch(_)
        | Action::Observe(_)
        | Action::Bake(_)
        | Action::Approval => false,
    }
}

/// What every Job of ours carries, whoever wrote its template.
fn adorn(job: &mut Job, migration: &Migration, order: &JobOrder) {
    let mut labels = labels(migration);
    labels.insert(PHASE_LABEL.to_owned(), order.phase.clone());
    job.metadata.name = Some(order.name.clone());
    job.metadata.labels.get_or_insert_default().extend(labels.clone());
    let owner = migration.controller_owner_ref(&()).filter(|_| !order.orphan);
    job.metadata.owner_references = Some(owner.into_iter().collect());
    job.metadata.finalizers = (!order.tombstone).then(|| vec![CHILD_FINALIZER.to_owned()]);
    let Some(spec) = job.spec.as_mut() else { return };
    // Retries are the engine's: it alone knows whether another try is still wanted.
    spec.backoff_limit = Some(0);
    spec.pod_replacement_policy = Some("Failed".to_owned());
    spec.ttl_seconds_after_finished = None;
    spec.suspend = order.tombstone.then_some(true);
    if spec.completion_mode.as_deref() == Some("Indexed") && spec.backoff_limit_per_index.is_some() {
        spec.backoff_limit = None;
    }
    let metadata = spec.template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().extend(labels);
}

/// What every child of a Migration is found by.
pub fn labels(migration: &Migration) -> BTreeMap<String, String> {
    BTreeMap::from([
        (UID_LABEL.to_owned(), migration.uid().unwrap_or_default()),
        (NAME_LABEL.to_owned(), migration.name_any().chars().take(63).collect()),
    ])
}

/// Whether an answer of the API server is a refusal that asking again doesn't change, by its HTTP status.
pub(crate) fn is_for_good(code: u16) -> bool {
    (400..500).contains(&code) && ![408, 409, 429].contains(&code)
}

/// What a dry run that did not pass says against a plan. `what` was tried.
pub(crate) fn dry_run_finding(path: &str, what: &str, error: &kube::Error) -> Option<Finding> {
    let kube::Error::Api(status) = error else {
        return Some(wait(path, format!("a dry run of {what} was not answered: {error}")));
    };
    // A webhook with side effects can't be asked without them: what it would say is unknown.
    if status.message.contains("does not support dry run") {
        return None;
    }
    let why = format!("a dry run of {what} was refused: {}", status.message);
    Some(if is_for_good(status.code) { refuse(path, why) } else { wait(path, why) })
}

/// A finding that keeps the migration from starting.
pub fn refuse(path: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding { weight: Weight::Refuse, path: path.into(), message: message.into() }
}

/// A finding that may mend itself.
pub fn wait(path: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding { weight: Weight::Wait, path: path.into(), message: message.into() }
}

/// A finding worth knowing.
pub fn warn(path: impl Into<String>, message: impl Into<String>) -> Finding {
    Finding { weight: Weight::Warn, path: path.into(), message: message.into() }
}
