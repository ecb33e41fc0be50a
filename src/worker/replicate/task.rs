//! What the agent of a migration between two stores is told: a JSON file without secrets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    api::{Fence, OnFenceTimeout, ReplicateAction, Span},
    stores::postgres::replication::Names,
    worker::{
        ladder::Ladder,
        signed::PublicKey,
        task::{MigrationRef, StoreRef, Told},
    },
};

/// Version of a task's meaning. An agent refuses any other.
pub const FORMAT_VERSION: u32 = 1;
/// The other store may be this far behind when a fence is begun.
pub const DEFAULT_MAX_LAG: Span = Span::secs(2);

/// One migration's two stores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplicateTask {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// For which migration.
    pub migration: MigrationRef,
    /// Name of the `replicate` phase.
    pub phase: String,
    /// Attempt of the migration, from 1. Requests with a lower epoch are refused.
    pub attempt: u32,
    /// Try within the attempt, from 1.
    #[serde(rename = "try")]
    pub try_: u32,
    /// What to do.
    pub role: Role,
    /// Blue: the store that is copied.
    pub from: StoreRef,
    /// Green: the copy.
    pub to: StoreRef,
    /// The phase's action, as the user wrote it.
    pub action: ReplicateAction,
    /// The switch between the two, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchTask>,
    /// How far behind the other store may be when a fence is begun.
    #[serde(default = "default_max_lag")]
    pub max_lag: Span,
    /// Where to listen for the operator's requests.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// Keys with which the operator signs its requests.
    #[serde(default)]
    pub operator_keys: Vec<PublicKey>,
    /// How to try again when a store is away.
    #[serde(default)]
    pub retry: Ladder,
}

fn default_max_lag() -> Span {
    DEFAULT_MAX_LAG
}

fn default_listen() -> String {
    "[::]:8443".to_owned()
}

/// What the agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Asks every question that can be asked before the first effect, and changes nothing.
    Preflight,
    /// Copies, keeps in step and conducts cut-overs, until it is told to leave or to stop.
    Conduct,
    /// Takes everything of ours out of both stores, and sees that nothing is left.
    Leave,
}

/// The switch between the two stores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SwitchTask {
    /// The Service that clients, or PgBouncer, connect to the stores through: to see which store answers there.
    pub service: Place,
    /// How writes are held.
    #[serde(default)]
    pub fence: Fence,
    /// File with the URI of PgBouncer's admin console, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgbouncer_uri_file: Option<PathBuf>,
    /// What happens when going back can't fence in time. Default: the traffic stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_fence_timeout: Option<OnFenceTimeout>,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Told for ReplicateTask {
    const FORMAT_VERSION: u32 = FORMAT_VERSION;

    fn numbers(&self) -> [u32; 2] {
        [self.attempt, self.try_]
    }
}

impl ReplicateTask {
    /// What this migration's own objects are called.
    pub fn names(&self) -> Names {
        Names::new(&self.migration.uid, &self.phase)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::worker::task::TaskError;

    fn json() -> serde_json::Value {
        serde_json::json!({
            "formatVersion": 1,
            "migration": {"uid": "u-1", "namespace": "shop", "name": "orders-to-pg17"},
            "phase": "copy",
            "attempt": 1,
            "try": 1,
            "role": "Conduct",
            "from": {"name": "blue", "uriFile": "/etc/alongside/blue/uri"},
            "to": {"name": "green", "uriFile": "/etc/alongside/green/uri"},
            "action": {"from": "blue", "to": "green", "tables": ["public.*"], "wayBack": true},
        })
    }

    fn read(value: &serde_json::Value) -> Result<ReplicateTask, TaskError> {
        ReplicateTask::from_json(value.to_string().as_bytes(), Path::new("task.json"))
    }

    #[test]
    fn a_task_needs_only_what_has_no_default_and_survives_the_wire() {
        let mut task = read(&json()).unwrap();
        assert_eq!((task.max_lag, task.action.copiers(), task.switch.clone()), (DEFAULT_MAX_LAG, 4, None));
        task.switch = Some(SwitchTask {
            service: Place { host: "orders-db".into(), port: 5432 },
            fence: Fence { deadline: Some(Span::secs(2)), ..Fence::default() },
            pgbouncer_uri_file: None,
            on_fence_timeout: Some(OnFenceTimeout::PreferData),
        });
        assert_eq!(read(&serde_json::to_value(&task).unwrap()).unwrap(), task);
    }

    #[test]
    fn what_is_no_task_of_this_version_is_refused() {
        let with = |field: &str, value: serde_json::Value| {
            let mut json = json();
            json[field] = value;
            read(&json).unwrap_err().to_string()
        };
        assert!(with("formatVersion", 2.into()).contains("format version 2, but this worker knows 1"));
        assert!(with("attempt", 0.into()).contains("no number from 1"));
        assert!(with("surprise", 1.into()).contains("task.json holds no task"));
    }
}
