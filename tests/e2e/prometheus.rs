//! A real Prometheus in the cluster's network, which scrapes the ledger.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    operator::{end, signal},
    support::{cluster::Cluster, wait::within},
};

/// Distance of two samples. Short, so that stories are.
const SCRAPE_INTERVAL: &str = "500ms";

/// A running Prometheus; it ends when this is dropped.
pub struct Prometheus {
    child: Child,
    command: Command,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts one and waits until it answers. To be called in the cluster's network.
    pub async fn starts(cluster: &Cluster, folder: PathBuf, address: SocketAddr, target: &str) -> Self {
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: {SCRAPE_INTERVAL}, scrape_timeout: {SCRAPE_INTERVAL}}}\n\
             scrape_configs: [{{job_name: ledger, honor_timestamps: true, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        std::fs::write(&config, text).expect("a file can be written");
        let log = std::fs::File::create(folder.join("log")).expect("a file can be made");
        let mut command = cluster.command("/usr/bin/prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().expect("tests/cluster/in can be run");
        let prometheus = Self { child, command, address };
        prometheus.is_ready().await;
        prometheus
    }

    async fn is_ready(&self) {
        let ready = format!("{}/-/ready", self.url());
        within(Duration::from_secs(30), "Prometheus is ready", async || {
            reqwest::get(&ready).await.and_then(reqwest::Response::error_for_status)
        })
        .await;
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `kill -9`: connections are refused.
    pub fn is_killed(&mut self) {
        end(&mut self.child);
    }

    /// Starts it again, with what it knew.
    pub async fn comes_back(&mut self) {
        self.child = self.command.spawn().expect("tests/cluster/in can be run");
        self.is_ready().await;
    }

    /// Stops it in mid-thought: connections are taken, and nothing is answered.
    pub fn freezes(&self) {
        signal(&self.child, Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaws(&self) {
        signal(&self.child, Signal::CONT);
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
