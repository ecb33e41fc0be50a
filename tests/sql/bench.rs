//! What each test works on: a database of its own, and a migration with one `sql` phase.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use alongside::{
    api::Span,
    engine::scripts::{self, VersionedScript},
    worker::{
        ladder::Ladder,
        sql::execute,
        task::{LintTask, MigrationRef, Role, StoreRef, Task},
        verdict::{Outcome, Verdict},
    },
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    postgres::{Database, Server},
    wait::within,
};

/// How long any state may take to come about. Far more than it takes, for busy machines.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// A database, and a folder with the Secret's file.
pub struct Bench {
    pub database: Database,
    folder: PathBuf,
}

impl Bench {
    /// On the shared server.
    pub async fn new() -> Self {
        Self::on(Server::shared().database().await)
    }

    /// With this database.
    pub fn on(database: Database) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("alongside-sql-{}-{count}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("the name is free");
        let bench = Self { database, folder };
        bench.write_uri(&bench.database.uri());
        bench
    }

    /// Puts a URI into the Secret's file.
    pub fn write_uri(&self, uri: &str) {
        self.write("uri", uri);
    }

    /// Puts a file beside the Secret's.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// Where a file of this name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The smallest task: the phase `expand`, first attempt, forward.
    pub fn task(&self, scripts: Vec<VersionedScript>) -> Task {
        Task {
            format_version: 1,
            migration: MigrationRef { uid: "uid-1".into(), namespace: "shop".into(), name: "inventory-v2".into() },
            phase: "expand".into(),
            attempt: 1,
            try_: 1,
            role: Role::Up,
            store: StoreRef { name: "inventory".into(), uri_file: self.path("uri"), secret: None },
            scripts,
            lock_timeout: Span::millis(300),
            statement_timeout: None,
            lint: LintTask::default(),
            adopt: Vec::new(),
            retry: Ladder { first: Span::millis(50), longest: Span::millis(200), give_up_after: Span(DEADLINE) },
        }
    }

    /// A task with one inline script.
    pub fn inline(&self, up: &str, down: Option<&str>) -> Task {
        self.task(scripts::inline("expand", up, down).expect("a good script"))
    }

    /// A task with a ConfigMap's scripts.
    pub fn config_map(&self, entries: &[(&str, &str)]) -> Task {
        let data = entries.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        self.task(scripts::from_config_map(&data).expect("good scripts"))
    }

    /// Starts a worker process with this task, as a Job's pod does.
    pub fn spawn(&self, name: &str, task: &Task) -> Worker {
        self.write(&format!("{name}.json"), &serde_json::to_string(task).expect("a task is JSON"));
        self.spawn_on_file(name)
    }

    /// Starts a worker process on whatever the task's file holds.
    pub fn spawn_on_file(&self, name: &str) -> Worker {
        let file = self.path(&format!("{name}.json"));
        let report = self.path(&format!("{name}.report"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_alongside"));
        command.args(["worker", "sql", "--task"]).arg(file).arg("--termination-log").arg(&report);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Worker { child: command.spawn().expect("the binary is built"), report }
    }

    /// Waits until a query answers with a true value.
    pub async fn until(&self, sentence: &str, sql: &str) {
        let client = self.database.connect().await;
        within(DEADLINE, sentence, async || match client.query_one(sql, &[]).await {
            Ok(row) if row.get::<_, bool>(0) => Ok(()),
            Ok(_) => Err("false".to_owned()),
            Err(error) => Err(format!("{error:?}")),
        })
        .await;
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Does a task in this process.
pub async fn run(task: &Task) -> Verdict {
    execute(task, &CancellationToken::new()).await
}

/// Does a task and expects it to succeed.
pub async fn succeed(task: &Task) -> Verdict {
    let verdict = run(task).await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:#?}");
    verdict
}

/// Does a task and expects this outcome, with this in its message.
pub async fn ends(task: &Task, outcome: Outcome, message: &str) -> Verdict {
    let verdict = run(task).await;
    assert_eq!(verdict.outcome, outcome, "{verdict:#?}");
    assert!(verdict.message.contains(message), "{:?} doesn't say {message:?}", verdict.message);
    verdict
}

/// The same task, on the way back.
pub fn back(task: &Task) -> Task {
    Task { role: Role::Down, ..task.clone() }
}

/// The same task in a later attempt.
pub fn attempt(task: &Task, attempt: u32) -> Task {
    Task { attempt, ..task.clone() }
}

/// Versions as a verdict lists them.
#[expect(clippy::unnecessary_wraps, reason = "what it is compared with is absent where the history wasn't read")]
pub fn versions(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|version| (*version).to_owned()).collect())
}

/// A worker process. Dropping it kills it.
pub struct Worker {
    child: Child,
    report: PathBuf,
}

impl Worker {
    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the worker is ours");
    }

    /// Waits for its end; its exit code, if it wasn't killed.
    pub async fn end(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let status = within(DEADLINE, "the worker ends", async || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        status.await.code()
    }

    /// What it reported.
    pub fn verdict(&self) -> Verdict {
        let text = read(&self.report);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?} is no verdict: {error}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
