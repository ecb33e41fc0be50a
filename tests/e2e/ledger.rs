//! The ledger: what the stories' Jobs report to have done, the gates they wait at, and the figures that Prometheus
//! scrapes. A server of the test process, which pods reach at the node's address.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};

use crate::support::wait::within;

/// The node, as pods see it.
const NODE: &str = "10.199.0.1";

/// A handle to the ledger.
#[derive(Clone)]
pub struct Ledger {
    entries: Arc<Mutex<Entries>>,
    port: u16,
}

#[derive(Default)]
struct Entries {
    done: HashMap<String, u32>,
    open: HashSet<String>,
    /// Text for Prometheus, by home and metric.
    figures: BTreeMap<(String, String), String>,
    scrapes: u64,
}

impl Ledger {
    /// Begins a ledger. To be called in the cluster's network.
    pub async fn begin() -> Self {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.expect("a port is free");
        let port = listener.local_addr().expect("the listener has an address").port();
        let ledger = Self { entries: Arc::default(), port };
        let router = Router::new()
            .route("/done/{home}/{what}", get(done).post(done))
            .route("/gate/{home}/{what}", get(gate))
            .route("/metrics", get(metrics))
            .with_state(ledger.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        ledger
    }

    /// Where a pod reports that it did something.
    pub fn done_url(&self, home: &str, what: &str) -> String {
        format!("http://{NODE}:{}/done/{home}/{what}", self.port)
    }

    /// Where a pod asks whether a gate is open: 200 or 404.
    pub fn gate_url(&self, home: &str, what: &str) -> String {
        format!("http://{NODE}:{}/gate/{home}/{what}", self.port)
    }

    /// What Prometheus scrapes.
    pub fn target(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How often something has been done.
    pub fn times(&self, home: &str, what: &str) -> u32 {
        self.entries().done.get(&format!("{home}/{what}")).copied().unwrap_or(0)
    }

    /// Opens a gate.
    pub fn open(&self, home: &str, what: &str) {
        self.entries().open.insert(format!("{home}/{what}"));
    }

    /// Writes a metric's lines as Prometheus is to read them from now on. Empty: there are none.
    pub fn write(&self, home: &str, metric: &str, lines: &str) {
        self.entries().figures.insert((home.to_owned(), metric.to_owned()), lines.to_owned());
    }

    /// Waits until all that is written has been read by each Prometheus that reads at all.
    pub async fn is_read(&self) {
        let enough = self.entries().scrapes + 2;
        within(Duration::from_secs(30), "Prometheus scrapes", async || match self.entries().scrapes {
            scrapes if scrapes >= enough => Ok(()),
            scrapes => Err(format!("{scrapes} of {enough}")),
        })
        .await;
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("nothing panics while it holds this lock")
    }
}

async fn done(State(ledger): State<Ledger>, Path((home, what)): Path<(String, String)>) -> StatusCode {
    *ledger.entries().done.entry(format!("{home}/{what}")).or_default() += 1;
    StatusCode::OK
}

async fn gate(State(ledger): State<Ledger>, Path((home, what)): Path<(String, String)>) -> StatusCode {
    if ledger.entries().open.contains(&format!("{home}/{what}")) { StatusCode::OK } else { StatusCode::NOT_FOUND }
}

async fn metrics(State(ledger): State<Ledger>) -> String {
    let mut entries = ledger.entries();
    entries.scrapes += 1;
    let mut text = String::new();
    for lines in entries.figures.values() {
        writeln!(text, "{lines}").expect("writing to a String cannot fail");
    }
    text
}
