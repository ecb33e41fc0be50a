//! The Jobs that run our own workers: the operator's image in a restricted pod, beside the data and never in the operator,
//! which can't read a store's Secret (design section 8).
//!
//! Promise kept here: no credential is in the Job, the ConfigMap or the environment; the pod alone mounts it.

use std::{collections::BTreeMap, path::PathBuf};

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
use serde::Serialize;

use super::At;
use crate::{
    api::{PodTemplate, SecretKey, Store},
    engine::effect::{JobOrder, JobRole},
    worker::task::{self, MigrationRef, StoreRef},
};

/// Where the task is mounted, in the worker's pod.
const TASK_DIR: &str = "/etc/alongside";
/// Where each store's Secret is mounted, under the store's name.
const STORES_DIR: &str = "/etc/alongside-stores";
/// How long a question may take, in seconds: longer than a worker waits for its store by itself, and not for ever where its
/// pod can't be scheduled or its image pulled.
const PREFLIGHT_DEADLINE_SECONDS: i64 = 900;
/// The user that workers run as; the image has no other.
const WORKER_USER: i64 = 65_532;

/// The Job of a worker. `verb` is its command, `stores` the names of those that it works on.
pub fn job(at: At<'_>, verb: &str, stores: &[&str], order: &JobOrder, image: &str) -> Job {
    let template = at.spec.pod_template.clone().unwrap_or_default();
    let mut volumes = vec![
        Volume {
            name: "task".to_owned(),
            config_map: Some(ConfigMapVolumeSource { name: order.name.clone(), ..ConfigMapVolumeSource::default() }),
            ..Volume::default()
        },
        Volume { name: "tmp".to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() },
    ];
    let mut mounts = vec![mount("task", TASK_DIR, true), mount("tmp", "/tmp", false)];
    for (number, name) in stores.iter().enumerate() {
        // A store's name may be as long as a volume's, so the volume is known by its place.
        let volume = format!("store-{number}");
        mounts.push(mount(&volume, &format!("{STORES_DIR}/{name}"), true));
        volumes.push(Volume { name: volume, secret: secret(&at.spec.stores, name), ..Volume::default() });
    }
    let container = Container {
        name: "worker".to_owned(),
        image: Some(image.to_owned()),
        args: Some(["worker", verb, "--task", task::DEFAULT_PATH].map(str::to_owned).to_vec()),
        volume_mounts: Some(mounts),
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

/// Mounts one more Secret's key into a worker's pod, as the file `uri` of a folder.
pub fn mount_secret(job: &mut Job, volume: &str, folder: &str, key: &SecretKey) {
    let Some(pod) = job.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()) else { return };
    let source = Volume { name: volume.to_owned(), secret: Some(only(key)), ..Volume::default() };
    pod.volumes.get_or_insert_default().push(source);
    for container in &mut pod.containers {
        container.volume_mounts.get_or_insert_default().push(mount(volume, folder, true));
    }
}

/// What a worker is told, as an immutable ConfigMap under the Job's name.
pub fn task(order: &JobOrder, task: &impl Serialize) -> ConfigMap {
    let text = serde_json::to_string_pretty(task).expect("a task is plain data");
    ConfigMap {
        metadata: ObjectMeta { name: Some(order.name.clone()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("task.json".to_owned(), text)])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// For which migration a worker works.
pub fn migration(at: At<'_>) -> MigrationRef {
    MigrationRef {
        uid: at.migration.uid().unwrap_or_default(),
        namespace: at.migration.namespace().unwrap_or_default(),
        name: at.migration.name_any(),
    }
}

/// A store, as its worker finds it.
pub fn store(at: At<'_>, name: &str) -> StoreRef {
    let store = at.spec.stores.iter().find(|store| store.name == name);
    StoreRef {
        name: name.to_owned(),
        uri_file: PathBuf::from(STORES_DIR).join(name).join("uri"),
        secret: store.map(|store| store.postgres.secret_ref.clone()),
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

fn secret(stores: &[Store], name: &str) -> Option<SecretVolumeSource> {
    let store = stores.iter().find(|store| store.name == name)?;
    Some(only(&store.postgres.secret_ref))
}

/// One key of a Secret, as the file `uri`.
fn only(key: &SecretKey) -> SecretVolumeSource {
    SecretVolumeSource {
        secret_name: Some(key.name.clone()),
        items: Some(vec![KeyToPath { key: key.key.clone(), path: "uri".to_owned(), mode: None }]),
        default_mode: Some(0o444),
        // Without it the pod would never start, and nobody would say why: the worker does.
        optional: Some(true),
    }
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
