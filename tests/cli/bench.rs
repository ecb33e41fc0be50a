//! The API server of this run, the plugin, and Migrations in any state.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant},
};

use alongside::api::{Migration, crd::crd};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::{
    cluster::{Cluster, root},
    wait::within,
};

/// The plugin.
pub const PLUGIN: &str = env!("CARGO_BIN_EXE_kubectl-alongside");
/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The hash of every plan here.
pub const HASH: &str = "c0ffee1234";

/// One API server for all tests of this binary, with the CRD that the file which is shipped is generated from.
pub static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
    let cluster = Cluster::api_only("cli");
    cluster.apply(&serde_json::to_string(&crd()).expect("a CRD is plain data"));
    cluster.run(async || {
        let migrations: Api<Migration> = Api::all(cluster.client());
        within(PATIENCE, "the API server serves Migrations", async || migrations.list(&ListParams::default()).await)
            .await;
    });
    cluster
});

/// What the plugin said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs the plugin in the cluster to its end.
pub fn plugin(args: &[&str]) -> Said {
    said(CLUSTER.command(PLUGIN).args(args))
}

/// Runs the plugin without any cluster to its end.
pub fn offline(args: &[&str]) -> Said {
    said(Command::new(PLUGIN).args(args).env("KUBECONFIG", "/nowhere").current_dir(root()))
}

