//! Each value of the chart does something, and what isn't a value is refused.

use std::{collections::BTreeSet, path::PathBuf};

use alongside::guards::provider::ProviderConfig;
use serde_json::{Value, json};

use crate::{
    render::{Rendered, render, template},
    support::cluster::root,
};

/// Another value for each value of the chart, as `values.yaml` lists them.
const OTHERS: &[(&str, &str)] = &[
    ("image.repository", "r.example/alongside"),
    ("image.tag", "'7'"),
    ("image.digest", "'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'"),
    ("image.pullPolicy", "Always"),
    ("imagePullSecrets", "[{name: registry}]"),
    ("replicas", "3"),
    ("namespaces", "[shop]"),
    ("workers", "8"),
    ("fullnameOverride", "mover"),
    ("commonLabels", "{team: movers}"),
    ("log.format", "text"),
    ("log.filter", "debug"),
    ("tracing.endpoint", "'http://collector:4318'"),
    ("providers", "[{name: default, url: 'http://prometheus:9090'}]"),
    ("signingKey.existingSecret", "mine"),
    ("crds.install", "false"),
    ("crds.keep", "false"),
    ("rbac.create", "false"),
    ("rbac.aggregate", "false"),
    ("serviceAccount.create", "false"),
    ("serviceAccount.name", "mover"),
    ("serviceAccount.annotations", "{a: b}"),
    ("admissionPolicies.enabled", "false"),
    ("admissionPolicies.statusWriters", "['system:serviceaccount:velero:velero']"),
    ("flowControl.enabled", "false"),
    ("flowControl.shares", "7"),
    ("metrics.scrapeAnnotations", "true"),
    ("metrics.service.enabled", "false"),
    ("metrics.service.annotations", "{a: b}"),
    ("metrics.serviceMonitor.enabled", "true"),
    ("metrics.serviceMonitor.interval", "3s"),
    ("metrics.serviceMonitor.labels", "{release: prometheus}"),
    ("metrics.podMonitor.enabled", "true"),
    ("metrics.podMonitor.interval", "3s"),
    ("metrics.podMonitor.labels", "{release: prometheus}"),
    ("metrics.prometheusRule.enabled", "true"),
    ("metrics.prometheusRule.labels", "{release: prometheus}"),
    ("metrics.prometheusRule.runbooks", "'https://wiki.example/alongside'"),
    ("metrics.dashboard.enabled", "true"),
    ("metrics.dashboard.labels", "{dashboards: 'yes'}"),
    ("metrics.dashboard.annotations", "{grafana_folder: Migrations}"),
    ("networkPolicy.enabled", "true"),
    ("networkPolicy.from", "[{namespaceSelector: {}}]"),
    ("networkPolicy.egress", "[{ports: [{port: 6443}]}]"),
    ("podDisruptionBudget.enabled", "false"),
    ("resources.requests", "{cpu: 1}"),
    ("resources.limits", "{memory: 1Gi}"),
    ("extraEnv", "[{name: HTTPS_PROXY, value: 'http://proxy:3128'}]"),
    ("extraVolumes", "[{name: ca, configMap: {name: ca}}]"),
    ("extraVolumeMounts", "[{name: ca, mountPath: /etc/ca}]"),
    ("podLabels", "{a: b}"),
    ("podAnnotations", "{a: b}"),
    ("nodeSelector", "{kubernetes.io/os: linux}"),
    ("tolerations", "[{operator: Exists}]"),
    ("affinity", "{nodeAffinity: {}}"),
    ("priorityClassName", "system-cluster-critical"),
];

/// What another value needs beside it to matter.
const BESIDE: &[(&str, &str)] = &[
    ("serviceAccount.create", "serviceAccount: {name: mine}"),
    ("metrics.serviceMonitor.interval", "metrics: {serviceMonitor: {enabled: true}}"),
    ("metrics.serviceMonitor.labels", "metrics: {serviceMonitor: {enabled: true}}"),
    ("metrics.podMonitor.interval", "metrics: {podMonitor: {enabled: true}}"),
    ("metrics.podMonitor.labels", "metrics: {podMonitor: {enabled: true}}"),
    ("metrics.prometheusRule.labels", "metrics: {prometheusRule: {enabled: true}}"),
    ("metrics.prometheusRule.runbooks", "metrics: {prometheusRule: {enabled: true}}"),
    ("metrics.dashboard.labels", "metrics: {dashboard: {enabled: true}}"),
    ("metrics.dashboard.annotations", "metrics: {dashboard: {enabled: true}}"),
    ("networkPolicy.from", "networkPolicy: {enabled: true}"),
    ("networkPolicy.egress", "networkPolicy: {enabled: true}"),
];

