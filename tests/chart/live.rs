//! The chart with real pods: a release in the middle of a migration, and a real Prometheus that watches it.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use alongside::api::{Migration, MigrationStatus, State};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use promql_parser::parser::{Expr, parse};
use serde_json::{Value, json};

use crate::{
    support::{
        cluster::{Cluster, root},
        wait::within,
    },
    watching::{alerts, queries_of_the_dashboard, rules},
};

const PATIENCE: Duration = Duration::from_mins(3);
const NAMESPACE: &str = "alongside";
/// Where Prometheus answers: the node's address, which pods reach.
const PROMETHEUS: &str = "http://10.199.0.1:9090";

/// A cluster with an app that has two sides.
struct Live {
    cluster: Cluster,
    folder: PathBuf,
}

impl Live {
    fn comes_up() -> Self {
        let cluster = Cluster::full("chartlive");
        let scripts = root().join("tests/cluster");
        let printed = |command: &mut Command| {
            let said = command.output().expect("the cluster's scripts can be run");
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            String::from_utf8(said.stdout).expect("a path is text").trim().to_owned()
        };
        let operator = printed(Command::new(scripts.join("image-from-binary")).args([
            "localhost/alongside:chart",
            env!("CARGO_BIN_EXE_alongside"),
            "alongside",
        ]));
        cluster.load(&[printed(Command::new(scripts.join("images")).arg("toolbox")), operator]);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chart-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        cluster.kubectl(&["create", "namespace", "shop"]);
        for version in ["v1", "v2"] {
            cluster.apply(&deployment(version).to_string());
        }
        cluster.apply(
            &json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "shop" },
                "spec": { "selector": { "app": "web", "version": "v1" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
            })
            .to_string(),
        );
        cluster.kubectl(&[
            "rollout",
            "status",
            "deployment/web-v1",
            "deployment/web-v2",
            "-n",
            "shop",
            "--timeout=120s",
        ]);
        Self { cluster, folder }
    }

    /// `helm VERB alongside` with the values that a cluster without a registry needs, and these.
    fn helm(&self, verb: &str, more: &[&str]) {
        let chart = root().join("charts/alongside");
        let provider = format!("--set=providers[0].name=default,providers[0].url={PROMETHEUS}");
        let mut arguments = vec![verb, "alongside", chart.to_str().unwrap(), "--namespace=alongside"];
        arguments.extend(["--create-namespace", "--wait", "--timeout=3m", &provider]);
        arguments.push("--set=image.repository=localhost/alongside,image.tag=chart,image.pullPolicy=Never");
        arguments.push("--set=namespaces={shop},networkPolicy.enabled=true,metrics.dashboard.enabled=true");
        arguments.push("--set=commonLabels.team=movers,extraEnv[0].name=NO_COLOR,extraEnv[0].value=yes");
        arguments.extend(more);
        let said = self.cluster.say("helm", &arguments, "");
        assert!(said.success, "helm {verb}: {}", said.stderr);
    }

    fn migrations(&self) -> Api<Migration> {
        Api::namespaced(self.cluster.client(), "shop")
    }

    async fn is(&self, sentence: &str, so: impl Fn(&MigrationStatus) -> bool) -> MigrationStatus {
        let migrations = self.migrations();
        within(PATIENCE, sentence, async || {
            let migration = migrations.get("to-v2").await.map_err(|error| error.to_string())?;
            let status = migration.status.unwrap_or_default();
            if so(&status) { Ok(status) } else { Err(format!("{:?}: {}", status.state, status.message)) }
        })
        .await
    }

    async fn points_at(&self) -> String {
        let services: Api<Service> = Api::namespaced(self.cluster.client(), "shop");
        let service = services.get("web").await.expect("the Service is there");
        service
            .spec
            .and_then(|spec| spec.selector)
            .and_then(|labels| labels.get("version").cloned())
            .unwrap_or_default()
    }

    /// The addresses of the operator's pods.
    async fn operators(&self) -> Vec<String> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), NAMESPACE);
        let ours = ListParams::default().labels("app.kubernetes.io/name=alongside,team=movers");
        let pods = pods.list(&ours).await.expect("pods can be listed");
        let here = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        here.filter_map(|pod| pod.status?.pod_ip).map(|ip| format!("{ip}:8080")).collect()
    }

    /// Starts a Prometheus with our rules, which finds its targets in a file.
    fn prometheus(&self) -> Running {
        let rules = root().join("charts/alongside/rules/alongside.yaml");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs: [{{job_name: alongside, file_sd_configs: [{{files: ['{}'], refresh_interval: 1s}}]}},\n  \
             {{job_name: itself, static_configs: [{{targets: ['127.0.0.1:9090']}}]}}]\n",
            rules.display(),
            self.folder.join("targets.json").display(),
        );
        std::fs::write(self.folder.join("prometheus.yml"), config).unwrap();
        std::fs::write(self.folder.join("targets.json"), "[]").unwrap();
        let log = std::fs::File::create(self.folder.join("prometheus.log")).unwrap();
        let mut command = self.cluster.command("/usr/bin/prometheus");
        command
            .arg(format!("--config.file={}", self.folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", self.folder.join("data").display()))
            .arg("--web.listen-address=0.0.0.0:9090")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Running(command.spawn().expect("tests/cluster/in can be run"))
    }
}

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn deployment(version: &str) -> Value {
    let labels = json!({ "app": "web", "version": version });
    let container = json!({
        "name": "server",
        "image": "localhost/toolbox:1",
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", format!("mkdir /tmp/www; echo {version} > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www")],
        "readinessProbe": { "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1 },
    });
    let pod = json!({ "containers": [container], "terminationGracePeriodSeconds": 0, "enableServiceLinks": false });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": format!("web-{version}"), "namespace": "shop" },
        "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": pod } },
    })
}