/// Runs a command to its end, with nothing to read.
pub fn said(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().expect("the plugin can be run");
    Said {
        code: output.status.code().expect("the plugin ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("the plugin writes UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("the plugin writes UTF-8"),
    }
}

/// A plugin that goes on printing; it ends when this is dropped.
pub struct Going {
    child: Child,
    lines: Receiver<String>,
}

impl Going {
    /// Starts it.
    pub fn starts(args: &[&str]) -> Self {
        Self::of(CLUSTER.command(PLUGIN).args(args))
    }

    /// The same of any command.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the plugin can be started");
        let stdout = child.stdout.take().expect("its output is a pipe");
        let (told, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line that holds `words`, and returns it.
    pub fn says(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => heard.push(line),
                Err(why) => panic!("the plugin did not say {words:?} ({why}) but:\n{}", heard.join("\n")),
            }
        }
    }

    /// Waits until it ends, and returns its exit code.
    pub fn ends(mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => return status.code(),
                None if Instant::now() > deadline => panic!("the plugin goes on and on"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A namespace of its own for a test.
pub fn namespace(purpose: &str) -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let name = format!("{purpose}-{}", MADE.fetch_add(1, Ordering::Relaxed));
    CLUSTER.kubectl(&["create", "namespace", &name]);
    name
}

/// The spec of most Migrations here: a schema change, a backfill, a switch, a bake, and a point of no return.
pub fn spec() -> Value {
    json!({
        "stores": [{"name": "crm", "postgres": {"secretRef": {"name": "crm-db", "key": "uri"}}}],
        "guards": [
            {"name": "error-rate", "max": 0.01, "ratio": {"errors": "sum(rate(e_total[1m]))", "total": "sum(rate(t_total[1m]))"}},
            {"name": "p99", "maxIncrease": "5%", "minDelta": 0.01, "query": "max(latency)"},
        ],
        "phases": [
            {"name": "expand", "sql": {"store": "crm", "up": {"inline": "ALTER TABLE a ADD b text;"}, "down": {"inline": "ALTER TABLE a DROP b;"}, "onRollback": "Down"}},
            {"name": "fill", "backfill": {"store": "crm", "table": "a", "set": {"b": "c"}, "where": "b IS NULL", "sync": "Trigger"}},
            {"name": "cut-over", "switch": {"service": "front", "from": {"version": "v1"}, "to": {"version": "v2"}}},
            {"name": "bake", "bake": {"for": "1h"}},
            {"name": "contract", "pointOfNoReturn": true, "sql": {"store": "crm", "up": {"inline": "ALTER TABLE a DROP c;"}}},
        ],
    })
}

/// A status of [`spec`] in which `done` phases are done and the next one is in `state`.
#[expect(clippy::needless_pass_by_value, reason = "tests write the value where they call")]
pub fn status(done: usize, state: &str, changes: Value) -> Value {
    let names =
        [("expand", "sql"), ("fill", "backfill"), ("cut-over", "switch"), ("bake", "bake"), ("contract", "sql")];
    let phases: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(at, (name, kind))| {
            let state = match at.cmp(&done) {
                std::cmp::Ordering::Less => "Done",
                std::cmp::Ordering::Equal => state,
                std::cmp::Ordering::Greater => "Pending",
            };
            json!({"name": name, "kind": kind, "state": state})
        })
        .collect();
    let phase = names.get(done).map_or("contract", |(name, _)| name);
    let mut status = json!({
        "formatVersion": 1, "observedGeneration": 1, "state": "Running", "phase": phase, "attempt": 1,
        "progress": format!("{done}/5"), "message": "going on", "phases": phases, "begun": done,
        "plan": {"hash": HASH, "revision": "rev", "adoptedAt": "2026-01-01T00:00:00Z"},
        "binding": format!("{phase}@{HASH}/1"),
    });
    let more = changes.as_object().expect("changes are fields").clone();
    status.as_object_mut().expect("a status is fields").extend(more);
    status
}

/// A Migration of the tests' own.
pub struct Made {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Made {
    /// Creates one with this spec, and writes its status.
    pub fn with(namespace: &str, name: &str, spec: &Value, status: Option<Value>) -> Self {
        let made = Self { namespace: namespace.to_owned(), name: name.to_owned() };
        let object = json!({
            "apiVersion": "alongside.dev/v1alpha1", "kind": "Migration",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        let object: Migration = serde_json::from_value(object).expect("it is a Migration");
        CLUSTER.run(async || {
            made.api().create(&PostParams::default(), &object).await.expect("it is accepted");
        });
        if let Some(status) = status {
            made.becomes(status);
        }
        made
    }

    /// Creates one of [`spec`] in this state.
    pub fn at(namespace: &str, name: &str, status: Value) -> Self {
        Self::with(namespace, name, &spec(), Some(status))
    }

    /// Writes its whole status, as the operator does.
    pub fn becomes(&self, status: Value) {
        CLUSTER.run(async || {
            let mut live = self.api().get(&self.name).await.expect("it is there");
            live.status = Some(serde_json::from_value(status).expect("it is a status"));
            let text = serde_json::to_vec(&live).expect("it is plain data");
            let live = serde_json::from_slice(&text).expect("it is a Migration");
            self.api().replace_status(&self.name, &PostParams::default(), &live).await.expect("it is accepted");
        });
    }

    /// Merges annotations.
    #[expect(clippy::needless_pass_by_value, reason = "tests write the value where they call")]
    pub fn annotate(&self, annotations: Value) {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        CLUSTER.run(async || {
            self.api().patch(&self.name, &PatchParams::default(), &patch).await.expect("it is accepted");
        });
    }

    /// As it is now.
    pub fn live(&self) -> Migration {
        CLUSTER.run(async || self.api().get(&self.name).await.expect("it is there"))
    }

    /// One of its annotations.
    pub fn annotation(&self, name: &str) -> Option<String> {
        self.live().metadata.annotations?.get(name).cloned()
    }

    fn api(&self) -> Api<Migration> {
        Api::namespaced(CLUSTER.client(), &self.namespace)
    }

    /// Runs the plugin on it: the verb, its name, its namespace, and more.
    pub fn plugin(&self, verb: &str, more: &[&str]) -> Said {
        let args: Vec<_> = [verb, &self.name, "-n", &self.namespace].into_iter().chain(more.iter().copied()).collect();
        plugin(&args)
    }
}

/// Waits until something is so.
pub fn eventually(sentence: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "not true within {PATIENCE:?}: {sentence}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A folder of its own for a test; what was in it from another run is gone.
pub fn folder(purpose: &str) -> PathBuf {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{purpose}-{number}"));
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}
