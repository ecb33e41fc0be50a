//! `sql`: runs versioned, reversible scripts, in a Job with the operator's image: a script may take hours, and the operator
//! can't read the store's Secret (design section 8).

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};

use super::{At, worker};
use crate::{
    api::SqlAction,
    engine::{
        effect::{JobOrder, JobRole},
        scripts::VersionedScript,
    },
    worker::{
        ladder::Ladder,
        task::{self, DEFAULT_LOCK_TIMEOUT, LintTask, Role, Task},
    },
};

/// The worker's Job.
pub fn job(at: At<'_>, sql: &SqlAction, order: &JobOrder, image: &str) -> Job {
    worker::job(at, "sql", &[&sql.store], order, image)
}

/// What the worker is told. `None`: a script keeps nothing up that would have to be cleared away.
pub fn task(at: At<'_>, sql: &SqlAction, order: &JobOrder, scripts: &[VersionedScript]) -> Option<ConfigMap> {
    let past_no_return = at.spec.phases[..=at.index].iter().any(|phase| phase.point_of_no_return);
    let task = Task {
        format_version: task::FORMAT_VERSION,
        migration: worker::migration(at),
        phase: order.phase.clone(),
        attempt: order.attempt,
        try_: order.tries,
        role: match order.role {
            JobRole::Preflight => Role::Preflight,
            JobRole::Do => Role::Up,
            JobRole::Undo => Role::Down,
            JobRole::CleanUp => return None,
        },
        store: worker::store(at, &sql.store),
        scripts: scripts.to_vec(),
        lock_timeout: sql.lock_timeout.unwrap_or(DEFAULT_LOCK_TIMEOUT),
        statement_timeout: sql.statement_timeout,
        lint: LintTask { allow: sql.lint.clone().unwrap_or_default().allow, past_no_return },
        adopt: at.spec.adopt.clone(),
        retry: Ladder::default(),
    };
    Some(worker::task(order, &task))
}
