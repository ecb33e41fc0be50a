//! What a worker is told to do: a JSON file that the operator mounts from a ConfigMap. No secret is in it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::ladder::Ladder;
pub use super::verdict::Verdict;
use crate::{
    api::{SecretKey, Span},
    engine::scripts::{self, VersionedScript},
    stores::postgres::history::{Scope, Turn, Way},
};

/// Version of a task's meaning. A worker refuses any other.
pub const FORMAT_VERSION: u32 = 1;
/// Where the operator mounts the task.
pub const DEFAULT_PATH: &str = "/etc/alongside/task.json";
/// How long a statement may wait for a lock, unless the spec says otherwise. Everybody who wants the table meanwhile
/// waits behind it.
pub const DEFAULT_LOCK_TIMEOUT: Span = Span::secs(2);

/// One run of one `sql` phase's scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// that has been at this phase before does nothing; nor does one that goes forward after one that went back.
    #[serde(rename = "try")]
    pub try_: u32,
    /// What to do.
    pub role: Role,
    /// Where.
    pub store: StoreRef,
    /// The phase's scripts, in order.
    pub scripts: Vec<VersionedScript>,
    /// How long a statement may wait for a lock before it lets go and tries again later.
    #[serde(default = "default_lock_timeout")]
    pub lock_timeout: Span,
    /// How long one statement may run. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_timeout: Option<Span>,
    /// What lint lets pass.
    #[serde(default)]
    pub lint: LintTask,
    /// UIDs of earlier migrations whose history counts as this one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adopt: Vec<String>,
    /// How to try again when a lock isn't to be had, another worker is at it, or the store is away.
    #[serde(default)]
    pub retry: Ladder,
}

fn default_lock_timeout() -> Span {
    DEFAULT_LOCK_TIMEOUT
}

/// A migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MigrationRef {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a worker does with a phase's scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Asks every question that can be asked before the first effect, and changes nothing.
    Preflight,
    /// Takes the schema forward: the up scripts that are not in effect, in order.
    Up,
    /// Takes it back: the down scripts of those in effect, in reverse.
    Down,
}

/// A store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreRef {
    /// Its name in the spec.
    pub name: String,
    /// File with the connection URI, out of the Secret that is mounted.
    pub uri_file: PathBuf,
    /// Where the file comes from, for whoever has to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKey>,
}

/// What lint lets pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LintTask {
    /// Names of rules that the author accepts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// The phase is at or past the migration's point of no return.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub past_no_return: bool,
}

/// Why a task can't be done as it stands.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The file can't be read.
    #[error("could not read the task from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It isn't a task.
    #[error("{path} holds no task")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("the task has format version {found}, but this worker knows {known}: image and operator differ")]
    Version {
        /// Its version.
        found: u32,
        /// The worker's.
        known: u32,
    },
    /// A script isn't the one that was planned.
    #[error("script {name} doesn't match its checksum: the task was changed after it was planned")]
    Checksum {
        /// The script's name.
        name: String,
    },
    /// A number out of range.
    #[error("the task's attempt or try is no number from 1 to {}", i32::MAX)]
    Number,
}

/// A task of any kind of worker, as far as reading it goes.
pub trait Told: DeserializeOwned {
    /// Version of its meaning. A worker refuses any other.
    const FORMAT_VERSION: u32;

    /// Attempt and try, each from 1.
    fn numbers(&self) -> [u32; 2];

    /// Checks what only this kind has.
    ///
    /// # Errors
    /// It isn't what was planned.
    fn check(&self) -> Result<(), TaskError> {
        Ok(())
    }

    /// Reads a task and checks that it is whole.
    fn read(path: &Path) -> impl Future<Output = Result<Self, TaskError>> + Send {
        async move {
            let read = |source| TaskError::Read { path: path.to_owned(), source };
            let text = tokio::fs::read(path).await.map_err(read)?;
            Self::from_json(&text, path)
        }
    }

