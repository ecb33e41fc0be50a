//! A story's home: a namespace, the rights of the operators that look after it, and what is left to look at when the
//! story fails.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use alongside::api::Migration;
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, ResourceQuota, ServiceAccount},
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    app::App,
    journey::Journey,
    operator::Operator,
    prometheus::Prometheus,
    stage::{OPERATOR, RELEASE, Stage},
    support::wait::within,
};

/// Longest part of a sentence in a namespace's name.
const LONGEST: usize = 40;
/// The flag for a log that people read.
const TEXT: &str = "--log-format=text";
/// Lines of an operator's log that a failed story shows.
const LINES: usize = 40;

/// A story's home. A clone is another handle.
#[derive(Clone)]
pub struct Home(Arc<Walls>);

struct Walls {
    name: String,
    stage: Stage,
    folder: PathBuf,
}

impl Home {
    /// Makes a home for the story of this sentence.
    pub fn new(stage: Stage, sentence: &str) -> Self {
        let short: String = sentence.chars().filter(char::is_ascii).take(LONGEST).collect();
        let short = short.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let name = format!("{}-{}", short.trim_matches('-'), stage.number());
        let folder = stage.folder().join(&name);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let home = Self(Arc::new(Walls { name, stage, folder }));
        home.stage().run(async || home.build().await);
        home
    }

    async fn build(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client());
        let namespace = made(json!({ "metadata": { "name": self.name() } }));
        namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace can be made");
        // The lease of this home's operators is here, so the rights that the chart gives at home are too.
        let roles: Api<Role> = Api::namespaced(self.client(), RELEASE);
        let role = roles.get(&format!("{OPERATOR}-home")).await.expect("the chart has a role for its own namespace");
        self.create::<Role>(json!({ "metadata": { "name": "lease" }, "rules": role.rules })).await;
        self.create::<RoleBinding>(json!({
            "metadata": { "name": "lease" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lease" },
            "subjects": [{ "kind": "ServiceAccount", "name": OPERATOR, "namespace": RELEASE }],
        }))
        .await;
        let accounts: Api<ServiceAccount> = self.all();
        within(Duration::from_secs(30), "pods may be made", async || accounts.get("default").await).await;
    }

    /// The namespace.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What all stories share.
    pub fn stage(&self) -> &Stage {
        &self.0.stage
    }

    /// Where this story's files are.
    pub fn folder(&self) -> &PathBuf {
        &self.0.folder
    }

    /// A client with every right.
    pub fn client(&self) -> Client {
        self.stage().client()
    }

