//! What a team keeps in Git: an app with two sides, its Service, and a Migration; and the Application that brings it in.

use std::time::Duration;

use alongside::api::MigrationStatus;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    argo::{ArgoCd, NAMESPACE, component},
    home::Home,
    repository::Repository,
    support::{
        cluster::{Said, root},
        wait::within,
    },
};

/// How long Argo CD and a migration may take together to come to where a story waits for them.
const PATIENCE: Duration = Duration::from_mins(2);
/// The app, and its Service.
const APP: &str = "web";
/// The Migration.
pub const MIGRATION: &str = "to-v2";

static ARGO: OnceCell<ArgoCd> = OnceCell::const_new();

/// How the Service stands in Git, and how Argo CD applies it (design section 7's table).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// The selector in Git doesn't name the switched label, and Argo CD applies as it does by default.
    WithoutTheLabel,
    /// The selector in Git names it, and nothing is said to Argo CD.
    WithTheLabel,
    /// The selector in Git names it, and Argo CD is told to leave the operator's fields alone.
    Ignored,
    /// The same under server-side apply.
    IgnoredServerSide,
}

/// A team's shop: its repository and the Application. The Application goes when this is dropped, and nothing with it.
pub struct Shop {
    home: Home,
    pub repository: Repository,
    applications: Api<DynamicObject>,
    ways: Ways,
}

impl Shop {
    /// Commits the app and the Service and waits until Argo CD has brought them in.
    pub async fn opens(home: &Home, ways: Ways) -> Self {
        let shop = Self::is_empty(home, ways).await;
        // Its server may approve here.
        home.stage().cluster().kubectl(&[
            "create",
            "rolebinding",
            "approvers",
            "--clusterrole=alongside-approver",
            "--serviceaccount=argocd:argocd-server",
            "--namespace",
            home.name(),
        ]);
        let first = shop.repository.commits(
            "Open the shop",
            [("service", shop.service_in_git()), ("v1", Self::side("v1")), ("v2", Self::side("v2"))],
        );
        shop.applies().await;
        shop.is_synced_to(&first).await;
        if ways == Ways::WithoutTheLabel {
            // Git leaves the label to whoever moves traffic: at first that is a person.
            home.stage().cluster().kubectl(&[
                "patch",
                "service",
                APP,
                "--namespace",
                home.name(),
                "--type=merge",
                "--patch={\"spec\":{\"selector\":{\"version\":\"v1\"}}}",
            ]);
        }
        shop.is_healthy().await;
        shop.serves("v1").await;
        shop
    }

    /// The operator's own chart in Git, and the Application of `deploy/argocd` for it: without operators, which would
    /// have no image here, and without the CRD, which all homes share.
    pub async fn opens_for_the_chart(home: &Home) -> Self {
        let shop = Self::is_empty(home, Ways::WithTheLabel).await;
        shop.repository.copies(&root().join("charts"));
        let text = std::fs::read_to_string(component().join("application.yaml")).expect("the file is there");
        let mut application: Value = serde_saphyr::from_str(&text).expect("it is YAML");
        application["metadata"]["name"] = home.name().into();
        let spec = &mut application["spec"];
        spec["source"]["repoURL"] = shop.repository.url().into();
        spec["source"]["targetRevision"] = "main".into();
        spec["destination"]["namespace"] = home.name().into();
        let values = &mut spec["source"]["helm"]["valuesObject"];
        values["replicas"] = 0.into();
        values["crds"] = json!({ "install": false });
        values["namespaces"] = json!([home.name()]);
        values["fullnameOverride"] = "beside".into();
        shop.is_applied(application).await;
        shop
    }

    async fn is_empty(home: &Home, ways: Ways) -> Self {
        let stage = home.stage();
        ARGO.get_or_init(|| ArgoCd::starts(stage)).await;
        let kind = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application");
        let applications = Api::namespaced_with(home.client(), NAMESPACE, &ApiResource::from_gvk(&kind));
        let repository = Repository::begins_in(home.folder().join("repository"));
        Self { home: home.clone(), repository, applications, ways }
    }

