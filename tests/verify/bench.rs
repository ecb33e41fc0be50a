//! What each test works on: two databases, at rest or joined by logical replication, and a migration with a `verify` phase.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use alongside::{
    api::{Span, VerifyAction},
    worker::{
        ladder::Ladder,
        task::{MigrationRef, StoreRef},
        verdict::{Outcome, Verdict},
        verify::{
            evidence::{Evidence, Finding, TableSeen, Verified},
            execute,
            task::{BarrierTask, VerifyRole, VerifyTask},
        },
    },
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    postgres::{Database, LOGICAL, Server, new_folder},
    wait::within,
};

/// How long any state may take to come about. Far more than it takes, for busy machines.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// Two databases and the files of a task.
pub struct Bench {
    pub blue: Database,
    pub green: Database,
    folder: PathBuf,
}

/// The server that tests with replication share.
fn logical() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start_with(LOGICAL));
        *shared = Arc::downgrade(&server);
        server
    })
}

impl Bench {
    /// Two stores at rest, with the same schema and rows.
    pub async fn at_rest(schema: &str) -> Self {
        let server = Server::shared();
        let bench = Self::on(server.database().await, server.database().await);
        bench.both(schema).await;
        bench
    }

    /// Two stores with a schema each.
    pub async fn of(blue: &str, green: &str) -> Self {
        let bench = Self::at_rest("").await;
        bench.blue.run(blue).await;
        bench.green.run(green).await;
        bench
    }

    /// Two stores, green fed from blue by logical replication. The rows come by its own copy.
    pub async fn replicated(schema: &str, rows: &str) -> Self {
        let server = logical();
        let bench = Self::on(server.database().await, server.database().await);
        let heartbeat = "CREATE TABLE public.heartbeat (side text PRIMARY KEY, beat bigint, at timestamptz);";
        bench.both(&format!("{schema};{heartbeat}")).await;
        bench.blue.run(rows).await;
        bench.blue.run("CREATE PUBLICATION forward FOR ALL TABLES").await;
        bench.subscribe("").await;
        bench.until_in_step().await;
        bench
    }

    /// Feeds green from blue. Both are on one server, so the slot is made beforehand: making it by CREATE SUBSCRIPTION would
    /// wait for itself.
    pub async fn subscribe(&self, options: &str) {
        let slot = format!("forward_{}", self.green.name());
        self.blue.run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
        let (port, blue) = (self.blue.server().port(), self.blue.name());
        let password = crate::support::postgres::PASSWORD.replace('\'', "\\'");
        let connection = format!("host=127.0.0.1 port={port} user=postgres dbname={blue} password='{password}'");
        let connection = connection.replace('\'', "''");
        self.green
            .run(&format!(
                "CREATE SUBSCRIPTION forward CONNECTION '{connection}' PUBLICATION forward
                 WITH (create_slot = false, slot_name = '{slot}'{options})"
            ))
            .await;
    }

    /// Waits until each table has been copied and follows the stream.
    pub async fn until_in_step(&self) {
        let sql = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
        within(DEADLINE, "the first copy is over", async || match self.green.count(sql).await {
            0 => Ok(()),
            left => Err(format!("{left} tables left")),
        })
        .await;
    }

    fn on(blue: Database, green: Database) -> Self {
        let bench = Self { blue, green, folder: new_folder("verify") };
        std::fs::write(bench.folder.join("blue"), bench.blue.uri()).expect("the folder is ours");
        std::fs::write(bench.folder.join("green"), bench.green.uri()).expect("the folder is ours");
        bench
    }

    /// Runs SQL text on both sides.
    pub async fn both(&self, sql: &str) {
        self.blue.run(sql).await;
        self.green.run(sql).await;
    }

    /// Where a file of this name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Puts another URI into a store's file.
    pub fn write_uri(&self, store: &str, uri: &str) {
        std::fs::write(self.path(store), uri).expect("the folder is ours");
    }