    /// The same of a text that was read from `path`.
    ///
    /// # Errors
    /// As of [`Told::read`].
    fn from_json(text: &[u8], path: &Path) -> Result<Self, TaskError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Envelope {
            format_version: u32,
        }
        let parse = |source| TaskError::Parse { path: path.to_owned(), source };
        // The version first: a task of another version needn't have these fields.
        let Envelope { format_version } = serde_json::from_slice(text).map_err(parse)?;
        if format_version != Self::FORMAT_VERSION {
            return Err(TaskError::Version { found: format_version, known: Self::FORMAT_VERSION });
        }
        let task: Self = serde_json::from_slice(text).map_err(parse)?;
        task.check()?;
        if task.numbers().iter().any(|number| *number == 0 || i32::try_from(*number).is_err()) {
            return Err(TaskError::Number);
        }
        Ok(task)
    }
}

impl StoreRef {
    /// Why there is no URI to reach it by, if its Secret isn't there. The Secret is mounted as it is, also where it isn't;
    /// whatever else may be wrong with it shows when it is read.
    pub async fn lacks_its_secret(&self) -> Option<String> {
        let SecretKey { name, key } = self.secret.as_ref()?;
        let absent = matches!(tokio::fs::try_exists(&self.uri_file).await, Ok(false));
        absent.then(|| {
            format!(
                "There is no Secret {name} with the key {key} in this namespace, and store {} is reached by the URI in it.",
                self.name
            )
        })
    }
}

impl Told for Task {
    const FORMAT_VERSION: u32 = FORMAT_VERSION;

    fn numbers(&self) -> [u32; 2] {
        [self.attempt, self.try_]
    }

    fn check(&self) -> Result<(), TaskError> {
        match self.scripts.iter().find(|script| scripts::checksum(&script.up) != script.checksum) {
            Some(script) => Err(TaskError::Checksum { name: script.name.clone() }),
            None => Ok(()),
        }
    }
}

impl Task {
    /// Whose history the scripts belong to.
    pub fn scope(&self) -> Scope {
        Scope {
            uid: self.migration.uid.clone(),
            adopt: self.adopt.clone(),
            migration: format!("{}/{}", self.migration.namespace, self.migration.name),
            phase: self.phase.clone(),
        }
    }

    /// Whose turn it is, on the way given.
    pub fn turn(&self, way: Way) -> Turn {
        let number = |number: u32| i32::try_from(number).expect("checked when the task was read");
        Turn { attempt: number(self.attempt), way, number: number(self.try_) }
    }

    /// What the server's activity view shows of the worker.
    pub fn application_name(&self) -> String {
        format!("alongside {}/{} {}", self.migration.namespace, self.migration.name, self.phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> serde_json::Value {
        serde_json::json!({
            "formatVersion": 1,
            "migration": {"uid": "u-1", "namespace": "shop", "name": "inventory-v2"},
            "phase": "expand",
            "attempt": 1,
            "try": 2,
            "role": "Up",
            "store": {"name": "inventory", "uriFile": "/etc/alongside/store/uri"},
            "scripts": scripts::inline("expand", "SELECT 1", None).unwrap(),
        })
    }

    fn read(value: &serde_json::Value) -> Result<Task, TaskError> {
        Task::from_json(value.to_string().as_bytes(), Path::new("task.json"))
    }

    #[test]
    fn a_task_needs_only_what_has_no_default() {
        let task = read(&json()).unwrap();
        assert_eq!(task.lock_timeout, DEFAULT_LOCK_TIMEOUT);
        assert_eq!(task.retry, Ladder::default());
        assert_eq!((task.statement_timeout, task.lint.clone(), task.adopt.len()), (None, LintTask::default(), 0));
        assert_eq!(task.scope().migration, "shop/inventory-v2");
        assert_eq!(task.turn(Way::Down), Turn { attempt: 1, way: Way::Down, number: 2 });
    }

    #[test]
    fn a_task_survives_the_wire() {
        let mut task = read(&json()).unwrap();
        task.statement_timeout = Some(Span::secs(9));
        task.lint = LintTask { allow: vec!["cluster".into()], past_no_return: true };
        task.adopt = vec!["u-0".into()];
        task.store.secret = Some(SecretKey { name: "inventory-db".into(), key: "uri".into() });
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
        assert!(with("attempt", 0.into()).contains("no number from 1"));
        assert!(with("surprise", 1.into()).contains("task.json holds no task"));
        let mut changed = json();
        changed["scripts"][0]["up"] = "DROP TABLE a".into();
        assert!(read(&changed).unwrap_err().to_string().contains("script expand doesn't match its checksum"));
    }
}