    async fn applies(&self) {
        let mut spec = json!({
            "project": "default",
            "source": { "repoURL": self.repository.url(), "path": ".", "targetRevision": "main" },
            "destination": { "server": "https://kubernetes.default.svc", "namespace": self.home.name() },
            "syncPolicy": { "automated": { "selfHeal": true, "prune": true } },
        });
        let entry = json!([{ "kind": "Service", "managedFieldsManagers": ["alongside"] }]);
        match self.ways {
            Ways::WithoutTheLabel | Ways::WithTheLabel => {}
            Ways::Ignored => {
                spec["ignoreDifferences"] = entry;
                spec["syncPolicy"]["syncOptions"] = json!(["RespectIgnoreDifferences=true"]);
            }
            Ways::IgnoredServerSide => {
                spec["ignoreDifferences"] = entry;
                spec["syncPolicy"]["syncOptions"] = json!(["RespectIgnoreDifferences=true", "ServerSideApply=true"]);
            }
        }
        let application = json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": { "name": self.home.name(), "namespace": NAMESPACE },
            "spec": spec,
        });
        self.is_applied(application).await;
    }

    async fn is_applied(&self, application: Value) {
        let application = serde_json::from_value(application).expect("it is an object");
        self.applications.create(&PostParams::default(), &application).await.expect("an Application can be made");
    }

    /// The Service as Git has it, with a label that no one minds.
    pub fn service_in_git_with(&self, label: &str) -> Value {
        let mut service = self.service_in_git();
        service["metadata"]["labels"] = json!({ "example.com/of-no-account": label });
        service
    }

    fn service_in_git(&self) -> Value {
        let selector = match self.ways {
            Ways::WithoutTheLabel => json!({ "app": APP }),
            Ways::WithTheLabel | Ways::Ignored | Ways::IgnoredServerSide => json!({ "app": APP, "version": "v1" }),
        };
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": APP },
            "spec": { "selector": selector, "ports": [{ "port": 80, "targetPort": 8080 }] },
        })
    }

    fn side(version: &str) -> Value {
        let labels = json!({ "app": APP, "version": version });
        let container = json!({
            "name": "server",
            "image": "localhost/toolbox:1",
            "imagePullPolicy": "Never",
            "command": ["sh", "-c", "mkdir -p /tmp/www/cgi-bin; cd /tmp/www; echo $VERSION > index.html; \
                printf '#!/bin/sh\\necho Content-Type: application/json; echo; echo \\x27{\"connections\": 0}\\x27\\n' > cgi-bin/drain; \
                chmod +x cgi-bin/drain; exec httpd -f -p 8080 -h /tmp/www"],
            "env": [{ "name": "VERSION", "value": version }],
            "readinessProbe": { "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1 },
        });
        let pod = json!({
            "containers": [container],
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 0,
        });
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": format!("{APP}-{version}") },
            "spec": {
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": pod },
            },
        })
    }

    /// A side with something changed in its pods, that starts them anew.
    pub fn mended_side(version: &str) -> Value {
        let mut side = Self::side(version);
        side["spec"]["template"]["metadata"]["annotations"] = json!({ "example.com/mended": "yes" });
        side
    }

    /// The Migration as Git has it.
    pub fn migration(spec: &Value) -> Value {
        json!({
            "apiVersion": "alongside.dev/v1alpha1",
            "kind": "Migration",
            "metadata": { "name": MIGRATION },
            "spec": spec,
        })
    }

    /// The same with annotations.
    pub fn migration_with(spec: &Value, annotations: &Value) -> Value {
        let mut migration = Self::migration(spec);
        migration["metadata"]["annotations"] = annotations.clone();
        migration
    }

    /// A ConfigMap of a later wave.
    pub fn of_a_later_wave(name: &str) -> Value {
        let wave = json!({ "argocd.argoproj.io/sync-wave": "1" });
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "annotations": wave }, "data": {} })
    }

    /// Whether a ConfigMap is there.
    pub async fn has(&self, name: &str) -> bool {
        let maps: Api<ConfigMap> = self.home.all();
        maps.get_opt(name).await.expect("ConfigMaps can be read").is_some()
    }

    /// Runs an action on the Migration and expects it to be taken.
    pub async fn acts(&self, action: &str) {
        let said = self.tries_to_act(action).await;
        assert!(said.success, "{action}: {}{}", said.stdout, said.stderr);
    }

    /// Runs an action on the Migration.
    pub async fn tries_to_act(&self, action: &str) -> Said {
        let argo = ARGO.get().expect("Argo CD runs");
        let (name, action) = (self.home.name().to_owned(), action.to_owned());
        tokio::task::spawn_blocking(move || argo.acts(&name, &action)).await.expect("the command ends")
    }

    /// What Argo CD says of the Application.
    pub async fn status(&self) -> Value {
        let application = self.applications.get(self.home.name()).await.expect("the Application is there");
        application.data["status"].clone()
    }

    /// Tells Argo CD to look at Git and the cluster again, as a webhook does, and waits until it has.
    pub async fn is_looked_at_again(&self) {
        let before = self.status().await["reconciledAt"].clone();
        // Its times have no fractions.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        self.is_asked_to_look().await;
        within(PATIENCE, "Argo CD has looked again", async || {
            let application = self.applications.get(self.home.name()).await.map_err(|error| error.to_string())?;
            let asked = application.annotations().contains_key("argocd.argoproj.io/refresh");
            let seen = &application.data["status"]["reconciledAt"];
            if !asked && *seen != before { Ok(()) } else { Err(format!("reconciled at {seen}")) }
        })
        .await;
    }

    async fn is_asked_to_look(&self) {
        let patch = json!({ "metadata": { "annotations": { "argocd.argoproj.io/refresh": "normal" } } });
        let patched = self.applications.patch(self.home.name(), &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.expect("the Application can be changed");
    }

    /// Waits until this commit is what Argo CD compares with, and the cluster is as it says.
    pub async fn is_synced_to(&self, commit: &str) {
        self.is_looked_at_again().await;
        self.is(&format!("synced to {commit}"), |status| {
            status["sync"]["status"] == "Synced" && status["sync"]["revision"] == commit
        })
        .await;
    }

    /// Waits until Argo CD says something of the Application.
    pub async fn is(&self, sentence: &str, so: impl Fn(&Value) -> bool) -> Value {
        within(PATIENCE, &format!("the Application is {sentence}"), async || {
            let status = self.status().await;
            if so(&status) { Ok(status) } else { Err(briefly(&status)) }
        })
        .await
    }

    /// Waits until the whole is healthy.
    pub async fn is_healthy(&self) {
        self.is("healthy", |status| status["health"]["status"] == "Healthy").await;
    }

    /// Waits until the Migration fares like this, with this in its message. Argo CD looks by itself when the health
    /// becomes another; the message it reads again whenever it looks.
    pub async fn fares(&self, health: &str, words: &str) {
        within(PATIENCE, &format!("the Migration is {health}: {words}"), async || {
            let told = migration_in(&self.status().await);
            let message = told["message"].as_str().unwrap_or_default();
            if told["status"] == health && message.contains(words) {
                return Ok(());
            }
            self.is_asked_to_look().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            Err(told.to_string())
        })
        .await;
    }

    /// Waits until Argo CD says that the Migration fares like this, without being told to look.
    pub async fn is_seen_to_be(&self, health: &str) {
        self.is(&format!("{health} for its Migration"), |status| migration_in(status)["status"] == health).await;
    }

    /// How the sync goes: `Running`, `Succeeded`, `Failed`.
    pub async fn sync(&self) -> (String, String) {
        let status = self.status().await;
        let text = |field: &str| status["operationState"][field].as_str().unwrap_or_default().to_owned();
        (text("phase"), text("startedAt"))
    }

    /// Argo CD looks again, twice, and finds nothing to do: no sync begins, and traffic stays.
    pub async fn is_left_alone_on(&self, version: &str) {
        self.is("done with its sync", |status| status["operationState"]["phase"] != "Running").await;
        let before = self.sync().await;
        for _ in 0..2 {
            self.is_looked_at_again().await;
            assert_eq!(self.points_at().await, version);
        }
        let status = self.status().await;
        assert_eq!(status["sync"]["status"], "Synced", "{status}");
        assert_eq!(self.sync().await, before, "a sync has begun");
        self.serves(version).await;
    }

    /// The version that the selector names.
    pub async fn points_at(&self) -> String {
        let selector = self.service().await.spec.and_then(|spec| spec.selector).unwrap_or_default();
        selector.get("version").cloned().unwrap_or_default()
    }

    /// The Service as it is.
    pub async fn service(&self) -> Service {
        self.home.all::<Service>().get(APP).await.expect("the Service is there")
    }

    /// Waits until new connections are answered by this version.
    pub async fn serves(&self, version: &str) {
        let ip = self.service().await.spec.and_then(|spec| spec.cluster_ip).expect("the Service has an address");
        within(PATIENCE, &format!("{version} serves"), async || {
            let client = reqwest::Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(5)).build();
            let client = client.map_err(|error| error.to_string())?;
            let answer = client.get(format!("http://{ip}/")).send().await.map_err(|error| error.to_string())?;
            match answer.text().await.map_err(|error| error.to_string())?.trim() {
                seen if seen == version => Ok(()),
                seen => Err(format!("{seen} does")),
            }
        })
        .await;
    }
}

/// What a failed story needs to know of the Application.
fn briefly(status: &Value) -> String {
    let operation = &status["operationState"];
    format!(
        "{} {} at {}, sync {} {}, Migration {}",
        status["health"],
        status["sync"]["status"],
        status["sync"]["revision"],
        operation["phase"],
        operation["message"],
        migration_in(status)
    )
}

fn migration_in(status: &Value) -> Value {
    let resources = status["resources"].as_array().map_or(&[][..], Vec::as_slice);
    resources.iter().find(|resource| resource["kind"] == "Migration").map_or(Value::Null, |r| r["health"].clone())
}

/// What a Retry of this attempt must be bound to.
pub fn any_phase_of(status: &MigrationStatus) -> String {
    let plan = status.plan.as_ref().expect("a plan is frozen");
    format!("*@{}/{}", plan.hash, status.attempt)
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Self-heal would bring back what the story's end takes away.
        let cluster = self.home.stage().cluster();
        cluster.say("kubectl", &["delete", "application", self.home.name(), "--namespace", NAMESPACE], "");
    }
}