    /// A task with this action, between stores at rest.
    pub fn task(&self, action: serde_json::Value) -> VerifyTask {
        let store = |name: &str| StoreRef { name: name.into(), uri_file: self.path(name), secret: None };
        VerifyTask {
            format_version: 1,
            migration: MigrationRef { uid: "uid-1".into(), namespace: "shop".into(), name: "orders-to-pg17".into() },
            phase: "prove".into(),
            attempt: 1,
            try_: 1,
            role: VerifyRole::Verify,
            stores: vec![store("blue"), store("green")],
            action: serde_json::from_value::<VerifyAction>(action).expect("a good action"),
            barrier: BarrierTask::None,
            evidence_file: Some(self.path("evidence.json")),
            statement_timeout: Span::secs(20),
            seed: None,
            retry: Ladder { first: Span::millis(50), longest: Span::millis(200), give_up_after: Span(DEADLINE) },
            key: None,
        }
    }

    /// All of `public` on both sides, whole, between stores at rest.
    pub fn all(&self) -> VerifyTask {
        self.task(serde_json::json!({"from": "blue", "to": "green", "tables": ["public.*"]}))
    }

    /// The same under barriers, without the heartbeat's own table.
    pub fn joined(&self, tables: &[&str]) -> VerifyTask {
        let barrier = BarrierTask::Replication { schema: "public".into(), table: "heartbeat".into() };
        VerifyTask { barrier, ..self.task(serde_json::json!({"from": "blue", "to": "green", "tables": tables})) }
    }

    /// Does a task in this process.
    pub async fn run(&self, task: &VerifyTask) -> Seen {
        let _ = std::fs::remove_file(self.path("evidence.json"));
        let verdict = execute(task, &CancellationToken::new()).await;
        let text = std::fs::read_to_string(self.path("evidence.json")).expect("evidence is written however it ends");
        let evidence = serde_json::from_str(&text).expect("evidence is JSON");
        Seen { verdict, evidence }
    }

    /// Does a task and expects this finding.
    pub async fn finds(&self, task: &VerifyTask, finding: Finding) -> Seen {
        let seen = self.run(task).await;
        assert_eq!(seen.evidence.finding, finding, "{:#?}", seen.verdict);
        let passes = matches!(finding, Finding::Equal | Finding::Repaired);
        assert_eq!(seen.verdict.outcome == Outcome::Succeeded, passes, "{:#?}", seen.verdict);
        seen
    }

    /// Does a task and expects a refusal that says this.
    pub async fn refuses(&self, task: &VerifyTask, sentence: &str) {
        let seen = self.run(task).await;
        assert_eq!(seen.verdict.outcome, Outcome::Refused, "{:#?}", seen.verdict);
        let message = &seen.verdict.message;
        assert!(message.contains(sentence), "{message:?} doesn't say {sentence:?}");
    }

    /// Starts a worker process with this task, as a Job's pod does.
    pub fn spawn(&self, task: &VerifyTask) -> Worker {
        let (file, report) = (self.path("task.json"), self.path("report"));
        std::fs::write(&file, serde_json::to_string(task).expect("a task is JSON")).expect("the folder is ours");
        let mut command = Command::new(env!("CARGO_BIN_EXE_alongside"));
        command.args(["worker", "verify", "--task"]).arg(file).arg("--termination-log").arg(&report);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Worker { child: command.spawn().expect("the binary is built"), report }
    }

    /// Begins to write, until the load is stopped: inserts, updates, deletes and key moves in transactions of several
    /// statements, on the table `orders (id bigint, total numeric, note text)`.
    pub fn load(&self, writers: u32) -> Load {
        let load = Load { stop: Arc::new(AtomicBool::new(false)), done: Arc::default(), longest: Arc::default() };
        for writer in 0..writers {
            let (stop, done, longest) = (load.stop.clone(), load.done.clone(), load.longest.clone());
            let config = self.blue.uri();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(write(&config, writer, &stop, &done, &longest));
            });
        }
        load
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
        // A subscription that lives on keeps its worker busy, and the server's other tests with it.
        let (green, slot) = (self.green.uri(), format!("forward_{}", self.green.name()));
        let clean = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let Ok((client, connection)) = tokio_postgres::connect(&green, tokio_postgres::NoTls).await else { return };
                tokio::spawn(connection);
                for sql in [
                    "ALTER SUBSCRIPTION forward DISABLE".to_owned(),
                    "ALTER SUBSCRIPTION forward SET (slot_name = NONE)".to_owned(),
                    "DROP SUBSCRIPTION forward".to_owned(),
                    format!(
                        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = '{slot}'"
                    ),
                    format!("SELECT pg_drop_replication_slot('{slot}')"),
                ] {
                    let _ = client.batch_execute(&sql).await;
                }
            });
        });
        let _ = clean.join();
    }
}

