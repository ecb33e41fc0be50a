//! What each test works on: a database of its own with customers in it, and a migration with one `backfill` phase.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use alongside::{
    api::{BackfillAction, Span},
    worker::{
        backfill::{
            controls::{Controls, Live},
            execute,
            task::{Role, Task},
        },
        ladder::Ladder,
        task::{MigrationRef, StoreRef},
        verdict::{Outcome, Verdict},
    },
};
use rustix::process::{Pid, Signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{
    postgres::{Database, Server},
    wait::within,
};

/// How long any state may take to come about. Far more than it takes, for busy machines.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// Customers whose names are one column and are to become two.
pub const CUSTOMERS: &str = "CREATE TABLE customers (
    id bigint PRIMARY KEY,
    full_name text NOT NULL,
    visits int NOT NULL DEFAULT 0,
    first_name text,
    last_name text
)";

/// Rows whose columns aren't what the old one says, in any way.
pub const WRONG: &str = "SELECT count(*) FROM customers
    WHERE first_name IS DISTINCT FROM split_part(full_name, ' ', 1)
        OR last_name IS DISTINCT FROM split_part(full_name, ' ', 2)";

/// A database, and a folder with the Secret's file.
pub struct Bench {
    pub database: Database,
    folder: PathBuf,
}

impl Bench {
    /// On the shared server, without a table.
    pub async fn new() -> Self {
        Self::on(Server::shared().database().await)
    }

    /// On the shared server, with this many customers.
    pub async fn with_customers(rows: i64) -> Self {
        let bench = Self::new().await;
        bench.add_customers(rows).await;
        bench
    }

    /// Makes the table with so many rows.
    pub async fn add_customers(&self, rows: i64) {
        self.database.run(CUSTOMERS).await;
        let sql = format!(
            "INSERT INTO customers (id, full_name)
             SELECT n, 'first' || n || ' last' || n FROM generate_series(1, {rows}) AS n; ANALYZE customers"
        );
        self.database.run(&sql).await;
    }

    /// With this database.
    pub fn on(database: Database) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("alongside-backfill-{}-{count}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("the name is free");
        let bench = Self { database, folder };
        bench.write("uri", &bench.database.uri());
        bench
    }

    /// Puts a file beside the Secret's.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        // As a ConfigMap's files change: all at once.
        let draft = self.folder.join(format!("{name}.draft"));
        std::fs::write(&draft, text).expect("the folder is ours");
        std::fs::rename(&draft, &path).expect("the folder is ours");
        path
    }

    /// Where a file of this name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The names' split, with a trigger.
    pub fn split(&self) -> Task {
        self.task(serde_json::json!({
            "store": "crm",
            "table": "customers",
            "set": {
                "first_name": "split_part(full_name, ' ', 1)",
                "last_name": "split_part(full_name, ' ', 2)",
            },
            "where": "first_name IS NULL",
            "sync": "Trigger",
        }))
    }

    /// The phase `fill`, first attempt, with this action.
    pub fn task(&self, action: serde_json::Value) -> Task {
        let action: BackfillAction = serde_json::from_value(action).expect("a good action");
        Task {
            format_version: 1,
            migration: MigrationRef { uid: "uid-1".into(), namespace: "shop".into(), name: "split-name".into() },
            phase: "fill".into(),
            attempt: 1,
            try_: 1,
            role: Role::Run,
            store: StoreRef { name: "crm".into(), uri_file: self.path("uri"), secret: None },
            action,
            retry: Ladder { first: Span::millis(50), longest: Span::millis(200), give_up_after: Span(DEADLINE) },
            lease: Span::secs(30),
            key: None,
        }
    }

    /// Starts a worker process with this task, as a Job's pod does.
    pub fn spawn(&self, name: &str, task: &Task) -> Worker {
        let file = self.write(&format!("{name}.json"), &serde_json::to_string(task).expect("a task is JSON"));
        let report = self.path(&format!("{name}.report"));
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).expect("the folder is ours");
        let mut command = Command::new(env!("CARGO_BIN_EXE_alongside"));
        command.args(["worker", "backfill", "--task"]).arg(file).arg("--termination-log").arg(&report);
        command.arg("--controls").arg(self.path("controls"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
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

    /// Expects that each customer is split.
    pub async fn all_split(&self) {
        assert_eq!(self.database.count(WRONG).await, 0, "rows whose names aren't split");
    }

    /// Triggers and functions of ours that are there.
    pub async fn ours(&self) -> i64 {
        self.database
            .count(
                "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE '~alongside%')
                     + (SELECT count(*) FROM pg_proc WHERE proname LIKE 'sync\\_%')",
            )
            .await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Does a task in this process.
pub async fn run(task: &Task) -> Verdict {
    let (_feed, live) = watch::channel(Live::default());
    execute(task, live, &CancellationToken::new()).await
}

/// A task that runs in this process, its controls and its stop in the test's hands.
pub struct Running {
    pub feed: watch::Sender<Live>,
    pub stop: CancellationToken,
    handle: tokio::task::JoinHandle<Verdict>,
}

impl Running {
    /// Starts it under these controls.
    pub fn start(task: &Task, controls: Controls) -> Self {
        let (feed, live) = watch::channel(Live::default().with(controls));
        let (task, stop) = (task.clone(), CancellationToken::new());
        let token = stop.clone();
        Self { feed, stop, handle: tokio::spawn(async move { execute(&task, live, &token).await }) }
    }

    /// Changes the controls.
    pub fn control(&self, controls: Controls) {
        let live = self.feed.borrow().with(controls);
        self.feed.send_replace(live);
    }

    /// Waits for its end.
    pub async fn end(self) -> Verdict {
        tokio::time::timeout(DEADLINE, self.handle).await.expect("it ends").expect("it doesn't panic")
    }
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

/// The same task in another role.
pub fn role(task: &Task, role: Role) -> Task {
    Task { role, ..task.clone() }
}

/// The same task, tried again.
pub fn again(task: &Task) -> Task {
    Task { try_: task.try_ + 1, ..task.clone() }
}

/// A worker process. Dropping it kills it.
pub struct Worker {
    child: Child,
    report: PathBuf,
}

impl Worker {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).expect("the worker is ours");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the worker is ours").is_some()
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