/// `a.b.c` and a value as nested YAML.
fn nested(path: &str, value: &str) -> Value {
    let value: Value = serde_saphyr::from_str(value).unwrap();
    path.rsplit('.').fold(value, |inner, key| json!({ key: inner }))
}

fn merge(base: &mut Value, other: Value) {
    match (base, other) {
        (Value::Object(base), Value::Object(other)) => {
            for (key, value) in other {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, other) => *base = other,
    }
}

fn values() -> Value {
    let file = std::fs::read_to_string(root().join("charts/alongside/values.yaml")).unwrap();
    serde_saphyr::from_str(&file).unwrap()
}

fn is_filled_by_users(path: &str) -> bool {
    path.starts_with("resources.") || path.ends_with(".labels")
}

/// Paths of the values in `values.yaml`; an object that users fill themselves is one value.
fn paths() -> BTreeSet<String> {
    fn walk(prefix: &str, value: &Value, paths: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) if !fields.is_empty() && !is_filled_by_users(prefix) => {
                for (key, value) in fields {
                    walk(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value, paths);
                }
            }
            _ => {
                paths.insert(prefix.to_owned());
            }
        }
    }
    let mut paths = BTreeSet::new();
    walk("", &values(), &mut paths);
    paths
}

#[test]
fn every_value_is_tried() {
    assert_eq!(paths(), OTHERS.iter().map(|(path, _)| (*path).to_owned()).collect());
}

#[test]
fn every_value_changes_something() {
    let Rendered(default) = render("{}");
    for (path, other) in OTHERS {
        let beside = BESIDE.iter().find(|(of, _)| of == path).map(|(_, beside)| *beside);
        let before = beside.map(|beside| render(beside).0);
        let mut values: Value = serde_saphyr::from_str(beside.unwrap_or("{}")).unwrap();
        merge(&mut values, nested(path, other));
        let Rendered(after) = render(&values.to_string());
        assert_ne!(before.as_ref().unwrap_or(&default), &after, "{path}: {other} changes nothing");
    }
}

#[test]
fn what_is_not_a_value_is_refused_wherever_it_is_written() {
    let mut groups: BTreeSet<String> =
        paths().iter().filter_map(|path| Some(path.rsplit_once('.')?.0.to_owned())).collect();
    groups.insert(String::new());
    groups.insert("metrics".to_owned());
    for group in groups {
        let path = if group.is_empty() { "replica".to_owned() } else { format!("{group}.replica") };
        let refused = template(&nested(&path, "3").to_string());
        assert!(refused.stderr.contains("additional properties 'replica' not allowed"), "{path}: {}", refused.stderr);
    }
}

#[test]
fn values_of_another_kind_are_refused() {
    for (path, wrong) in [
        ("replicas", "'2'"),
        ("replicas", "-1"),
        ("workers", "0"),
        ("namespaces", "shop"),
        ("namespaces", "[shop, billing]"),
        ("namespaces", "[Shop]"),
        ("image.digest", "'0123'"),
        ("image.repository", "'a@sha256:0123'"),
        ("image.pullPolicy", "Sometimes"),
        ("imagePullSecrets", "[registry]"),
        ("log.format", "xml"),
        ("tracing.endpoint", "'collector:4318'"),
        ("crds.keep", "'no'"),
        ("admissionPolicies.enabled", "'false'"),
        ("admissionPolicies.statusWriters", "velero"),
        ("flowControl.shares", "0"),
        ("metrics.serviceMonitor.interval", "fast"),
        ("resources", "{limit: {memory: 1Gi}}"),
        ("podLabels", "{a: 1}"),
        ("metrics.podMonitor.interval", "fast"),
        ("metrics.prometheusRule.runbooks", "''"),
        ("networkPolicy.from", "everybody"),
        ("extraEnv", "[{name: A, valuefrom: {}}]"),
        ("extraVolumeMounts", "[{name: ca}]"),
        ("providers", "[{name: default}]"),
        ("providers", "[{name: default, url: prometheus}]"),
        ("providers", "[{name: Default, url: 'http://p'}]"),
        ("providers", "[{name: default, url: 'http://p', token: secret}]"),
        ("providers", "[{name: default, url: 'http://p', allowedNamespaces: []}]"),
        ("providers", "[{name: d, url: 'http://p', bearerTokenSecret: {name: a}}]"),
        (
            "providers",
            "[{name: d, url: 'http://p', bearerTokenSecret: {name: a, key: b}, basicAuthSecret: {name: a, usernameKey: u, passwordKey: p}}]",
        ),
    ] {
        let refused = template(&nested(path, wrong).to_string());
        assert!(
            refused.stderr.contains("values don't meet the specifications of the schema"),
            "{path}: {wrong}: {}",
            refused.stderr
        );
    }
}