/// What a run has come to.
pub struct Seen {
    pub verdict: Verdict,
    pub evidence: Evidence,
}

impl Seen {
    /// The short evidence.
    pub fn short(&self) -> &Verified {
        self.verdict.verified.as_ref().expect("it has begun")
    }

    /// What was seen of the only table.
    pub fn table(&self) -> &TableSeen {
        assert_eq!(self.evidence.tables.len(), 1, "{:#?}", self.evidence);
        &self.evidence.tables[0]
    }

    /// What was seen of a table.
    pub fn of(&self, name: &str) -> &TableSeen {
        self.evidence.tables.iter().find(|table| table.name == name).unwrap_or_else(|| panic!("no {name} was compared"))
    }

    /// The rows that differ, as "kind key columns".
    pub fn rows(&self) -> Vec<String> {
        let rows = self.evidence.tables.iter().flat_map(|table| &table.rows);
        rows.map(|row| format!("{:?} {} {}", row.kind, row.key.join("/"), row.columns.join(",")).trim_end().to_owned())
            .collect()
    }
}

/// A worker process. Dropping it kills it.
pub struct Worker {
    child: Child,
    report: PathBuf,
}

impl Worker {
    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .expect("the worker is ours");
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
        let text = std::fs::read_to_string(&self.report).expect("a report");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?} is no verdict: {error}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writers at work. Dropping it stops them.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    longest: Arc<AtomicU64>,
}

impl Load {
    /// Transactions so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The longest transaction so far.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.load(Ordering::Relaxed))
    }

    /// Waits until there have been this many more transactions.
    pub async fn runs_on(&self, transactions: u64) {
        let wanted = self.done() + transactions;
        within(DEADLINE, "the load runs", async || if self.done() >= wanted { Ok(()) } else { Err(self.done()) }).await;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn write(uri: &str, writer: u32, stop: &AtomicBool, done: &AtomicU64, longest: &AtomicU64) {
    let (mut client, connection) = tokio_postgres::connect(uri, tokio_postgres::NoTls).await.expect("the server is up");
    tokio::spawn(connection);
    let mut number = u64::from(writer) << 32 | 1;
    while !stop.load(Ordering::Relaxed) {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = i64::try_from(number >> 33).expect("31 bits") % 40_000;
        let new = 1_000_000 + key + i64::from(writer) * 1_000_000;
        let began = Instant::now();
        let transaction = client.transaction().await.expect("the server is up");
        for sql in [
            format!("UPDATE orders SET total = total + 1, note = note || '+' WHERE id = {key}"),
            format!("DELETE FROM orders WHERE id = {}", key + 1),
            format!("INSERT INTO orders VALUES ({}, 1, 'new') ON CONFLICT (id) DO UPDATE SET total = 2", key + 1),
            format!("INSERT INTO orders VALUES ({new}, 0.5, repeat('x', 100)) ON CONFLICT DO NOTHING"),
            format!("UPDATE orders SET id = -id WHERE id = {new}"),
            format!("DELETE FROM orders WHERE id = {}", -new),
        ] {
            // Two writers may meet on a row in another order: then this transaction isn't.
            if transaction.batch_execute(&sql).await.is_err() {
                break;
            }
        }
        let _ = transaction.commit().await;
        let took = u64::try_from(began.elapsed().as_micros()).expect("not that long");
        longest.fetch_max(took, Ordering::Relaxed);
        done.fetch_add(1, Ordering::Relaxed);
    }
}
