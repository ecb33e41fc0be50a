//! An app with two sides: a Service and, for each side, a pod that answers with its version.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerState, Pod, Service},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::wait::{await_condition, conditions::is_pod_running},
};
use serde_json::json;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{home::Home, support::wait::within};

/// How long a pod may take to run, or traffic to move.
const PATIENCE: Duration = Duration::from_mins(1);
/// What a pod runs: a server that answers with its version, a hook that says that no connection is left, and one that
/// says so on v2 only.
const SERVE: &str = "mkdir -p /tmp/www/cgi-bin; cd /tmp/www; echo $VERSION > index.html; \
                     hook() { echo '#!/bin/sh'; echo \"echo 'Content-Type: application/json'; echo; echo '$1'\"; }; \
                     hook '{\"connections\": 0}' > cgi-bin/drain; cp cgi-bin/drain cgi-bin/hold-v1; \
                     [ $VERSION = v2 ] || hook '{\"connections\": 1}' > cgi-bin/hold-v1; \
                     chmod +x cgi-bin/*; exec httpd -f -p 8080 -h /tmp/www";
/// Time between two visits.
const VISIT: Duration = Duration::from_millis(100);

/// An app.
pub struct App {
    name: String,
    home: Home,
    services: Api<Service>,
    pods: Api<Pod>,
}

impl App {
    /// Brings it up, with traffic on v1.
    pub async fn comes_up(home: &Home, name: &str) -> Self {
        let app = Self { name: name.to_owned(), home: home.clone(), services: home.all(), pods: home.all() };
        app.makes_its_service().await;
        app.starts("v1").await;
        app.starts("v2").await;
        app.runs("v1").await;
        app.runs("v2").await;
        app.serves("v1").await;
        app
    }

    /// Makes the Service, on v1.
    pub async fn makes_its_service(&self) {
        self.makes_its_service_on("v1").await;
    }

    /// Makes the Service, on this version.
    pub async fn makes_its_service_on(&self, version: &str) {
        self.makes_a_service(&self.name, version).await;
    }

    /// Another Service of the same pods, on v1.
    pub async fn second_service(&self, name: &str) -> Self {
        self.makes_a_service(name, "v1").await;
        let second =
            Self { name: name.to_owned(), home: self.home.clone(), services: self.home.all(), pods: self.home.all() };
        second.serves("v1").await;
        second
    }

    async fn makes_a_service(&self, name: &str, version: &str) {
        let spec = json!({
            "selector": { "app": self.name, "version": version },
            "ports": [{ "port": 80, "targetPort": 8080 }],
        });
        self.home.create::<Service>(json!({ "metadata": { "name": name }, "spec": spec })).await;
    }

    /// Starts the pod of a side.
    pub async fn starts(&self, version: &str) {
        let mut pod = self.template(version);
        pod["metadata"]["name"] = json!(self.pod(version));
        self.home.create::<Pod>(pod).await;
    }

    fn template(&self, version: &str) -> serde_json::Value {
        let container = json!({
            "name": "server",
            "image": "localhost/toolbox:1",
            "imagePullPolicy": "Never",
            "command": ["sh", "-c", SERVE],
            "env": [{ "name": "VERSION", "value": version }],
        });
        let spec = json!({
            "containers": [container],
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 0,
        });
        json!({ "metadata": { "labels": { "app": self.name, "version": version } }, "spec": spec })
    }

    /// Puts a Deployment in the place of a side's pod, which is restarted wherever it ends.
    pub async fn is_replaced_by_a_deployment(&self, version: &str) {
        let labels = json!({ "app": self.name, "version": version });
        let spec = json!({ "selector": { "matchLabels": labels }, "template": self.template(version) });
        let deployment = json!({ "metadata": { "name": self.pod(version) }, "spec": spec });
        self.home.create::<Deployment>(deployment).await;
        self.stops(version).await;
        within(PATIENCE, "the Deployment's pod runs", async || match self.pods_of(version).await.len() {
            1 => Ok(()),
            other => Err(format!("{other} pods")),
        })
        .await;
        self.serves("v1").await;
    }

    /// The UIDs of a side's running pods.
    pub async fn pods_of(&self, version: &str) -> Vec<String> {
        let of_side = ListParams::default().labels(&format!("app={},version={version}", self.name));
        let pods = self.pods.list(&of_side).await.expect("pods can be listed");
        let runs = |pod: &&Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
        pods.iter().filter(runs).filter_map(ResourceExt::uid).collect()
    }

    /// Waits until the pod of a side runs.
    pub async fn runs(&self, version: &str) {
        let name = self.pod(version);
        let running = await_condition(self.pods.clone(), &name, is_pod_running());
        tokio::time::timeout(PATIENCE, running).await.expect("the pod runs in time").expect("pods can be watched");
    }

