//! `sql`: runs versioned, reversible scripts, in a Job with the operator's image: a script may take hours, and the operator
//! can't read the store's Secret (design section 8).
//!
//! Promise kept here: no credential is in the Job, the ConfigMap or the environment; the pod alone mounts it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Capabilities, ConfigMap, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, KeyToPath,
            PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile, SecretVolumeSource,
            SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{ResourceExt, api::ObjectMeta};

use super::At;
use crate::{
    api::{PodTemplate, SqlAction, Store},
    engine::{
        effect::{JobOrder, JobRole},
        scripts::VersionedScript,
    },
    worker::{
        ladder::Ladder,
        task::{self, DEFAULT_LOCK_TIMEOUT, LintTask, MigrationRef, Role, StoreRef, Task},
    },
};

/// Where the task is mounted, in the worker's pod.
const TASK_DIR: &str = "/etc/alongside";
/// Where the store's Secret is mounted.
const STORE_DIR: &str = "/etc/alongside-store";
/// How long a question may take, in seconds: longer than a worker waits for its store by itself, and not for ever where its
/// pod can't be scheduled or its image pulled.
const PREFLIGHT_DEADLINE_SECONDS: i64 = 900;
/// The user that workers run as; the image has no other.
const WORKER_USER: i64 = 65_532;

/// The worker's Job.
pub fn job(at: At<'_>, sql: &SqlAction, order: &JobOrder, image: &str) -> Job {
    let template = at.spec.pod_template.clone().unwrap_or_default();
    let stores = &at.spec.stores;
    let volumes = vec![
        Volume {
            name: "task".to_owned(),
            config_map: Some(ConfigMapVolumeSource { name: order.name.clone(), ..ConfigMapVolumeSource::default() }),
            ..Volume::default()
        },
        Volume { name: "store".to_owned(), secret: secret(stores, &sql.store), ..Volume::default() },
        Volume { name: "tmp".to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() },
    ];
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    };
    let container = Container {
        name: "worker".to_owned(),
        image: Some(image.to_owned()),
        args: Some(["worker", "sql", "--task", task::DEFAULT_PATH].map(str::to_owned).to_vec()),
        volume_mounts: Some(vec![
            mount("task", TASK_DIR, true),
            mount("store", STORE_DIR, true),
            mount("tmp", "/tmp", false),
        ]),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(confined()),
        resources: Some(template.resources.clone().unwrap_or_else(small)),
        ..Container::default()
    };
    let spec = PodSpec { containers: vec![container], volumes: Some(volumes), ..pod(template.clone()) };
    let metadata = ObjectMeta {
        labels: Some(template.labels).filter(|labels| !labels.is_empty()),
        annotations: Some(template.annotations).filter(|annotations| !annotations.is_empty()),
        ..ObjectMeta::default()
    };
    let template = PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) };
    let asks = order.role == JobRole::Preflight;
    let active_deadline_seconds = asks.then_some(PREFLIGHT_DEADLINE_SECONDS);
    Job { spec: Some(JobSpec { template, active_deadline_seconds, ..JobSpec::default() }), ..Job::default() }
}

fn secret(stores: &[Store], name: &str) -> Option<SecretVolumeSource> {
    let store = stores.iter().find(|store| store.name == name)?;
    let reference = &store.postgres.secret_ref;
    Some(SecretVolumeSource {
        secret_name: Some(reference.name.clone()),
        items: Some(vec![KeyToPath { key: reference.key.clone(), path: "uri".to_owned(), mode: None }]),
        default_mode: Some(0o444),
        // Without it the pod would never start, and nobody would say why: the worker does.
        optional: Some(true),
    })
}

/// What a pod of ours is, before what it runs: restricted, without a token, where the user wants it.
fn pod(template: PodTemplate) -> PodSpec {
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        service_account_name: template.service_account_name,
        image_pull_secrets: Some(template.image_pull_secrets).filter(|secrets| !secrets.is_empty()),
        tolerations: Some(template.tolerations).filter(|tolerations| !tolerations.is_empty()),
        node_selector: Some(template.node_selector).filter(|selector| !selector.is_empty()),
        affinity: template.affinity,
        priority_class_name: template.priority_class_name,
        // Time for a statement in flight to be cancelled and its transaction to end.
        termination_grace_period_seconds: Some(20),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(WORKER_USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// A worker parses scripts and waits for the server: it needs little.
fn small() -> ResourceRequirements {
    let of = |cpu: Option<&str>, memory: &str| {
        let memory = ("memory".to_owned(), Quantity(memory.to_owned()));
        let cpu = cpu.map(|cpu| ("cpu".to_owned(), Quantity(cpu.to_owned())));
        cpu.into_iter().chain([memory]).collect::<BTreeMap<_, _>>()
    };
    ResourceRequirements { requests: Some(of(Some("10m"), "32Mi")), limits: Some(of(None, "256Mi")), claims: None }
}

/// What the worker is told, as an immutable ConfigMap under the Job's name.
pub fn task(
    at: At<'_>,
    sql: &SqlAction,
    order: &JobOrder,
    scripts: &[VersionedScript],
    past_no_return: bool,
) -> ConfigMap {
    let migration = at.migration;
    let task = Task {
        format_version: task::FORMAT_VERSION,
        migration: MigrationRef {
            uid: migration.uid().unwrap_or_default(),
            namespace: migration.namespace().unwrap_or_default(),
            name: migration.name_any(),
        },
        phase: order.phase.clone(),
        attempt: order.attempt,
        try_: order.tries,
        role: match order.role {
            JobRole::Preflight => Role::Preflight,
            JobRole::Do => Role::Up,
            JobRole::Undo => Role::Down,
        },
        store: StoreRef {
            name: sql.store.clone(),
            uri_file: format!("{STORE_DIR}/uri").into(),
            secret: at.spec.stores.iter().find(|store| store.name == sql.store).map(|s| s.postgres.secret_ref.clone()),
        },
        scripts: scripts.to_vec(),
        lock_timeout: sql.lock_timeout.unwrap_or(DEFAULT_LOCK_TIMEOUT),
        statement_timeout: sql.statement_timeout,
        lint: LintTask { allow: sql.lint.clone().unwrap_or_default().allow, past_no_return },
        adopt: at.spec.adopt.clone(),
        retry: Ladder::default(),
    };
    let text = serde_json::to_string_pretty(&task).expect("a task is plain data");
    ConfigMap {
        metadata: ObjectMeta { name: Some(order.name.clone()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("task.json".to_owned(), text)])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}
