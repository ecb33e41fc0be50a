//! What a kubelet would do for the pods of these measurements, as far as controllers can see: they become ready with an
//! address, and they go when they are deleted. Nothing runs in them, and nothing measured here goes to them.

use std::{pin::pin, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};

use crate::kubernetes::{Kubernetes, NAMESPACE};

/// The node's name.
const NODE: &str = "bench-node";
/// How often the node says that it is there. After 40 s of silence its pods would count as lost.
const HEARTBEAT: Duration = Duration::from_secs(8);

/// Brings the node up. It is there until the program ends.
pub async fn start(kubernetes: &Kubernetes) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
    kubernetes.create_if_absent(None, node).await;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": NODE, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40}});
    kubernetes.create_if_absent(Some("kube-node-lease"), lease).await;
    tokio::spawn(beat(kubernetes.clone()));
    tokio::spawn(serve(kubernetes.clone()));
}

async fn beat(kubernetes: Kubernetes) {
    let nodes = kubernetes.api("v1", "Node", None);
    let leases = kubernetes.api("coordination.k8s.io/v1", "Lease", Some("kube-node-lease"));
    let mut tick = tokio::time::interval(HEARTBEAT);
    loop {
        tick.tick().await;
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Bench",
            "lastHeartbeatTime": now(), "lastTransitionTime": now()}]}});
        // A heartbeat that is lost is followed by the next.
        let _ = nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(ready)).await;
        let renewed = json!({"spec": {"renewTime": now_micro()}});
        let _ = leases.patch(NODE, &PatchParams::default(), &Patch::Merge(renewed)).await;
    }
}

async fn serve(kubernetes: Kubernetes) {
    let api: Api<Pod> = Api::namespaced(kubernetes.client(), NAMESPACE);
    let mut changes = pin!(watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects());
    let mut number: u32 = 1;
    while let Some(change) = changes.next().await {
        let Ok(pod) = change else { continue };
        let name = pod.name_any();
        let api = api.clone();
        if pod.metadata.deletion_timestamp.is_some() {
            tokio::spawn(async move {
                let _ =
                    api.delete(&name, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await;
            });
        } else if !is_ready(&pod) {
            number += 1;
            let address = format!("10.244.{}.{}", number / 250 % 250, number % 250 + 1);
            tokio::spawn(async move {
                let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(ready(&address))).await;
            });
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn ready(address: &str) -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now()});
    let conditions: Vec<_> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition).into();
    json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": now(),
        "conditions": conditions}})
}

/// The pods' part of a template.
pub fn pod_spec() -> Value {
    json!({"nodeName": NODE, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "main", "image": "localhost/none:1"}]})
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn now_micro() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
