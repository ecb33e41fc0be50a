//! `replicate`: keeps one store in step with another, by an agent in a Job with the operator's image. The agent stays for as
//! long as traffic may have to go back, and moves the writes when a switch is bound to the stores.

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::ResourceExt;

use super::{At, worker};
use crate::{
    api::{PgBouncer, ReplicateAction, SwitchAction},
    engine::{
        effect::{JobOrder, JobRole},
        plan,
    },
    worker::{
        ladder::Ladder,
        replicate::task::{DEFAULT_MAX_LAG, FORMAT_VERSION, Place, ReplicateTask, Role, SwitchTask},
        signed::PublicKey,
    },
};

/// The port that agents listen on.
pub const PORT: u16 = 8443;
/// Where PgBouncer's admin URI is mounted.
const PGBOUNCER_DIR: &str = "/etc/alongside-pgbouncer";

/// The agent's Job.
pub fn job(at: At<'_>, replicate: &ReplicateAction, order: &JobOrder, image: &str) -> Job {
    let mut job = worker::job(at, "agent", &[&replicate.from, &replicate.to], order, image);
    if let Some(bouncer) = bound_switch(at).and_then(pgbouncer) {
        worker::mount_secret(&mut job, "pgbouncer", PGBOUNCER_DIR, &bouncer.admin_secret_ref);
    }
    job
}

/// What the agent is told.
pub fn task(at: At<'_>, replicate: &ReplicateAction, order: &JobOrder, key: PublicKey) -> ConfigMap {
    let namespace = at.migration.namespace().unwrap_or_default();
    let switch = bound_switch(at).map(|switch| {
        let fence = switch.fence.clone().unwrap_or_default();
        let service = switch.service.clone().unwrap_or_default();
        SwitchTask {
            service: Place { host: format!("{service}.{namespace}.svc"), port: fence.port() },
            pgbouncer_uri_file: fence.pgbouncer.as_ref().map(|_| format!("{PGBOUNCER_DIR}/uri").into()),
            fence: in_namespace(fence, &namespace),
            on_fence_timeout: switch.on_fence_timeout,
        }
    });
    let task = ReplicateTask {
        format_version: FORMAT_VERSION,
        migration: worker::migration(at),
        phase: order.phase.clone(),
        attempt: order.attempt,
        try_: order.tries,
        role: match order.role {
            JobRole::Preflight => Role::Preflight,
            JobRole::Do => Role::Conduct,
            JobRole::Undo | JobRole::CleanUp => Role::Leave,
        },
        from: worker::store(at, &replicate.from),
        to: worker::store(at, &replicate.to),
        action: replicate.clone(),
        switch,
        max_lag: DEFAULT_MAX_LAG,
        listen: format!("[::]:{PORT}"),
        operator_keys: vec![key],
        retry: Ladder::default(),
    };
    worker::task(order, &task)
}

/// The switch that moves the writes from one of the stores to the other.
fn bound_switch(at: At<'_>) -> Option<&SwitchAction> {
    at.spec.phases.iter().filter_map(|phase| phase.switch.as_deref()).find(|switch| plan::is_bound(switch))
}

fn pgbouncer(switch: &SwitchAction) -> Option<&PgBouncer> {
    switch.fence.as_ref()?.pgbouncer.as_ref()
}

/// A fence whose PgBouncer is looked for in the Migration's namespace, whatever the pod's resolver searches.
fn in_namespace(mut fence: crate::api::Fence, namespace: &str) -> crate::api::Fence {
    if let Some(service) = fence.pgbouncer.as_mut().and_then(|bouncer| bouncer.service.as_mut()) {
        *service = format!("{service}.{namespace}.svc");
    }
    fence
}
