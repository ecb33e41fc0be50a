//! `verify`: proves that data is what it should be, in a Job with the operator's image.

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};

use kube::ResourceExt;

use super::{At, worker};
use crate::{
    api::{Phase, VerifyAction},
    engine::effect::{JobOrder, JobRole},
    worker::{
        ladder::Ladder,
        signed::PublicKey,
        verify::task::{BarrierTask, DEFAULT_STATEMENT_TIMEOUT, FORMAT_VERSION, VerifyRole, VerifyTask},
    },
};

/// Where the worker writes the whole evidence, until the operator has fetched it.
const EVIDENCE_FILE: &str = "/tmp/evidence.json";

/// The worker's Job. It changes nothing but by a repair, so nothing is taken back or cleared away.
pub fn job(at: At<'_>, verify: &VerifyAction, order: &JobOrder, image: &str) -> Option<Job> {
    role(order.role)?;
    Some(worker::job(at, "verify", &stores(verify), order, image))
}

/// What the worker is told.
pub fn task(at: At<'_>, verify: &VerifyAction, order: &JobOrder, key: PublicKey) -> Option<ConfigMap> {
    let role = role(order.role)?;
    let task = VerifyTask {
        format_version: FORMAT_VERSION,
        migration: worker::migration(at),
        phase: order.phase.clone(),
        attempt: order.attempt,
        try_: order.tries,
        role,
        stores: stores(verify).into_iter().map(|name| worker::store(at, name)).collect(),
        action: verify.clone(),
        barrier: barrier(at, verify),
        evidence_file: (role == VerifyRole::Verify).then(|| EVIDENCE_FILE.into()),
        statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
        seed: None,
        retry: Ladder::default(),
        key: (role == VerifyRole::Verify).then_some(key),
    };
    Some(worker::task(order, &task))
}

/// Between stores that the migration keeps in step one point in time is had by their stream; others are taken to be at rest.
fn barrier(at: At<'_>, verify: &VerifyAction) -> BarrierTask {
    let joins = |phase: &&Phase| {
        let joined = phase.replicate.as_ref().map(|replicate| (&replicate.from, &replicate.to));
        joined.is_some() && joined == verify.from.as_ref().zip(verify.to.as_ref())
    };
    let Some(phase) = at.spec.phases[..at.index].iter().find(joins) else { return BarrierTask::None };
    BarrierTask::of_replication(&at.migration.uid().unwrap_or_default(), &phase.name)
}

fn role(role: JobRole) -> Option<VerifyRole> {
    match role {
        JobRole::Preflight => Some(VerifyRole::Preflight),
        JobRole::Do => Some(VerifyRole::Verify),
        JobRole::Undo | JobRole::CleanUp => None,
    }
}

fn stores(verify: &VerifyAction) -> Vec<&str> {
    [&verify.store, &verify.from, &verify.to].into_iter().flatten().map(String::as_str).collect()
}
