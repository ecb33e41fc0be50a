//! Setting the stage: what an earlier demo left goes, the operator is installed, the shops and their Prometheus come up.
//! Touches the network.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    clock::Clock,
    manifests::{Images, Manifests},
    script::{ACTS, LABEL, METRICS_NAMESPACE, OPERATOR_NAMESPACE},
    tell,
    tools::{ToolError, Tools},
};

/// For a question that the API server answers at once, on a machine that is busy.
pub const QUICK: Duration = Duration::from_secs(30);
/// For pods to be there: images are on the node or come from the user's registry.
const PODS: Duration = Duration::from_mins(2);
/// For what an earlier demo left to be gone: pods end within seconds, a Migration takes its traffic back first.
const CLEANING: Duration = Duration::from_mins(2);
/// The Helm release.
const RELEASE: &str = "alongside";

/// Why there is no stage.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A namespace that the demo would use belongs to someone else.
    #[error(
        "there is a namespace {0} that no demo made (it lacks the label {LABEL}); it is left alone. Delete it yourself, \
         or take another cluster"
    )]
    NotOurs(String),
    /// No password could be made.
    #[error("no randomness for a password")]
    Password(#[source] io::Error),
}

/// What the stage is set with.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The cluster.
    pub tools: &'a Tools,
    /// The images.
    pub images: &'a Images,
    /// The folder of the chart.
    pub chart: PathBuf,
    /// Changes whenever the operator's image does, though its name may not.
    pub build: String,
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "serverVersion")]
    server: ServerVersion,
}

#[derive(Deserialize)]
struct ServerVersion {
    #[serde(rename = "gitVersion")]
    git: String,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Value>,
}

impl Stage<'_> {
    /// Returns the version of the API server, and so whether there is one.
    pub fn kubernetes(&self) -> Result<String, ToolError> {
        let version: Version = self.tools.read(&["version", "--output=json"], QUICK)?;
        Ok(version.server.git)
    }

    /// Sets the stage, telling what it does.
    pub fn set(&self, clock: Clock) -> Result<(), StageError> {
        self.clear(clock)?;
        self.make_namespaces()?;
        clock.tell("helm installs the operator; Postgres, blue (v1) and Prometheus start beside it");
        thread::scope(|scope| {
            let mut at_work = vec![scope.spawn(|| self.install(clock)), scope.spawn(|| self.start_prometheus())];
            at_work.extend(ACTS.iter().map(|act| scope.spawn(|| self.open_shop(act.namespace))));
            at_work.into_iter().try_for_each(|work| work.join().expect("no worker of the stage panics"))
        })?;
        clock.tell("all of it runs");
        Ok(())
    }

    /// Removes what an earlier demo left, and nothing else.
    fn clear(&self, clock: Clock) -> Result<(), StageError> {
        let mine = self.namespaces(&format!("{LABEL}=true"))?;
        let all = self.namespaces("")?;
        let wanted = || ACTS.iter().map(|act| act.namespace).chain([METRICS_NAMESPACE, OPERATOR_NAMESPACE]);
        if let Some(taken) = wanted().find(|name| contains(&all, name) && !contains(&mine, name)) {
            return Err(StageError::NotOurs(taken.to_owned()));
        }
        let shops: Vec<_> = mine.iter().filter(|name| *name != OPERATOR_NAMESPACE).collect();
        if shops.is_empty() {
            return Ok(());
        }
        clock.tell("an earlier demo is cleared away");
        let limit = seconds(CLEANING);
        // First the Migrations, while there is an operator to let go of them.
        for shop in shops.iter().filter(|name| **name != METRICS_NAMESPACE) {
            let arguments =
                ["delete", "migrations", "--all", "--ignore-not-found", "--namespace", shop, "--timeout", &limit];
            match self.tools.kubectl(&arguments, CLEANING + QUICK) {
                // Without the CRD there is no Migration.
                Err(ToolError::Failed { said, .. }) if said.contains("the server doesn't have a resource type") => {}
                other => drop(other?),
            }
        }
        let mut arguments = vec!["delete", "namespace", "--timeout", &limit];
        arguments.extend(shops.iter().map(|name| name.as_str()));
        self.tools.kubectl(&arguments, CLEANING + QUICK)?;
        Ok(())
    }

    fn namespaces(&self, selector: &str) -> Result<Vec<String>, ToolError> {
        let list: List = self.tools.read(&["get", "namespaces", "--selector", selector, "--output=json"], QUICK)?;
        let name = |item: &Value| item["metadata"]["name"].as_str().map(ToOwned::to_owned);
        Ok(list.items.iter().filter_map(name).collect())
    }

    fn make_namespaces(&self) -> Result<(), ToolError> {
        let names = ACTS.iter().map(|act| act.namespace).chain([METRICS_NAMESPACE, OPERATOR_NAMESPACE]);
        let namespace = |name| {
            let labels = json!({ LABEL: "true", "pod-security.kubernetes.io/enforce": "restricted" });
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
        };
        let all = json!({ "apiVersion": "v1", "kind": "List", "items": names.map(namespace).collect::<Vec<_>>() });
        self.tools.kubectl_with(&all.to_string(), &["apply", "--filename=-"], QUICK)?;
        Ok(())
    }

    fn install(&self, clock: Clock) -> Result<(), StageError> {
        let chart = self.chart.to_string_lossy();
        let set = [
            format!("image.repository={}", self.images.operator()),
            format!("image.tag={}", self.images.tag),
            "providers[0].name=default".to_owned(),
            format!("providers[0].url=http://prometheus.{METRICS_NAMESPACE}:9090"),
        ];
        let build = format!("podAnnotations.alongside\\.dev/demo-build={}", self.build);
        let limit = seconds(PODS);
        let mut arguments = vec!["upgrade", "--install", RELEASE, &*chart, "--namespace", OPERATOR_NAMESPACE];
        arguments.extend(["--wait", "--timeout", &limit, "--set-string", &build]);
        for value in &set {
            arguments.extend(["--set", value]);
        }
        self.tools.helm(&arguments, PODS + QUICK)?;
        clock.tell("the operator is ready");
        Ok(())
    }

    fn start_prometheus(&self) -> Result<(), StageError> {
        self.apply(&Manifests::prometheus(METRICS_NAMESPACE, self.images))?;
        self.rolled_out(METRICS_NAMESPACE, "deployment/prometheus")
    }

    fn open_shop(&self, namespace: &str) -> Result<(), StageError> {
        let secret = Manifests::secret(namespace, &password().map_err(StageError::Password)?);
        self.apply(&secret)?;
        self.apply(&Manifests::shop(namespace, self.images))?;
        for owner in ["statefulset/inventory-db", "deployment/inventory-v1"] {
            self.rolled_out(namespace, owner)?;
        }
        let limit = seconds(PODS);
        let job = ["wait", "--for=condition=Complete", "job/inventory-init-db", "--timeout", &limit];
        self.tools.kubectl(&[&["--namespace", namespace][..], &job].concat(), PODS + QUICK)?;
        Ok(())
    }

    fn rolled_out(&self, namespace: &str, owner: &str) -> Result<(), StageError> {
        let limit = seconds(PODS);
        let arguments = ["--namespace", namespace, "rollout", "status", owner, "--timeout", &limit];
        self.tools.kubectl(&arguments, PODS + QUICK)?;
        Ok(())
    }

    fn apply(&self, manifests: &Manifests) -> Result<(), StageError> {
        // Server-side, so that no annotation holds a copy of the Secret.
        self.tools.kubectl_with(&manifests.text(), &["apply", "--server-side", "--filename=-"], QUICK)?;
        Ok(())
    }
}