    /// Changes something of no account on the pod of a side.
    pub async fn is_annotated(&self, version: &str, value: &str) {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { "example.com/of-no-account": value } } }));
        self.pods.patch(&self.pod(version), &PatchParams::default(), &patch).await.expect("the pod can be changed");
    }

    /// Ends what the pod of a side runs, for good: it gets an image that isn't there.
    pub async fn crashes(&self, version: &str) {
        let name = self.pod(version);
        let patch = Patch::Strategic(json!({
            "spec": { "containers": [{ "name": "server", "image": "localhost/nowhere:1" }] },
        }));
        self.pods.patch(&name, &PatchParams::default(), &patch).await.expect("the pod can be changed");
        within(PATIENCE, "nothing runs in the pod", async || {
            let pod = self.pods.get(&name).await.map_err(|error| error.to_string())?;
            let containers = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
            let waits = |state: &ContainerState| state.waiting.is_some();
            if containers.iter().all(|container| container.state.as_ref().is_some_and(waits)) {
                Ok(())
            } else {
                Err(format!("{containers:?}"))
            }
        })
        .await;
    }

    /// Takes the pod of a side away, as if it had been scaled to nothing.
    pub async fn stops(&self, version: &str) {
        let now = DeleteParams::default().grace_period(0);
        self.pods.delete(&self.pod(version), &now).await.expect("the pod can be deleted");
    }

    fn pod(&self, version: &str) -> String {
        format!("{}-{version}", self.name)
    }

    /// Waits until new connections are answered by this version.
    pub async fn serves(&self, version: &str) {
        let address = self.address().await;
        within(PATIENCE, &format!("{} is served by {version}", self.name), async || match ask(&address).await? {
            seen if seen == version => Ok(()),
            seen => Err(format!("it is served by {seen}")),
        })
        .await;
    }

    /// Where clients find it.
    pub async fn address(&self) -> String {
        let ip = self.service().await.spec.and_then(|spec| spec.cluster_ip).expect("the Service has an address");
        format!("http://{ip}/")
    }

    /// The Service as it is.
    pub async fn service(&self) -> Service {
        self.services.get(&self.name).await.expect("the Service is there")
    }

    /// The version that the selector names.
    pub async fn points_at(&self) -> String {
        let selector = self.service().await.spec.and_then(|spec| spec.selector).unwrap_or_default();
        selector.get("version").cloned().unwrap_or_default()
    }

    /// The annotation by which a migration has marked the Service; empty if none has.
    pub async fn mark(&self) -> String {
        self.service().await.annotations().get(alongside::api::EPOCH_ANNOTATION).cloned().unwrap_or_default()
    }

    /// Someone else changes the Service.
    pub async fn is_edited(&self, patch: serde_json::Value) {
        let params = PatchParams { field_manager: Some("someone-else".to_owned()), ..PatchParams::default() };
        self.services.patch(&self.name, &params, &Patch::Merge(patch)).await.expect("the Service can be edited");
    }

    /// Someone else moves the traffic.
    pub async fn is_moved_by_hand_to(&self, version: &str) {
        self.is_edited(json!({ "spec": { "selector": { "version": version } } })).await;
    }

    /// Someone else deletes the Service.
    pub async fn loses_its_service(&self) {
        self.services.delete(&self.name, &DeleteParams::default()).await.expect("the Service can be deleted");
    }

    /// Sends it a visitor, who comes by a new connection each time.
    pub async fn is_visited(&self) -> Visitor {
        let address = self.address().await;
        let (go, mut gone) = oneshot::channel();
        let visits = tokio::spawn(async move {
            let mut visits = Visits::default();
            while gone.try_recv().is_err() {
                match ask(&address).await {
                    Ok(version) => *visits.answers.entry(version).or_default() += 1,
                    Err(error) => visits.failures.push(error),
                }
                tokio::time::sleep(VISIT).await;
            }
            visits
        });
        Visitor { go, visits }
    }
}

/// Someone who visits an app again and again.
pub struct Visitor {
    go: oneshot::Sender<()>,
    visits: JoinHandle<Visits>,
}

/// How a visitor was received.
#[derive(Debug, Default)]
pub struct Visits {
    /// Answers, by version.
    pub answers: BTreeMap<String, u32>,
    /// Requests that failed.
    pub failures: Vec<String>,
}

impl Visitor {
    /// Ends the visits and tells.
    pub async fn tells(self) -> Visits {
        self.go.send(()).expect("the visitor is there until it is told to go");
        self.visits.await.expect("the visitor does not panic")
    }

    /// Ends the visits; none was turned away, whichever side answered.
    pub async fn was_always_served(self) {
        let visits = self.tells().await;
        assert!(visits.failures.is_empty(), "{visits:?}");
        assert!(!visits.answers.is_empty(), "nobody was asked");
    }
}

/// Asks once, by a connection of its own.
async fn ask(address: &str) -> Result<String, String> {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(Duration::from_secs(5));
        client.build().expect("a client without TLS options has nothing that could fail")
    });
    let answer = CLIENT.get(address).send().await.and_then(reqwest::Response::error_for_status);
    let answer = answer.map_err(told_whole)?.text().await.map_err(told_whole)?;
    Ok(answer.trim().to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn told_whole(error: reqwest::Error) -> String {
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
