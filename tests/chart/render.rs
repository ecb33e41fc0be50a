//! The chart rendered with one value or another.

use std::{collections::BTreeMap, sync::LazyLock};

use alongside::operator::Config;
use clap::{Args as _, Command, FromArgMatches as _};
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Said, root};

/// One API server for all tests of this binary; it also brings Helm.
pub static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::api_only("chart"));

/// Every object of a release called `alongside` in the namespace `alongside`.
pub struct Rendered(pub Vec<Value>);

impl Rendered {
    /// The one object of that kind and name.
    pub fn object(&self, kind: &str, name: &str) -> &Value {
        let found = self.find(kind, name);
        found.unwrap_or_else(|| panic!("there is no {kind} {name}, only {:?}", self.names()))
    }

    pub fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.0.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    /// Kind, namespace and name of each.
    pub fn names(&self) -> Vec<String> {
        let name = |object: &Value| {
            let (kind, meta) = (&object["kind"], &object["metadata"]);
            format!("{} {}/{}", text(kind), text(&meta["namespace"]), text(&meta["name"]))
        };
        self.0.iter().map(name).collect()
    }

    pub fn has_kind(&self, kind: &str) -> bool {
        self.0.iter().any(|object| object["kind"] == kind)
    }

    pub fn pod(&self) -> &Value {
        &self.object("Deployment", "alongside")["spec"]["template"]
    }

    pub fn container(&self) -> &Value {
        &self.pod()["spec"]["containers"][0]
    }

