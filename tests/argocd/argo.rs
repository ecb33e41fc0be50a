//! Argo CD itself: its controller, repository server and API server with the ServiceAccounts and the rights that its own
//! manifests give them, as processes in the cluster's network.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    stage::Stage,
    support::{
        cluster::{Said, root},
        wait::within,
    },
};

/// Where Argo CD lives.
pub const NAMESPACE: &str = "argocd";
/// Where its API server answers; it listens on every address, and 8080 is the operators'.
const SERVER: &str = "127.0.0.1:8480";
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running Argo CD. It ends with the cluster, whose processes its own are.
pub struct ArgoCd {
    folder: PathBuf,
    stage: Stage,
}

/// What `tests/cluster/argocd/build` has built, made now if it isn't there.
pub fn built() -> PathBuf {
    let said = Command::new(root().join("tests/cluster/argocd/build")).stderr(Stdio::inherit()).output();
    let said = said.expect("tests/cluster/argocd/build can be run");
    assert!(said.status.success(), "Argo CD could not be built");
    PathBuf::from(String::from_utf8_lossy(&said.stdout).trim())
}

/// Our part of its configuration.
pub fn component() -> PathBuf {
    root().join("deploy/argocd")
}

impl ArgoCd {
    /// Installs and starts it.
    pub async fn starts(stage: &Stage) -> Self {
        let folder = stage.folder().join("argocd");
        std::fs::create_dir_all(folder.join("tmp")).expect("a folder can be made");
        let argo = Self { folder, stage: stage.clone() };
        let built = built();
        argo.install(&built.join("manifests"));
        let controller = argo.credentials("argocd-application-controller");
        let server = argo.credentials("argocd-server");
        argo.run(&built, "redis-server", &controller, &["--save", "", "--port", "6379", "--bind", "127.0.0.1"]);
        argo.run(
            &built,
            "argocd-repo-server",
            &controller,
            &["--redis=127.0.0.1:6379", "--port=8081", "--disable-tls", "--client-ca-path="],
        );
        let both = ["--redis=127.0.0.1:6379", "--repo-server=127.0.0.1:8081", "--repo-server-plaintext"];
        // Self-heal as soon as it may: whoever fights us is to fight at once.
        let heals =
            ["--namespace=argocd", "--self-heal-backoff-timeout-seconds=1", "--self-heal-backoff-cap-seconds=2"];
        argo.run(&built, "argocd-application-controller", &controller, &[&both[..], &heals].concat());
        let open = ["--namespace=argocd", "--insecure", "--disable-auth", "--port=8480"];
        argo.run(&built, "argocd-server", &server, &[&both[..], &open].concat());
        within(PATIENCE, "Argo CD's server answers", async || {
            reqwest::get(format!("http://{SERVER}/healthz")).await.and_then(reqwest::Response::error_for_status)
        })
        .await;
        argo
    }

    /// As `kubectl apply -k` of its manifests does, but for the Deployments, and with our component among them.
    fn install(&self, manifests: &Path) {
        let cluster = self.stage.cluster();
        cluster.kubectl(&["create", "namespace", NAMESPACE]);
        let crds = manifests.join("crds");
        cluster.kubectl(&["apply", "--server-side", "--kustomize", crds.to_str().expect("the path is text")]);
        let folder = self.folder.join("install");
        let copied = Command::new("cp").arg("-r").arg(manifests).arg(&folder).status().expect("cp can be run");
        assert!(copied.success());
        let copied = Command::new("cp").arg("-r").arg(component()).arg(folder.join("alongside")).status();
        assert!(copied.expect("cp can be run").success());
        let accounts = ["application-controller-roles/argocd-application-controller", "server/argocd-server"];
        let accounts = accounts
            .iter()
            .flat_map(|who| ["sa", "role", "rolebinding"].map(|what| format!("../base/{who}-{what}.yaml")));
        let resources: Vec<_> = accounts.chain(["../base/config".to_owned(), "../cluster-rbac".to_owned()]).collect();
        let kustomization = serde_json::json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": resources,
            "components": ["../alongside"],
        });
        std::fs::create_dir_all(folder.join("whole")).expect("a folder can be made");
        std::fs::write(folder.join("whole/kustomization.yaml"), kustomization.to_string())
            .expect("a file can be written");
        let whole = folder.join("whole");
        let whole = whole.to_str().expect("the path is text");
        let rendered = cluster.kubectl(&["kustomize", "--load-restrictor=LoadRestrictionsNone", whole]);
        cluster.apply(&rendered);
        cluster.apply(
            "{apiVersion: argoproj.io/v1alpha1, kind: AppProject, metadata: {name: default, namespace: argocd}, \
             spec: {sourceRepos: ['*'], destinations: [{namespace: '*', server: '*'}], \
             clusterResourceWhitelist: [{group: '*', kind: '*'}]}}",
        );
    }

    /// A kubeconfig of one of its ServiceAccounts.
    fn credentials(&self, account: &str) -> PathBuf {
        let cluster = self.stage.cluster();
        let token = cluster.kubectl(&["create", "token", account, "--namespace", NAMESPACE, "--duration=3h"]);
        let text = cluster.kubectl(&["config", "view", "--raw", "--output=json"]);
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        config["users"][0]["user"] = serde_json::json!({ "token": token.trim() });
        config["contexts"][0]["context"]["namespace"] = NAMESPACE.into();
        let path = self.folder.join(format!("{account}.kubeconfig"));
        std::fs::write(&path, config.to_string()).expect("a file can be written");
        path
    }

    fn command(&self, built: &Path, program: &str, kubeconfig: &Path) -> Command {
        let mut command = self.stage.cluster().command("sh");
        command
            .args(["-c", "export PATH=\"$0/bin:$PATH\"; exec env \"$@\""])
            .arg(built)
            .arg(format!("KUBECONFIG={}", kubeconfig.display()))
            .arg(format!("HOME={}", self.folder.display()))
            .arg(format!("TMPDIR={}", self.folder.join("tmp").display()))
            .args(["ARGOCD_FAKE_IN_CLUSTER=true", "ARGOCD_GPG_ENABLED=false"])
            .arg("ARGOCD_APPLICATION_CONTROLLER_PERSIST_RESOURCE_HEALTH=true")
            .arg(program);
        command
    }

    fn run(&self, built: &Path, program: &str, kubeconfig: &Path, args: &[&str]) {
        let log = File::create(self.folder.join(format!("{program}.log"))).expect("a file can be made");
        let mut command = self.command(built, program, kubeconfig);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log);
        // Nobody waits for it: it ends with the cluster.
        drop(command.spawn().expect("tests/cluster/in can be run"));
    }

    /// Runs an action on an application's Migration, as the button in its page does.
    pub fn acts(&self, application: &str, action: &str) -> Said {
        let mut command = self.command(&built(), "argocd", Path::new("/dev/null"));
        command.args(["app", "actions", "run", application, action, "--kind=Migration"]);
        command.args(["--server", SERVER, "--plaintext", "--auth-token=none"]);
        command.stdin(Stdio::null()).output().expect("tests/cluster/in can be run").into()
    }
}