#[test]
fn the_operator_reads_the_providers_that_the_chart_writes() {
    let rendered = render(
        "providers:
- {name: default, url: 'http://prometheus:9090'}
- name: team-a
  url: https://mimir.example.com/prometheus
  allowedNamespaces: [shop, billing]
  tenant: {value: team-a}
  bearerTokenSecret: {name: mimir, key: bearer}
  headersFromSecrets: {X-Api-Key: {name: mimir, key: api-key}}
  caConfigMap: {name: mimir-ca, key: ca.pem}
  insecureSkipVerify: true
  maxConcurrency: 5
- name: team-b
  url: https://thanos.example.com
  basicAuthSecret: {name: thanos, usernameKey: user, passwordKey: word}",
    );
    let text = rendered.object("ConfigMap", "alongside-providers")["data"]["providers.yaml"].as_str().unwrap();
    let providers: Vec<ProviderConfig> = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let [default, team_a, team_b] = providers.try_into().unwrap();

    assert_eq!((default.name.as_str(), default.url.as_str()), ("default", "http://prometheus:9090"));
    assert!(default.allowed_namespaces.allow("anywhere"));
    assert!(team_a.allowed_namespaces.allow("billing") && !team_a.allowed_namespaces.allow("anywhere"));
    assert_eq!(team_a.tenant.unwrap().value, "team-a");
    assert_eq!((team_a.insecure_skip_verify, team_a.max_concurrency), (true, 5));

    let basic = team_b.basic_auth.unwrap();
    let mut named: Vec<PathBuf> = team_a.headers_from_files.into_values().collect();
    named.extend([
        team_a.bearer_token_file.unwrap(),
        team_a.ca_file.unwrap(),
        basic.username_file,
        basic.password_file,
    ]);
    let mut named: Vec<_> = named.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    named.sort();
    assert_eq!(named, mounted(&rendered), "each file that is named is mounted");
}

/// Files below the providers' folder that come from Secrets and ConfigMaps of the user's.
fn mounted(rendered: &Rendered) -> Vec<String> {
    let volume = &rendered.pod()["spec"]["volumes"][1];
    let mount = &rendered.container()["volumeMounts"][1];
    assert_eq!(volume["name"], mount["name"]);
    let sources = volume["projected"]["sources"].as_array().unwrap();
    let items = sources
        .iter()
        .filter_map(|source| source["secret"]["items"].as_array().or(source["configMap"]["items"].as_array()));
    let path = |item: &Value| format!("{}/{}", mount["mountPath"].as_str().unwrap(), item["path"].as_str().unwrap());
    let mut mounted: Vec<_> = items.flatten().map(path).collect();
    mounted.sort();
    mounted
}

#[test]
fn without_providers_only_the_key_for_signing_is_mounted() {
    let rendered = render("{}");
    assert!(!rendered.has_kind("ConfigMap"));
    let volumes = rendered.pod()["spec"]["volumes"].as_array().expect("there are volumes");
    assert_eq!(volumes.iter().map(|volume| volume["name"].as_str()).collect::<Vec<_>>(), [Some("signing-key")]);
    let named = &volumes[0]["secret"]["secretName"];
    assert!(rendered.find("Secret", named.as_str().expect("it is named")).is_some());
    assert_eq!(rendered.flags().providers, None);
}

#[test]
fn a_changed_provider_starts_new_pods() {
    let annotation = |url: &str| {
        let rendered = render(&format!("{{providers: [{{name: default, url: '{url}'}}]}}"));
        rendered.pod()["metadata"]["annotations"]["alongside.dev/providers-hash"].clone()
    };
    assert_ne!(annotation("http://a"), annotation("http://b"));
    assert_eq!(annotation("http://a"), annotation("http://a"));
}

#[test]
fn every_value_in_the_page_on_installing_is_taken() {
    let page = std::fs::read_to_string(root().join("docs/install.md")).unwrap();
    let cells = page.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split(" | ").nth(1));
    let spans = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(|span| span.contains(": "));
    let digest = "0123456789abcdef".repeat(4);
    let mut tried = 0;
    for span in spans {
        let taken = template(&span.replace("sha256:...", &format!("sha256:{digest}")));
        assert!(taken.success, "{span}: {}", taken.stderr);
        tried += 1;
    }
    assert!(tried >= 8, "only {tried} were found");
}
