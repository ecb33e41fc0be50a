//! The stage: one cluster for all stories, with the chart installed, a Prometheus and the ledger.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use alongside::api::Migration;
use kube::{Api, Client, api::ListParams};

use crate::{
    home::Home,
    ledger::Ledger,
    prometheus::Prometheus,
    support::{
        cluster::{Cluster, root},
        wait::within,
    },
};

/// Where the chart is installed.
pub const RELEASE: &str = "alongside-system";
/// The operator's own image, for the Jobs that run scripts.
pub const IMAGE: &str = "localhost/alongside:e2e";
/// The operator's ServiceAccount, and the release's name.
pub const OPERATOR: &str = "alongside";

const SIGNING_KEY: &str = "signing-key.pem";

/// What all stories share. A clone is another handle.
#[derive(Clone)]
pub struct Stage(Arc<Set>);

struct Set {
    // In this order they end.
    prometheus: Prometheus,
    ledger: Ledger,
    credentials: PathBuf,
    folder: PathBuf,
    turns: RwLock<()>,
    images: tokio::sync::OnceCell<()>,
    numbers: AtomicU16,
    cluster: Cluster,
}

impl Stage {
    /// Brings everything up.
    pub fn set() -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let cluster = Cluster::full("e2e");
        let toolbox = std::process::Command::new(root().join("tests/cluster/images")).arg("toolbox").output();
        let toolbox =
            String::from_utf8(toolbox.expect("tests/cluster/images can be run").stdout).expect("a path is text");
        cluster.load(&[toolbox.trim()]);
        install(&cluster);
        let credentials = credentials(&cluster, &folder);
        write_signing_key(&folder.join(SIGNING_KEY));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090));
        let (ledger, prometheus) = cluster.run(async || {
            let ledger = Ledger::begin().await;
            let prometheus = Prometheus::starts(&cluster, folder.join("prometheus"), address, &ledger.target()).await;
            (ledger, prometheus)
        });
        let (turns, images, numbers) = (RwLock::new(()), tokio::sync::OnceCell::new(), AtomicU16::new(0));
        Self(Arc::new(Set { prometheus, ledger, credentials, folder, turns, images, numbers, cluster }))
    }

    /// Waits until a story may be told beside others.
    pub fn turn(&self) -> Turn<'_> {
        Turn::Beside { _others: self.0.turns.read().expect("no story panics while it waits") }
    }

    /// Waits until a story may be told alone.
    pub fn turn_alone(&self) -> Turn<'_> {
        Turn::Alone { _all: self.0.turns.write().expect("no story panics while it waits") }
    }

    /// Runs a story in the cluster's network.
    pub fn run<T: Send>(&self, story: impl AsyncFnOnce() -> T + Send) -> T {
        self.0.cluster.run(story)
    }

    /// A home for a story.
    pub fn home(&self, sentence: &str) -> Home {
        Home::new(self.clone(), sentence)
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    /// A client with every right.
    pub fn client(&self) -> Client {
        self.0.cluster.client()
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// The Prometheus that all share.
    pub fn prometheus(&self) -> &Prometheus {
        &self.0.prometheus
    }

    /// The operator's kubeconfig: its ServiceAccount's token.
    pub fn credentials(&self) -> &PathBuf {
        &self.0.credentials
    }

    /// The key that all operators sign their requests to workers with, as replicas of one release share it.
    pub fn signing_key(&self) -> PathBuf {
        self.0.folder.join(SIGNING_KEY)
    }

    /// A folder for the files of this run.
    pub fn folder(&self) -> &PathBuf {
        &self.0.folder
    }

    /// Stops the API server, and returns once it is ready again.
    pub fn restarts_the_api_server(&self) {
        let script = root().join("tests/cluster/restart-apiserver");
        let said = std::process::Command::new(script).arg(self.cluster().name()).output();
        let said = said.expect("tests/cluster/restart-apiserver can be run");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    /// Loads the images that only some stories need, once.
    pub async fn images(&self, load: impl FnOnce()) {
        self.0.images.get_or_init(async || load()).await;
    }

    /// A number that nobody else gets.
    pub fn number(&self) -> u16 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// An address that nobody else listens on: all of 127.0.0.0/8 is the cluster's own.
    pub fn address(&self) -> SocketAddr {
        let [high, low] = self.number().to_be_bytes();
        SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 8080))
    }
}

/// Leave to be told, for as long as it lives.
pub enum Turn<'a> {
    /// Others may be told too.
    Beside { _others: std::sync::RwLockReadGuard<'a, ()> },
    /// No other is.
    Alone { _all: std::sync::RwLockWriteGuard<'a, ()> },
}

/// The chart as users install it, but for the operators: the stories bring their own.
fn install(cluster: &Cluster) {
    let namespace = format!("--namespace={RELEASE}");
    let args = ["install", OPERATOR, "charts/alongside", &namespace, "--create-namespace", "--set=replicas=0"];
    let installed = cluster.say("helm", &args, "");
    assert!(installed.success, "{}", installed.stderr);
    cluster.run(async || {
        let migrations: Api<Migration> = Api::all(cluster.client());
        within(Duration::from_secs(30), "the API server serves Migrations", async || {
            migrations.list(&ListParams::default()).await
        })
        .await;
    });
}

/// Writes a kubeconfig of the operator's ServiceAccount, who has the chart's rights and no others.
fn credentials(cluster: &Cluster, folder: &std::path::Path) -> PathBuf {
    let token = cluster.kubectl(&["create", "token", OPERATOR, "--namespace", RELEASE, "--duration=3h"]);
    let text = cluster.kubectl(&["config", "view", "--raw", "--output=json"]);
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    config["users"][0]["user"] = serde_json::json!({ "token": token.trim() });
    let path = folder.join("kubeconfig");
    std::fs::write(&path, config.to_string()).expect("a file can be written");
    path
}

/// An Ed25519 key in PEM, as the chart makes one.
fn write_signing_key(file: &std::path::Path) {
    let der = alongside::worker::signed::Signer::generate().expect("there is randomness");
    let mut base64 = std::process::Command::new("base64");
    base64.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut running = base64.spawn().expect("base64 can be run");
    std::io::Write::write_all(&mut running.stdin.take().expect("it is piped"), &der).expect("base64 reads");
    let text = running.wait_with_output().expect("base64 ends").stdout;
    let text = String::from_utf8(text).expect("base64 is text");
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}-----END PRIVATE KEY-----\n");
    std::fs::write(file, pem).expect("a file can be made");
}
