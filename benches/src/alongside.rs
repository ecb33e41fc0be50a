//! Alongside's side: the operator as a process, and Migrations.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    kubernetes::{Followed, Kubernetes, NAMESPACE},
    node,
    process::{self, Process},
    source::Source,
    wait::{LONG, until},
};

/// Version of the kind.
pub const VERSION: &str = "alongside.dev/v1alpha1";
/// Name of the kind.
pub const KIND: &str = "Migration";
/// Where the first operator's metrics are.
pub const PORT: u16 = 18_081;

/// Starts an operator. Several are told apart by their number.
pub fn start(program: &Path, source: Option<&Source>, out: &Path, number: u16) -> Process {
    let providers: PathBuf = out.join("providers.yaml");
    let url = source.map_or_else(|| "http://127.0.0.1:1".to_owned(), Source::url);
    let text = format!("- name: default\n  url: {url}\n  allowedNamespaces: \"*\"\n");
    std::fs::write(&providers, text).expect("the providers' file can be written");
    let port = PORT + number;
    let arguments = [
        "operator",
        "--providers",
        &providers.display().to_string(),
        "--lease-namespace",
        NAMESPACE,
        "--identity",
        &format!("operator-{number}"),
        "--http",
        &format!("127.0.0.1:{port}"),
    ];
    Process::start(program, &arguments, &out.join(format!("operator-{number}.log")))
}

/// Waits until an operator leads, or is ready to follow.
pub async fn ready(number: u16, leads: bool) {
    until(LONG, "the operator is ready", async || {
        process::get(PORT + number, "/readyz").await?;
        let text = process::get(PORT + number, "/metrics").await?;
        let standing = process::metric(&text, "alongside_leader", |_| true) > 0.5;
        (standing == leads).then_some(())
    })
    .await;
}

/// The pods of both sides, which all Services share.
pub async fn pods(kubernetes: &Kubernetes) {
    for version in ["v1", "v2"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("shared-{version}"),
            "labels": {"app": "shared", "version": version}}, "spec": node::pod_spec()});
        kubernetes.create_if_absent(Some(NAMESPACE), pod).await;
    }
    let pods = kubernetes.api("v1", "Pod", Some(NAMESPACE));
    for version in ["v1", "v2"] {
        until(LONG, "the pods are ready", async || {
            let pod = pods.get(&format!("shared-{version}")).await.ok()?;
            pod.data["status"]["podIP"].as_str().map(drop)
        })
        .await;
    }
}

/// A Service of the old side.
pub fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": "shared", "version": "v1"}, "ports": [{"port": 80}]}})
}

/// A Migration of these phases.
pub fn migration(name: &str, phases: &Value, guards: &Value) -> Value {
    json!({"apiVersion": VERSION, "kind": KIND, "metadata": {"name": name},
        "spec": {"guards": guards, "phases": phases}})
}

/// The phase that switches a Service.
pub fn switch(service: &str) -> Value {
    json!({"name": "cut-over", "switch": {"service": service, "from": {"version": "v1"}, "to": {"version": "v2"},
        "drain": {"wait": "1s"}}})
}

/// The guard that reads an object's series.
pub fn guard(id: &str, interval: Duration) -> Value {
    json!({"name": "errors", "query": Source::query(id), "max": 0.5, "interval": format!("{}ms", interval.as_millis())})
}

/// Service and Migration of one object that is switched and then guarded for a day.
pub fn guarded(id: &str, interval: Duration) -> [Value; 2] {
    let phases = json!([switch(id), {"name": "bake", "bake": {"for": "24h"}}]);
    [service(id), migration(id, &phases, &json!([guard(id, interval)]))]
}

/// Waits until an object is in its bake.
pub async fn bakes(migrations: &Followed, id: &str) {
    until(LONG, "the Migration bakes", async || {
        let phase = migrations.field(id, "phase");
        (phase.as_deref() == Some("bake") && migrations.field(id, "state").as_deref() == Some("Running")).then_some(())
    })
    .await;
}
