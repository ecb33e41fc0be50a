//! What the `verify` worker is told to do: a JSON file that the operator mounts. No secret is in it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    api::{Span, VerifyAction},
    stores::postgres::{heartbeat, replication::Names},
    worker::{
        ladder::Ladder,
        signed::PublicKey,
        task::{MigrationRef, StoreRef, Told},
    },
};

/// Version of a task's meaning. A worker refuses any other.
pub const FORMAT_VERSION: u32 = 1;
/// Where the operator mounts the task.
pub const DEFAULT_PATH: &str = "/etc/alongside/task.json";
/// How long one statement over a range may run before the range is halved.
pub const DEFAULT_STATEMENT_TIMEOUT: Span = Span::secs(30);

/// One run of one `verify` phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyTask {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// For which migration.
    pub migration: MigrationRef,
    /// Name of the phase.
    pub phase: String,
    /// Attempt of the migration, from 1.
    pub attempt: u32,
    /// Try within the attempt, from 1.
    #[serde(rename = "try")]
    pub try_: u32,
    /// What to do.
    pub role: VerifyRole,
    /// The stores that the action names.
    pub stores: Vec<StoreRef>,
    /// The action as the user wrote it.
    pub action: VerifyAction,
    /// How one point in time is had on two stores. Of no meaning within one store.
    #[serde(default)]
    pub barrier: BarrierTask,
    /// File to write the whole evidence to, as JSON. Absent: it is written nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_file: Option<PathBuf>,
    /// How long one statement over a range may run before the range is halved.
    #[serde(default = "default_statement_timeout")]
    pub statement_timeout: Span,
    /// Seed of the rows' digests and of what a sample is drawn by. Absent: another in each run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// How to try again when a lock isn't to be had, replication is behind, or a store is away.
    #[serde(default)]
    pub retry: Ladder,
    /// What the operator's requests are known by. Absent: nobody is listened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PublicKey>,
}

fn default_statement_timeout() -> Span {
    DEFAULT_STATEMENT_TIMEOUT
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VerifyRole {
    /// Asks every question that can be asked beforehand, compares nothing and changes nothing.
    Preflight,
    /// Verifies, once.
    Verify,
}

/// How one point in time is had on two stores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BarrierTask {
    /// They are joined by logical replication: each portion is compared as of one moment (protocol P4).
    #[serde(rename_all = "camelCase")]
    Replication {
        /// Schema of the heartbeat's table: `(side text PRIMARY KEY, beat bigint, at timestamptz)`, on both sides and part of
        /// the publication that the tables come by.
        schema: String,
        /// Its name.
        table: String,
    },
    /// Nobody writes to them, or nothing keeps them in step. A row that changes while it is looked at is not judged.
    #[default]
    None,
}

impl BarrierTask {
    /// That of the stores which a migration's phase keeps in step.
    pub fn of_replication(uid: &str, phase: &str) -> Self {
        Self::Replication { schema: Names::new(uid, phase).schema(), table: heartbeat::TABLE.to_owned() }
    }
}

impl Told for VerifyTask {
    const FORMAT_VERSION: u32 = FORMAT_VERSION;

    fn numbers(&self) -> [u32; 2] {
        [self.attempt, self.try_]
    }
}

impl VerifyTask {
    /// The store of this name.
    pub fn store(&self, name: &str) -> Option<&StoreRef> {
        self.stores.iter().find(|store| store.name == name)
    }

    /// What the server's activity view shows of the worker.
    pub fn application_name(&self) -> String {
        format!("alongside {}/{} {}", self.migration.namespace, self.migration.name, self.phase)
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
            "phase": "prove",
            "attempt": 1,
            "try": 1,
            "role": "Verify",
            "stores": [
                {"name": "blue", "uriFile": "/etc/alongside/blue/uri"},
                {"name": "green", "uriFile": "/etc/alongside/green/uri"},
            ],
            "action": {"from": "blue", "to": "green", "tables": ["public.*"]},
            "barrier": {"replication": {"schema": "alongside", "table": "heartbeat"}},
        })
    }

    fn read(value: &serde_json::Value) -> Result<VerifyTask, TaskError> {
        VerifyTask::from_json(value.to_string().as_bytes(), Path::new("task.json"))
    }

    #[test]
    fn a_task_needs_only_what_has_no_default() {
        let task = read(&json()).unwrap();
        assert_eq!((task.statement_timeout, task.retry), (DEFAULT_STATEMENT_TIMEOUT, Ladder::default()));
        assert!(task.store("green").is_some() && task.store("red").is_none());
        let text = serde_json::to_value(&task).unwrap();
        assert_eq!(read(&text).unwrap(), task);
    }

    #[test]
    fn what_is_no_task_of_this_version_is_refused() {
        let with = |field: &str, value: serde_json::Value| {
            let mut json = json();
            json[field] = value;
            read(&json).unwrap_err().to_string()
        };
        assert!(with("formatVersion", 2.into()).contains("format version 2, but this worker knows 1"));
        assert!(with("try", 0.into()).contains("no number from 1"));
        assert!(with("surprise", 1.into()).contains("task.json holds no task"));
    }
}
