//! Argo Rollouts' side: the controller as a process, blue-green Rollouts with an analysis after the promotion.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    kubernetes::{Kubernetes, NAMESPACE},
    node,
    process::Process,
    source::Source,
};

/// Version of its kinds.
pub const VERSION: &str = "argoproj.io/v1alpha1";
/// Name of the analysis that all share.
const TEMPLATE: &str = "errors";
/// Measurements of one analysis: so many that it doesn't end by itself. It refuses to be without a number here.
const ENDLESS: u32 = 1_000_000;
/// The label by which it selects.
pub const SELECTED_BY: &str = "rollouts-pod-template-hash";

/// Starts the controller.
pub fn start(program: &Path, out: &Path) -> Process {
    let kubeconfig = std::env::var("KUBECONFIG").unwrap_or_default();
    let arguments = ["--kubeconfig", &kubeconfig, "--leader-elect=false", "--namespace", NAMESPACE, "--namespaced"];
    Process::start(program, &arguments, &out.join("argo.log"))
}

fn metrics(source: &Source, interval: Duration, query: &str) -> Value {
    json!([{"name": "errors", "interval": format!("{}ms", interval.as_millis()), "count": ENDLESS, "failureLimit": 0,
        "successCondition": "result[0] < 0.5", "provider": {"prometheus": {"address": source.url(), "query": query}}}])
}

/// The analysis that Rollouts name.
pub async fn template(kubernetes: &Kubernetes, source: &Source, interval: Duration) {
    kubernetes.delete(VERSION, "AnalysisTemplate", TEMPLATE).await;
    let metrics = metrics(source, interval, &Source::query("{{args.id}}"));
    let template = json!({"apiVersion": VERSION, "kind": "AnalysisTemplate", "metadata": {"name": TEMPLATE},
        "spec": {"args": [{"name": "id"}], "metrics": metrics}});
    kubernetes.create(template).await;
}

/// Another analysis at work, of nobody's Rollout.
pub fn analysis(id: &str, source: &Source, interval: Duration) -> Value {
    json!({"apiVersion": VERSION, "kind": "AnalysisRun", "metadata": {"name": id},
        "spec": {"metrics": metrics(source, interval, &Source::query(id))}})
}

/// Service and Rollout of one object.
pub fn guarded(id: &str) -> [Value; 2] {
    let labels = json!({"app": id});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": id},
        "spec": {"selector": labels, "ports": [{"port": 80}]}});
    let rollout = json!({"apiVersion": VERSION, "kind": "Rollout", "metadata": {"name": id}, "spec": {
        "replicas": 1, "revisionHistoryLimit": 1, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels, "annotations": {"round": "0"}}, "spec": node::pod_spec()},
        "strategy": {"blueGreen": {"activeService": id, "scaleDownDelaySeconds": 3600,
            "postPromotionAnalysis": {"templates": [{"templateName": TEMPLATE}],
                "args": [{"name": "id", "value": id}]}}}}});
    [service, rollout]
}

/// Rolls an object out anew.
pub async fn roll_out(kubernetes: &Kubernetes, id: &str, round: usize) {
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"round": round.to_string()}}}}});
    kubernetes.merge(VERSION, "Rollout", id, patch).await;
}
