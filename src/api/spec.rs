//! The spec: what a user writes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, LocalObjectReference, ResourceRequirements, Toleration};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    action::{BakeAction, JobAction, ObserveAction, SqlAction, SwitchAction},
    backfill::BackfillAction,
    guard::Guard,
    replicate::ReplicateAction,
    scalar::Span,
    status::MigrationStatus,
    verify::VerifyAction,
};

/// Carries a database or a service from its old form to its new one, phase by phase, and takes it back when a guard is breached.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "alongside.dev",
    version = "v1alpha1",
    kind = "Migration",
    plural = "migrations",
    namespaced,
    shortname = "mig",
    category = "all",
    status = "MigrationStatus",
    derive = "PartialEq",
    doc = "Carries a database or a service from its old form to its new one while both run side by side, and takes it back by itself.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MigrationSpec {
    /// Stores that phases work on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub stores: Vec<Store>,
    /// Guards that hold during every phase, from the start to the end of the bake.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub guards: Vec<Guard>,
    /// What to do, in order.
    #[schemars(length(min = 1, max = 32))]
    pub phases: Vec<Phase>,
    /// Last phase to run for now. The migration then waits, guards on, until this names a later one or is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub until: Option<String>,
    /// What deleting an unfinished migration does with traffic. `Rollback` (default): moves it back if a switch is in effect and the old side is ready. `Orphan`: leaves it.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Metrics provider for guards and observations, as configured by the administrator. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub provider: Option<String>,
    /// What the operator's own Jobs need in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// UIDs of earlier migrations whose marks on a Service this one may take over, after a restore.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 63)))]
    pub adopt: Vec<String>,
}

/// A database that phases work on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// Name of the store, unique in the list.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A PostgreSQL database.
    pub postgres: PostgresStore,
}

/// A PostgreSQL database, reached only by pods that mount the Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresStore {
    /// Secret in the same namespace whose key holds a connection URI (`postgres://user:password@host:5432/database`).
    pub secret_ref: SecretKey,
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key within it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// One step: a name and exactly one action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// Name of the phase, unique in the list.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Runs versioned, reversible scripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Every action is boxed: most phases have one kind, a Job template alone takes 5 KiB even where it is absent, and
    // every Migration is held in memory.
    pub sql: Option<Box<SqlAction>>,
    /// Runs any Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<JobAction>>,
    /// Keeps a new store in step with the old one, from a first copy on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicate: Option<Box<ReplicateAction>>,
    /// Fills new columns of a table, chunk by chunk, while it is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<Box<BackfillAction>>,
    /// Proves that data is what it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Box<VerifyAction>>,
    /// Moves traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<Box<SwitchAction>>,
    /// Holds until a query has satisfied its bound for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe: Option<Box<ObserveAction>>,
    /// Keeps the old side alive under the guards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<BakeAction>,
    /// Whether a person must agree before the action begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Guards of this phase alone; one of the same name replaces the migration's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub guards: Vec<Guard>,
    /// How long the action may take, from its start, before the attempt has failed. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How often a failed action is tried again, with growing delays. Default: 2 for `sql` and `job`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub retries: Option<u32>,
    /// From this phase on there is no rollback. The operator asks for approval first, unless `approval: NotRequired` says otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub point_of_no_return: bool,
}

/// Whether a person must agree before the action begins. `Required`: waits for the annotation `alongside.dev/approve`; a phase with this and no action does nothing but wait. `NotRequired`: doesn't wait, even at the point of no return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Approval {
    /// Waits for the annotation `alongside.dev/approve`.
    Required,
    /// Doesn't wait, even at the point of no return.
    NotRequired,
}

/// What deleting an unfinished migration does with traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Traffic moves back if a switch is in effect, its bake isn't over and the old side is ready.
    #[default]
    Rollback,
    /// Traffic stays where it is.
    Orphan,
}

/// What the operator's own Jobs need in this namespace: pull secrets, tolerations, labels such as `sidecar.istio.io/inject: "false"`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels for the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 8))]
    pub labels: BTreeMap<String, String>,
    /// Annotations for the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 8))]
    pub annotations: BTreeMap<String, String>,
    /// ServiceAccount of the pods; its token is never mounted. Default: the namespace's `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Secrets to pull the operator's image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Nodes that the pods may run on, by label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 8))]
    pub node_selector: BTreeMap<String, String>,
    /// Finer placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// CPU and memory of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}