fn contains(names: &[String], name: &str) -> bool {
    names.iter().any(|known| known == name)
}

fn seconds(limit: Duration) -> String {
    format!("{}s", limit.as_secs())
}

/// A password for one database, known to nobody else.
fn password() -> io::Result<String> {
    use io::Read as _;
    let mut bytes = [0_u8; 16];
    fs::File::open(Path::new("/dev/urandom"))?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The commands that look around on the stage once all is over.
pub fn to_look_around(kubectl: &str) -> Vec<(String, &'static str)> {
    let happy = ACTS[0].namespace;
    let errors = ACTS[1].namespace;
    vec![
        (format!("{kubectl} get migrations -A"), "where each of them ended"),
        (format!("{kubectl} -n {errors} describe migration inventory-v2"), "why, who and when: the audit trail"),
        (format!("{kubectl} -n {errors} get events --sort-by=.lastTimestamp"), "what was said meanwhile"),
        (format!("{kubectl} -n {happy} get service inventory -o yaml"), "the selector and the operator's mark"),
        (format!("{kubectl} -n {OPERATOR_NAMESPACE} logs deployment/alongside"), "the operator's own account"),
        (format!("{kubectl} -n {happy} scale deployment/load --replicas=1"), "the load again, and what it counts:"),
        (format!("{kubectl} get --raw {}", crate::shop::load_path(happy, "stats")), ""),
    ]
}

/// Prints them.
pub fn show_how_to_look_around(kubectl: &str) {
    for (command, purpose) in to_look_around(kubectl) {
        if !purpose.is_empty() {
            println!("  {}", tell::faint(&format!("# {purpose}")));
        }
        println!("  {command}");
    }
}
