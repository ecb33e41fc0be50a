//! `backfill`: fills columns of a live table, in a Job with the operator's image.

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};

use super::{At, worker};
use crate::{
    api::BackfillAction,
    engine::effect::{JobOrder, JobRole},
    worker::{
        backfill::task::{FORMAT_VERSION, Role, Task},
        ladder::Ladder,
        signed::PublicKey,
    },
};

/// The worker's Job.
pub fn job(at: At<'_>, backfill: &BackfillAction, order: &JobOrder, image: &str) -> Job {
    worker::job(at, "backfill", &[&backfill.store], order, image)
}

/// What the worker is told. The plan says what is done; how fast, the spec says as it is by now.
pub fn task(at: At<'_>, backfill: &BackfillAction, order: &JobOrder, key: PublicKey) -> ConfigMap {
    let mut action = backfill.clone();
    let live = at.migration.spec.phases.iter().find(|phase| phase.name == order.phase);
    if let Some(live) = live.and_then(|phase| phase.backfill.as_ref()) {
        (action.throttle, action.workers, action.rate) = (live.throttle.clone(), live.workers, live.rate);
    }
    let task = Task {
        format_version: FORMAT_VERSION,
        migration: worker::migration(at),
        phase: order.phase.clone(),
        attempt: order.attempt,
        try_: order.tries,
        role: match order.role {
            JobRole::Preflight => Role::Preflight,
            JobRole::Do => Role::Run,
            JobRole::Undo => Role::Undo,
            JobRole::CleanUp => Role::Finish,
        },
        store: worker::store(at, &backfill.store),
        action,
        retry: Ladder::default(),
        lease: Task::LEASE,
        key: Some(key),
    };
    worker::task(order, &task)
}
