//! What a `backfill` worker is told to do: a JSON file that the operator mounts from a ConfigMap. No secret is in it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    api::{BackfillAction, Span, backfill::Sync},
    stores::postgres::history::{Scope, Turn, Way, digest},
    worker::{
        ladder::Ladder,
        signed::PublicKey,
        task::{DEFAULT_LOCK_TIMEOUT, MigrationRef, StoreRef, Told},
    },
};

/// Version of a task's meaning. A worker refuses any other.
pub const FORMAT_VERSION: u32 = 1;
/// One run of one `backfill` phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// For which migration.
    pub migration: MigrationRef,
    /// Name of the phase.
    pub phase: String,
    /// Attempt of the migration, from 1.
    pub attempt: u32,
    /// Try within the attempt and role, from 1. A worker with a lower attempt, or a lower try in the same role, than one
    /// that has been at this phase before does nothing.
    #[serde(rename = "try")]
    pub try_: u32,
    /// What to do.
    pub role: Role,
    /// Where.
    pub store: StoreRef,
    /// What the user wrote.
    pub action: BackfillAction,
    /// How to try again when a lock isn't to be had, another worker is at it, or the store is away.
    #[serde(default)]
    pub retry: Ladder,
    /// How long a worker may be silent before another takes over from it.
    #[serde(default = "default_lease")]
    pub lease: Span,
    /// What the operator's requests are known by. Absent: nobody is listened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PublicKey>,
}

fn default_lease() -> Span {
    Task::LEASE
}

/// What a worker does for a `backfill` phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Asks every question that can be asked before the first effect, and changes nothing.
    Preflight,
    /// Makes the sync trigger and fills the columns, until no row is left in need. The trigger stays.
    Run,
    /// At the end of the migration: removes the trigger, and everything but the memory that there was a run.
    Finish,
    /// Takes it back: removes the trigger, then the values where `onRollback: Delete` says so.
    Undo,
}

impl Told for Task {
    const FORMAT_VERSION: u32 = FORMAT_VERSION;

    fn numbers(&self) -> [u32; 2] {
        [self.attempt, self.try_]
    }
}

impl Task {
    /// How long a leader or a holder of a chunk may be silent before another worker takes over. Longer than one chunk may
    /// take, with room for a server that is restarted.
    pub const LEASE: Span = Span::secs(30);

    /// Whose run it is.
    pub fn scope(&self) -> Scope {
        Scope {
            uid: self.migration.uid.clone(),
            adopt: Vec::new(),
            migration: format!("{}/{}", self.migration.namespace, self.migration.name),
            phase: self.phase.clone(),
        }
    }

    /// Whose turn it is. What ends a run is newer than what carries it on, so that a late worker can't make the trigger
    /// again.
    pub fn turn(&self) -> Turn {
        let number = |number: u32| i32::try_from(number).expect("checked when the task was read");
        let way = match self.role {
            Role::Preflight | Role::Run => Way::Up,
            Role::Finish | Role::Undo => Way::Down,
        };
        Turn { attempt: number(self.attempt), way, number: number(self.try_) }
    }

    /// What the server's activity view shows of the worker.
    pub fn application_name(&self) -> String {
        format!("alongside {}/{} {}", self.migration.namespace, self.migration.name, self.phase)
    }

    /// Checksum of all that decides which rows get which values: a run that is under way goes on under no other.
    pub fn statement(&self) -> String {
        let BackfillAction { store, table, set, filter, sync, .. } = &self.action;
        let sync = match sync {
            Sync::None => "None",
            Sync::Trigger => "Trigger",
        };
        let text = serde_json::json!([store, table, set, filter, sync]).to_string();
        digest(&text)
    }

    /// How long a change of the schema may wait for a lock.
    pub fn lock_timeout(&self) -> Duration {
        self.action.lock_timeout.unwrap_or(DEFAULT_LOCK_TIMEOUT).0
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
            "migration": {"uid": "u-1", "namespace": "crm", "name": "split-customer-name"},
            "phase": "fill",
            "attempt": 1,
            "try": 2,
            "role": "Run",
            "store": {"name": "main", "uriFile": "/etc/alongside/store/uri"},
            "action": {
                "store": "main",
                "table": "customers",
                "set": {"first_name": "split_part(full_name, ' ', 1)"},
                "where": "first_name IS NULL",
                "sync": "Trigger",
                "throttle": {"guard": "p99-latency"},
            },
        })
    }

    fn read(value: &serde_json::Value) -> Result<Task, TaskError> {
        Task::from_json(value.to_string().as_bytes(), Path::new("task.json"))
    }

    #[test]
    fn a_task_needs_only_what_has_no_default() {
        let task = read(&json()).unwrap();
        assert_eq!((task.lease, task.lock_timeout()), (Task::LEASE, DEFAULT_LOCK_TIMEOUT.0));
        assert_eq!(task.turn(), Turn { attempt: 1, way: Way::Up, number: 2 });
        let again = read(&serde_json::to_value(&task).unwrap()).unwrap();
        assert_eq!(again, task);
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

    #[test]
    fn the_pace_may_change_under_way_and_the_values_may_not() {
        let task = read(&json()).unwrap();
        let with = |field: &str, value: serde_json::Value| {
            let mut json = json();
            json["action"][field] = value;
            read(&json).unwrap().statement()
        };
        assert_eq!(with("workers", 4.into()), task.statement());
        assert_eq!(with("rate", 100.into()), task.statement());
        for (field, value) in [("where", "true".into()), ("table", "clients".into()), ("sync", "None".into())] {
            assert_ne!(with(field, value), task.statement(), "{field}");
        }
    }

    #[test]
    fn what_ends_a_run_is_newer_than_what_carries_it_on() {
        let mut task = read(&json()).unwrap();
        for role in [Role::Finish, Role::Undo] {
            task.role = role;
            assert_eq!(task.turn().way, Way::Down);
        }
    }
}