    /// The operator's own reading of the flags it is given.
    pub fn flags(&self) -> Config {
        let arguments = self.container()["args"].as_array().expect("the container has arguments");
        assert_eq!(arguments[0], "operator");
        let command = Config::augment_args(Command::new("operator"));
        let matches = command.try_get_matches_from(arguments.iter().map(text));
        Config::from_arg_matches(&matches.expect("the operator knows each flag")).expect("and each value")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Renders the chart with `values`, YAML or JSON, beside its own.
pub fn render(values: &str) -> Rendered {
    let said = template(values);
    assert!(said.success, "{}", said.stderr);
    let documents = said.stdout.split("\n---\n").map(|document| {
        serde_saphyr::from_str::<Value>(document).unwrap_or_else(|error| panic!("{error}:\n{document}"))
    });
    let mut objects: Vec<Value> = documents.filter(|document| !document.is_null()).collect();
    for secret in objects.iter_mut().filter(|object| object["kind"] == "Secret") {
        // Another one in each rendering, which no test is about.
        let made = secret["data"]["key.pem"].take();
        assert!(made.as_str().is_some_and(|key| !key.is_empty()), "{secret}");
    }
    Rendered(objects)
}

pub fn template(values: &str) -> Said {
    let chart = root().join("charts/alongside");
    let chart = chart.to_str().expect("the repository's path is text");
    let arguments = ["template", "alongside", chart, "--namespace=alongside", "--kube-version=1.35", "--values=-"];
    CLUSTER.say("helm", &arguments, values)
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    let said = CLUSTER.say("helm", &["lint", "--strict", root().join("charts/alongside").to_str().unwrap()], "");
    assert!(said.success, "{}{}", said.stdout, said.stderr);
}

#[test]
fn by_default_two_replicas_share_a_lease_and_one_may_be_drained() {
    let rendered = render("{}");
    assert_eq!(rendered.object("Deployment", "alongside")["spec"]["replicas"], 2);
    assert_eq!(rendered.object("PodDisruptionBudget", "alongside")["spec"]["maxUnavailable"], 1);
    let flags = rendered.flags();
    assert_eq!((flags.lease_namespace.as_str(), flags.lease_name.as_str()), ("alongside", "alongside"));
    assert!(!render("{replicas: 1}").has_kind("PodDisruptionBudget"), "one replica's node could never be drained");
}

#[test]
fn the_operator_knows_every_flag_that_the_chart_can_give() {
    let flags = render(
        "{namespaces: [shop], workers: 3, log: {format: text}, tracing: {endpoint: 'http://collector:4318'}, \
         providers: [{name: default, url: 'http://prometheus:9090'}], image: {repository: r.example/a, tag: '7'}}",
    )
    .flags();
    assert_eq!(flags.namespace_scope.as_deref(), Some("shop"));
    assert_eq!(flags.workers, 3);
    assert_eq!(flags.otlp_endpoint.as_deref(), Some("http://collector:4318"));
    assert_eq!(flags.providers.as_deref(), Some("/etc/alongside/providers.yaml".as_ref()));
    assert_eq!(flags.image, "r.example/a:7", "the operator's Jobs run its own image");
}

#[test]
fn a_digest_goes_before_a_tag() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let rendered = render(&format!("{{image: {{repository: r.example/a, tag: '7', digest: '{digest}'}}}}"));
    assert_eq!(rendered.container()["image"], format!("r.example/a@{digest}"));
    assert_eq!(rendered.flags().image, format!("r.example/a@{digest}"));
}

#[test]
fn names_follow_the_release_and_hold_the_products_name() {
    let chart = root().join("charts/alongside");
    let rendered = CLUSTER.say("helm", &["template", "prod", chart.to_str().unwrap(), "--kube-version=1.35"], "");
    assert!(rendered.stdout.contains("name: prod-alongside\n"), "{}", rendered.stderr);
    assert!(render("{fullnameOverride: mover}").find("Deployment", "mover").is_some());
}

#[test]
fn the_crd_is_the_one_that_crdgen_writes_and_is_kept() {
    let rendered = render("{}");
    let in_chart = rendered.object("CustomResourceDefinition", "migrations.alongside.dev");
    assert_eq!(in_chart["metadata"]["annotations"], json!({ "helm.sh/resource-policy": "keep" }));
    let file = std::fs::read_to_string(root().join("crds/alongside.dev_migrations.yaml")).unwrap();
    let own: Value = serde_saphyr::from_str(&file).unwrap();
    assert_eq!(in_chart["spec"], own["spec"]);

    assert!(!render("{crds: {install: false}}").has_kind("CustomResourceDefinition"));
    let dropped = render("{crds: {keep: false}}");
    assert_eq!(
        dropped.object("CustomResourceDefinition", "migrations.alongside.dev")["metadata"]["annotations"],
        Value::Null
    );
}

#[test]
fn metrics_have_a_service_and_on_demand_a_monitor_that_finds_it() {
    let rendered = render("{metrics: {serviceMonitor: {enabled: true, interval: 5s}}}");
    let service = rendered.object("Service", "alongside-metrics");
    let monitor = rendered.object("ServiceMonitor", "alongside");
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(service["metadata"]["labels"][label], *value);
    }
    let port = &service["spec"]["ports"][0];
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], port["name"]);
    assert_eq!(rendered.container()["ports"][0]["name"], port["targetPort"]);
    assert!(!render("{}").has_kind("ServiceMonitor"));

    let refused = template("{metrics: {serviceMonitor: {enabled: true}, service: {enabled: false}}}");
    assert!(refused.stderr.contains("write metrics.service.enabled: true"), "{}", refused.stderr);
}

#[test]
fn what_a_selector_finds_is_what_the_pods_carry() {
    let rendered = render("{podLabels: {team: movers}}");
    let labels = &rendered.pod()["metadata"]["labels"];
    assert_eq!(labels["team"], "movers");
    for selector in [
        &rendered.object("Deployment", "alongside")["spec"]["selector"]["matchLabels"],
        &rendered.object("Service", "alongside-metrics")["spec"]["selector"],
        &rendered.object("PodDisruptionBudget", "alongside")["spec"]["selector"]["matchLabels"],
    ] {
        let selector: BTreeMap<String, Value> = serde_json::from_value(selector.clone()).unwrap();
        assert!(!selector.is_empty());
        assert!(selector.iter().all(|(label, value)| labels[label] == *value), "{selector:?} against {labels}");
        assert!(!selector.contains_key("app.kubernetes.io/version"), "an upgrade would have to change it");
    }
}