#[test]
fn a_release_is_upgraded_and_uninstalled_in_mid_migration_and_prometheus_answers_what_alerts_and_dashboard_ask() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let live = Live::comes_up();
    let _prometheus = live.prometheus();
    live.helm("install", &[]);
    let before = live.cluster.run(async || {
        let guard = json!({ "name": "quiet", "query": "max(up{job=\"itself\"})", "min": 0, "max": 1, "interval": "1s" });
        let (from, to) = (json!({ "version": "v1" }), json!({ "version": "v2" }));
        let cut_over = json!({ "name": "cut-over", "switch": { "service": "web", "from": from, "to": to, "drain": { "wait": "1s" } } });
        let bake = json!({ "name": "bake", "bake": { "for": "1h" } });
        let migration = json!({
            "apiVersion": "alongside.dev/v1alpha1", "kind": "Migration",
            "metadata": { "name": "to-v2", "namespace": "shop" },
            "spec": { "guards": [guard], "phases": [cut_over, bake] },
        });
        let migration: Migration = serde_json::from_value(migration).expect("it is a Migration");
        live.migrations().create(&kube::api::PostParams::default(), &migration).await.expect("it is taken");
        let status = live.is("it bakes", bakes).await;
        assert_eq!(live.points_at().await, "v2");
        prometheus_answers_every_query(&live).await;
        status
    });

    live.helm("upgrade", &["--set=log.filter=debug", "--set=podAnnotations.release=second"]);
    live.cluster.run(async || {
        one_leads(&live).await;
        let after = live.is("it still bakes", bakes).await;
        assert_eq!((after.attempt, after.epoch, &after.plan), (before.attempt, before.epoch, &before.plan));
        assert_eq!(live.points_at().await, "v2");
    });

    let said = live.cluster.say("helm", &["uninstall", "alongside", "--namespace=alongside", "--wait"], "");
    assert!(said.success, "{}", said.stderr);
    live.cluster.run(async || {
        within(PATIENCE, "no operator is left", async || match live.operators().await.len() {
            0 => Ok(()),
            left => Err(format!("{left} are")),
        })
        .await;
        let left = live.is("it is still there", bakes).await;
        assert_eq!((left.attempt, left.epoch), (before.attempt, before.epoch));
        assert_eq!(live.points_at().await, "v2", "traffic stays where it is");
    });

    live.helm("install", &[]);
    live.cluster.run(async || {
        one_leads(&live).await;
        let binding = live.is("it still bakes", bakes).await.binding.expect("a plan is frozen");
        let abort = json!({ "metadata": { "annotations": { "alongside.dev/abort": binding } } });
        live.migrations().patch("to-v2", &PatchParams::default(), &Patch::Merge(abort)).await.expect("it is taken");
        live.is("the new release takes it back", |status| status.state == State::RolledBack).await;
        assert_eq!(live.points_at().await, "v1");
    });
}

