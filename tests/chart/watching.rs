//! Alerts and dashboard: what the chart puts into its objects, and that `promtool` finds each alert to fire when it
//! should. That a real Prometheus answers each of their queries is told beside a real release.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::{
    render::{render, template},
    support::cluster::root,
};

/// The rules as Prometheus reads them.
pub fn rules() -> Value {
    let text = std::fs::read_to_string(root().join("charts/alongside/rules/alongside.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// The dashboard as Grafana reads it.
pub fn dashboard() -> Value {
    let text = std::fs::read_to_string(root().join("charts/alongside/dashboards/alongside.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub fn alerts(rules: &Value) -> &[Value] {
    rules["groups"][0]["rules"].as_array().unwrap()
}

/// Each query of the dashboard, with its variables as a user who has chosen nothing leaves them.
pub fn queries_of_the_dashboard() -> Vec<String> {
    let dashboard = dashboard();
    let targets = dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array());
    let queries = targets.flatten().map(|target| target["expr"].as_str().unwrap());
    queries.map(|query| query.replace("$namespace", ".*").replace("$migration", ".*")).collect()
}

#[test]
fn promtool_finds_each_alert_to_fire_when_it_should_and_not_before() {
    let tests = root().join("tests/chart/alerts.yaml");
    let said = Command::new("promtool").args(["test", "rules"]).arg(&tests).output().expect("promtool can be run");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = std::fs::read_to_string(tests).unwrap();
    for alert in alerts(&rules()) {
        let name = alert["alert"].as_str().unwrap();
        assert!(text.matches(name).count() >= 2, "{name} is not tried both ways");
    }
}

#[test]
fn each_alert_says_what_it_means_and_has_a_runbook() {
    let runbooks = std::fs::read_to_string(root().join("docs/runbooks.md")).unwrap();
    let sections: BTreeSet<String> =
        runbooks.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_lowercase).collect();
    let rules = rules();
    assert_eq!(alerts(&rules).len(), sections.len(), "a runbook for each alert, and no other");
    for alert in alerts(&rules) {
        let name = alert["alert"].as_str().unwrap();
        let notes = &alert["annotations"];
        assert!(!notes["summary"].as_str().unwrap().is_empty() && notes["description"].is_string(), "{name}");
        assert!(["critical", "warning", "info"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        let section = name.to_lowercase();
        assert!(sections.contains(&section), "{name} has no runbook");
        assert_eq!(notes["runbook_url"], format!("docs/runbooks.md#{section}"));
    }
}

#[test]
fn the_prometheus_rule_holds_the_same_alerts_and_links_to_your_runbooks() {
    let rendered = render("{metrics: {prometheusRule: {enabled: true, runbooks: 'https://wiki.example/alongside'}}}");
    let rule = rendered.object("PrometheusRule", "alongside");
    let mut own = rules();
    for alert in own["groups"][0]["rules"].as_array_mut().unwrap() {
        let url = alert["annotations"]["runbook_url"].as_str().unwrap();
        let url = url.replace("docs/runbooks.md", "https://wiki.example/alongside");
        alert["annotations"]["runbook_url"] = url.into();
    }
    assert_eq!(rule["spec"], own);
}

#[test]
fn the_config_map_holds_the_same_dashboard_under_the_label_that_grafana_looks_for() {
    let rendered = render("{metrics: {dashboard: {enabled: true}}}");
    let map = rendered.object("ConfigMap", "alongside-dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let text = map["data"]["alongside.json"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), dashboard());
}

#[test]
fn the_dashboards_panels_lie_side_by_side_and_ask_the_source_that_is_chosen() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |field: &str| panel["gridPos"][field].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} lies over another panel", panel["title"]);
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
        }
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}

#[test]
fn the_network_policy_lets_scrapers_and_probes_in_and_nothing_else() {
    let policy = render("{networkPolicy: {enabled: true, from: [{namespaceSelector: {}}]}}");
    let spec = &policy.object("NetworkPolicy", "alongside")["spec"];
    assert_eq!(spec["policyTypes"], serde_json::json!(["Ingress"]), "without egress rules everything may go out");
    let rules = spec["ingress"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0]["ports"][0]["port"], policy.container()["ports"][0]["name"]);
    assert_eq!(rules[0]["from"], serde_json::json!([{ "namespaceSelector": {} }]));
    for (label, value) in spec["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(policy.pod()["metadata"]["labels"][label], *value);
    }
    assert!(!render("{}").has_kind("NetworkPolicy"));
}

#[test]
fn two_monitors_for_the_same_pods_are_refused() {
    let refused = template("{metrics: {serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}}");
    assert!(refused.stderr.contains("would scrape each replica twice"), "{}", refused.stderr);
    let rendered = render("{metrics: {podMonitor: {enabled: true}, service: {enabled: false}}}");
    let monitor = rendered.object("PodMonitor", "alongside");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], rendered.container()["ports"][0]["name"]);
}
