//! The actions a phase can have, one struct a kind.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::JobTemplateSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    guard::Ratio,
    replicate::{Fence, OnFenceTimeout},
    scalar::{Percent, Span},
};

/// Runs versioned, reversible scripts against a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqlAction {
    /// Name of the store, from `spec.stores`.
    #[schemars(length(min = 1, max = 63))]
    pub store: String,
    /// The script that takes the schema forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<Script>,
    /// The script that takes it back. Without one, the phase can't be undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Script>,
    /// Instead of `up` and `down`: a whole ConfigMap in golang-migrate (`0001_add.up.sql`) or Flyway (`V1__add.sql`, `U1__add.sql`) naming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ScriptSource>,
    /// Whether a rollback runs the down scripts (`Down`) or leaves an additive change in place (`Keep`, default).
    #[serde(default)]
    pub on_rollback: OnRollback,
    /// How long a statement may wait for a lock before it lets go and tries again later. Default: `2s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_timeout: Option<Span>,
    /// How long one statement may run. Default: no limit but the phase's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_timeout: Option<Span>,
    /// Lint findings to accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lint: Option<LintOptions>,
}

/// Where one script's text is: inline or under a ConfigMap's key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Script {
    /// The SQL text itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub inline: Option<String>,
    /// A key of a ConfigMap in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key: Option<ScriptKey>,
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScriptKey {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key whose value is the script.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A whole ConfigMap of scripts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScriptSource {
    /// Name of the ConfigMap, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub config_map: String,
}

/// What a rollback does with a schema change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnRollback {
    /// The change stays: the old side doesn't mind what was added, and nothing is lost.
    #[default]
    Keep,
    /// The down scripts run, after traffic is back and drained.
    Down,
}

/// Lint findings that the author accepts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LintOptions {
    /// Names of rules to accept, as the finding prints them. Example: `[require-timeout-settings]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)))]
    pub allow: Vec<String>,
}

/// Runs any Job. It must be idempotent: Kubernetes can run a Job's pod twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobAction {
    /// The Job to run. `backoffLimit` is 0 and `podReplacementPolicy` is `Failed`: retries are the phase's.
    pub template: JobTemplateSpec,
    /// The Job that takes it back. Without one, nothing is run on a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<JobTemplateSpec>,
}

/// Moves the traffic of one or several Services from one set of pods to another, and back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SwitchAction {
    /// The Service to switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub service: Option<String>,
    /// Instead of `service`: several Services that move together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 63)))]
    pub services: Vec<String>,
    /// The labels in the selector that mark the old side. Example: `{version: v1}`.
    #[schemars(length(min = 1, max = 8))]
    pub from: BTreeMap<String, String>,
    /// The same labels with the new side's values. Example: `{version: v2}`.
    #[schemars(length(min = 1, max = 8))]
    pub to: BTreeMap<String, String>,
    /// How connections that were open at the flip leave the side that lost the traffic. Default: wait 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Share of the old side's serving pods that the new side must have before the flip. Default: `100%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Percent>,
    /// Share of the old side's serving pods at the flip that must stay for `RollbackReady`. Default: `50%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_old: Option<Percent>,
    /// Between two stores that a `replicate` phase keeps in step: writes are held while traffic moves, so that none is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// With `fence`: what happens when writes can't be held in time on the way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_fence_timeout: Option<OnFenceTimeout>,
}

impl SwitchAction {
    /// Names of all Services that move together.
    pub fn service_names(&self) -> Vec<&str> {
        self.service.iter().chain(self.services.iter()).map(String::as_str).collect()
    }
}

/// How open connections leave a side. The way back drains the new side likewise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Asks each pod to close its connections, and again until none is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<DrainHook>,
    /// Evicts the pods one by one, each once its replacement serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_pods: Option<bool>,
    /// Waits this long for connections to end by themselves; what remains is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// When to stop draining and say what remains. Default: `30s`, or `10m` with `restartPods`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
}

/// An HTTP POST to each pod. It answers 2xx with `{"connections": N}`, the connections still to close; without a count, what remains is unknown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainHook {
    /// Path to ask. Example: `/drain`.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^/"))]
    pub path: String,
    /// Port of the pod.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
}

/// Holds until a query has satisfied its bound over a whole sustained window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObserveAction {
    /// Metrics provider to ask. Default: the migration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub provider: Option<String>,
    /// A share of errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
    /// Any PromQL that answers with one series or a scalar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub query: Option<String>,
    /// Highest value that satisfies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Lowest value that satisfies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// How long the bound must hold without a break.
    #[serde(rename = "for")]
    pub for_: Span,
    /// How often to ask. Default: `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// Oldest sample that counts as data. Default: `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
}

/// Keeps the old side alive for a time under the guards. Only time during which every guard was watched counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BakeAction {
    /// Guarded time to spend. Example: `24h`.
    #[serde(rename = "for")]
    pub for_: Span,
}