fn bakes(status: &MigrationStatus) -> bool {
    status.hold.as_ref().is_some_and(|hold| hold.reason == "Baking")
}

async fn one_leads(live: &Live) {
    within(PATIENCE, "one operator leads", async || {
        let mut leaders = 0;
        for address in live.operators().await {
            leaders += usize::from(page(&address).await?.lines().any(|line| line == "alongside_leader 1"));
        }
        if leaders == 1 { Ok(()) } else { Err(format!("{leaders} do")) }
    })
    .await;
}

async fn page(address: &str) -> Result<String, String> {
    let answer = reqwest::get(format!("http://{address}/metrics")).await.map_err(|error| error.to_string())?;
    answer.text().await.map_err(|error| error.to_string())
}

/// Each query is answered without an error or a warning, speaks only of metrics that the operator has, and the alerts
/// are evaluated well. A panel of what is there must show something.
async fn prometheus_answers_every_query(live: &Live) {
    let addresses = live.operators().await;
    std::fs::write(live.folder.join("targets.json"), json!([{ "targets": addresses }]).to_string()).unwrap();
    let ask = async |query: &str| -> Result<Value, String> {
        let url = format!("{PROMETHEUS}/api/v1/query");
        let answer = reqwest::Client::new().post(url).form(&[("query", query)]).send().await;
        let answer =
            answer.map_err(|error| error.to_string())?.json::<Value>().await.map_err(|error| error.to_string())?;
        if answer["status"] == "success" && answer["warnings"].is_null() { Ok(answer) } else { Err(answer.to_string()) }
    };
    within(PATIENCE, "Prometheus has scraped both replicas and the guard's polls for a while", async || {
        let answer = ask("count(rate(alongside_guard_polls_total[10s])) and count(alongside_leader) == 2").await?;
        if answer["data"]["result"].as_array().is_some_and(|found| !found.is_empty()) {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    })
    .await;
    let mut known = String::new();
    for address in &addresses {
        known += &page(address).await.expect("the operator can be scraped");
    }
    let rules = rules();
    let alerts = alerts(&rules).iter().map(|alert| alert["expr"].as_str().unwrap().to_owned());
    let panels = queries_of_the_dashboard();
    let mut empty = Vec::new();
    for query in alerts.chain(panels.iter().cloned()) {
        let answer = ask(&query).await.unwrap_or_else(|why| panic!("{query}: {why}"));
        if panels.contains(&query) && answer["data"]["result"] == json!([]) {
            empty.push(query.clone());
        }
        for name in metrics_in(&parse(&query).unwrap_or_else(|why| panic!("{query}: {why}"))) {
            let base = ["_total", "_bucket"].into_iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
            assert!(known.contains(&format!("# TYPE {base} ")), "{query}: the operator has no metric {name}");
        }
    }
    // A rate over five minutes needs longer than this test lasts.
    empty.retain(|query| !query.contains("[5m]") && !query.contains("[24h]"));
    assert_eq!(empty, Vec::<String>::new(), "these panels show nothing");
    let groups: Value = reqwest::get(format!("{PROMETHEUS}/api/v1/rules")).await.unwrap().json().await.unwrap();
    for rule in groups["data"]["groups"][0]["rules"].as_array().expect("the rules are loaded") {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "nothing is wrong here: {rule}");
    }
}

fn metrics_in(expr: &Expr) -> Vec<String> {
    match expr {
        Expr::VectorSelector(selector) => selector.name.iter().cloned().collect(),
        Expr::MatrixSelector(selector) => selector.vs.name.iter().cloned().collect(),
        Expr::Aggregate(inner) => metrics_in(&inner.expr),
        Expr::Unary(inner) => metrics_in(&inner.expr),
        Expr::Paren(inner) => metrics_in(&inner.expr),
        Expr::Subquery(inner) => metrics_in(&inner.expr),
        Expr::Binary(inner) => [metrics_in(&inner.lhs), metrics_in(&inner.rhs)].concat(),
        Expr::Call(call) => call.args.args.iter().flat_map(|inner| metrics_in(inner)).collect(),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => Vec::new(),
    }
}