    /// This home's objects of a kind.
    pub fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client(), self.name())
    }

    /// Makes an object here.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let object: K = made(object);
        self.all().create(&PostParams::default(), &object).await.expect("the object can be made")
    }

    /// Starts the operator `name`, which asks the Prometheus that all share, and doesn't wait.
    pub fn operator(&self, name: &str) -> Operator {
        self.operator_asking(name, self.stage().prometheus())
    }

    /// Starts the operator `name`, which asks this Prometheus, and the shared one under the name `shared`.
    pub fn operator_asking(&self, name: &str, prometheus: &Prometheus) -> Operator {
        let program = Path::new(env!("CARGO_BIN_EXE_alongside"));
        Operator::start(self, name, program, &self.providers(prometheus), &[TEXT.to_owned()])
    }

    /// Starts the operator `name` from another file.
    pub fn operator_from(&self, program: &Path, name: &str) -> Operator {
        Operator::start(self, name, program, &self.providers(self.stage().prometheus()), &[TEXT.to_owned()])
    }

    /// Starts the operator `name` with these flags, of which one is to say what its log looks like.
    pub fn operator_with(&self, name: &str, flags: &[String]) -> Operator {
        let program = Path::new(env!("CARGO_BIN_EXE_alongside"));
        Operator::start(self, name, program, &self.providers(self.stage().prometheus()), flags)
    }

    fn providers(&self, prometheus: &Prometheus) -> PathBuf {
        let provider =
            |name: &str, url: String| json!({ "name": name, "url": url, "allowedNamespaces": [self.name()] });
        let shared = provider("shared", self.stage().prometheus().url());
        let path = self.folder().join("providers.yaml");
        std::fs::write(&path, json!([provider("default", prometheus.url()), shared]).to_string())
            .expect("a file can be written");
        path
    }

    /// A Prometheus of this home's own, which scrapes the ledger too.
    pub async fn prometheus(&self) -> Prometheus {
        let stage = self.stage();
        let folder = self.folder().join("prometheus");
        Prometheus::starts(stage.cluster(), folder, stage.address(), &stage.ledger().target()).await
    }

    /// Starts an operator and waits until it leads.
    pub async fn leader(&self, name: &str) -> Operator {
        let operator = self.operator(name);
        operator.leads().await;
        operator
    }

    /// Brings up an app: a Service, and a pod on each of its sides.
    pub async fn app(&self, name: &str) -> App {
        App::comes_up(self, name).await
    }

    /// Begins a migration with this spec.
    pub async fn migrates(&self, name: &str, spec: Value) -> Journey {
        Journey::begins(self, name, spec).await
    }

    /// Waits until a quota counts: until then the API server knows of none.
    pub async fn has_quota(&self, name: &str) {
        let quotas: Api<ResourceQuota> = self.all();
        within(Duration::from_secs(30), &format!("quota {name} counts"), async || match quotas.get(name).await {
            Ok(quota) if quota.status.as_ref().is_some_and(|status| status.hard.is_some()) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// How often something has been reported as done.
    pub fn times(&self, what: &str) -> u32 {
        self.stage().ledger().times(self.name(), what)
    }

    /// Waits until something has been reported as done.
    pub async fn hears_of(&self, what: &str) {
        within(Duration::from_mins(1), &format!("{what} is reported"), async || match self.times(what) {
            0 => Err("not yet"),
            _ => Ok(()),
        })
        .await;
    }

    /// Lets Jobs pass that wait at a gate.
    pub fn opens(&self, gate: &str) {
        self.stage().ledger().open(self.name(), gate);
    }

    /// Sets a figure that Prometheus scrapes, and waits until it has been.
    pub async fn figure_is(&self, figure: &str, value: f64) {
        self.figure_reads(figure, &format!("{figure}{{home=\"{}\"}} {value}", self.name())).await;
    }

    /// Writes a figure's lines as Prometheus is to read them, and waits until it has.
    pub async fn figure_reads(&self, figure: &str, lines: &str) {
        self.stage().ledger().write(self.name(), figure, lines);
        self.stage().ledger().is_read().await;
    }

    /// What is here, for whoever has to find out why a story failed.
    pub fn looks_like(&self) -> String {
        let mut text = String::new();
        let cluster = self.stage().cluster();
        let show = ["get", "migrations,pods,jobs,services", "--output=wide", "--namespace", self.name()];
        writeln!(text, "{}", cluster.say("kubectl", &show, "").stdout).expect("writing to a String cannot fail");
        let status =
            ["get", "migrations", "--namespace", self.name(), "--output=jsonpath={range .items[*]}{.status}{end}"];
        writeln!(text, "{}", cluster.say("kubectl", &status, "").stdout).expect("writing to a String cannot fail");
        for entry in std::fs::read_dir(self.folder()).into_iter().flatten().flatten() {
            let Ok(log) = std::fs::read_to_string(entry.path().join("log")) else { continue };
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
            writeln!(text, "--- {}\n{last}", entry.path().display()).expect("writing to a String cannot fail");
        }
        text
    }

    /// Ends what runs here: the other stories need the processors.
    pub fn clear(&self) {
        self.stage().run(async || {
            let now = DeleteParams::default().grace_period(0);
            let pods: Api<Pod> = self.all();
            pods.delete_collection(&now, &ListParams::default()).await.ok();
            let migrations: Api<Migration> = self.all();
            for migration in migrations.list(&ListParams::default()).await.into_iter().flatten() {
                migrations.delete(&migration.name_any(), &DeleteParams::default()).await.ok();
            }
        });
    }
}

/// An object from its JSON.
pub fn made<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("the object is one of its kind")
}
