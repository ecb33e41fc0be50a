//! The clusters that tests get are gone after the tests, however these end.

mod support;

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use support::{
    cluster::{Cluster, clusters, root},
    wait::within,
};

/// The name of the cluster that a test process has asked for.
fn name(purpose: &str, process: u32) -> String {
    format!("{purpose}-{process}")
}

/// Waits for something that another process does.
fn wait(sentence: &str, done: impl Fn() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(within(Duration::from_mins(1), sentence, async || if done() { Ok(()) } else { Err("not yet") }));
}

/// Nothing is left: no process, mount, network, cgroup or folder.
fn is_gone(name: &str) -> bool {
    let check = Command::new(root().join("tests/cluster/check-clean")).arg(name).stderr(Stdio::null()).status();
    check.is_ok_and(|status| status.success())
}

/// Ends the process it stands for, whatever else happens.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_cluster_is_gone_once_it_is_dropped() {
    let cluster = Cluster::api_only("dropped");
    let name = cluster.name().to_owned();
    assert!(!is_gone(&name));
    cluster.run(async || cluster.client().apiserver_version().await.expect("it answers"));
    drop(cluster);
    assert!(is_gone(&name));
}

#[test]
fn a_cluster_is_gone_soon_after_its_test_process_is_killed() {
    let itself = std::env::current_exe().unwrap();
    let holder = Command::new(itself)
        .args(["--exact", "holds_a_cluster_until_it_is_killed", "--ignored"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let holder = Killed(holder);
    let name = name("killed", holder.0.id());
    wait("the other process has its cluster", || clusters().join(&name).join("ready").exists());
    drop(holder);
    wait("nothing is left of it", || is_gone(&name));
}

#[test]
#[ignore = "it is the other process of the test above, and does not end by itself"]
fn holds_a_cluster_until_it_is_killed() {
    let _cluster = Cluster::api_only("killed");
    wait("somebody kills this process", || false);
}
