//! A real Kubernetes for tests, brought up by `tests/cluster/up` in a network of its own.
//!
//! ```text
//! static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::api_only("admission"));
//!
//! CLUSTER.run(async || { Api::<Node>::all(CLUSTER.client()).list(&default()).await })
//! ```
//!
//! A socket belongs to the network in which its thread was when it was made. So a cluster comes with a runtime whose
//! threads have entered the cluster's network: inside [`Cluster::run`], `127.0.0.1` and every Service and pod address
//! mean the cluster's. A client used on another runtime finds nothing there.
//!
//! The cluster ends when the value is dropped, and also when the test process ends in any other way, a panic in a
//! `static` and `kill -9` included: the keeper, a process beside it, holds the reading end of a pipe and takes the
//! cluster down when the writing end is gone. `ALONGSIDE_KEEP_CLUSTER=1` leaves it up, to be looked at by hand.

use std::{
    ffi::OsStr,
    fs::File,
    io::Write as _,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Builder, Runtime};

/// A cluster that is up. See the module's documentation.
pub struct Cluster {
    name: String,
    state: PathBuf,
    network: Arc<File>,
    config: Config,
    runtime: Option<Runtime>,
    keeper: Option<Keeper>,
}

/// How much of Kubernetes to bring up.
#[derive(Clone, Copy)]
enum Parts {
    /// etcd, API server and controller manager: no pod can run.
    ApiOnly,
    /// A node too, with DNS.
    Full,
}

/// What a command run to its end has to say.
#[derive(Debug)]
pub struct Said {
    /// Whether it ended with 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Cluster {
    /// Brings up an API server with etcd and the controller manager, in about 4 s.
    pub fn api_only(purpose: &str) -> Self {
        Self::up(purpose, Parts::ApiOnly)
    }

    /// Brings up a whole cluster with one node.
    pub fn full(purpose: &str) -> Self {
        Self::up(purpose, Parts::Full)
    }

    /// `purpose` is at most 12 of a-z; with the process's id it makes the cluster's name, so that several can be up.
    fn up(purpose: &str, parts: Parts) -> Self {
        take_down_what_dead_runs_left(purpose);
        let name = format!("{purpose}-{}", std::process::id());
        // Before the cluster itself: a run that is killed while it comes up leaves nothing either.
        let keeper = std::env::var_os("ALONGSIDE_KEEP_CLUSTER").is_none().then(|| Keeper::of(&name));
        let mut up = script("up");
        up.arg(&name);
        match parts {
            Parts::ApiOnly => up.arg("--api-only"),
            Parts::Full => &mut up,
        };
        let said: Said = up.stdin(Stdio::null()).output().expect("tests/cluster/up can be run").into();
        assert!(said.success, "the cluster {name} did not come up:\n{}", said.stderr);

        let state = clusters().join(&name);
        let init = std::fs::read_to_string(state.join("init.pid")).expect("the cluster has a first process");
        let network = File::open(format!("/proc/{}/ns/net", init.trim())).expect("the cluster has a network");
        let network = Arc::new(network);
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start({
                let network = Arc::clone(&network);
                move || enter(&network)
            })
            .build()
            .expect("a runtime starts");
        let kubeconfig = Kubeconfig::read_from(state.join("kubeconfig")).expect("the cluster has a kubeconfig");
        let config = runtime
            .block_on(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()))
            .expect("the cluster's kubeconfig is whole");
        Self { name, state, network, config, runtime: Some(runtime), keeper }
    }

    /// The cluster's name, for `tests/cluster/in NAME kubectl ...` by hand.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a story to its end in the cluster's network, on a thread of its own.
    pub fn run<T: Send>(&self, story: impl AsyncFnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let told = scope.spawn(|| {
                enter(&self.network);
                self.runtime().block_on(story())
            });
            told.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A client with every right. To be used inside [`Cluster::run`].
    pub fn client(&self) -> Client {
        self.client_from(self.config())
    }

    /// A client that acts as a user who is in `groups`, by impersonation.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = self.config();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|&group| group.to_owned()).collect());
        self.client_from(config)
    }

    fn client_from(&self, config: Config) -> Client {
        let _inside = self.runtime().enter();
        Client::try_from(config).expect("the cluster's kubeconfig makes a client")
    }

    /// What a client of the administrator's is made from.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime is there until the cluster is dropped")
    }

    /// A command that will run in the cluster's network, with its KUBECONFIG and with kubectl and helm on the PATH.
    pub fn command(&self, program: &str) -> Command {
        let mut command = script("in");
        command.arg(&self.name).arg(program).current_dir(root());
        command
    }

    /// Runs a program in the cluster to its end, with `input` to read.
    pub fn say<A: AsRef<OsStr>>(&self, program: &str, args: &[A], input: &str) -> Said {
        let mut command = self.command(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("tests/cluster/in can be run");
        // What a program doesn't read to its end is its own affair.
        child.stdin.take().expect("stdin is a pipe").write_all(input.as_bytes()).ok();
        child.wait_with_output().expect("the program ends").into()
    }

    /// Runs kubectl and returns what it prints.
    ///
    /// # Panics
    /// If it fails, with its error output.
    pub fn kubectl<A: AsRef<OsStr>>(&self, args: &[A]) -> String {
        self.kubectl_with(args, "")
    }

    /// Applies YAML as `kubectl apply -f -` does: client-side, fields that the schema doesn't know refused.
    pub fn apply(&self, yaml: &str) {
        self.kubectl_with(&["apply", "-f", "-"], yaml);
    }

    fn kubectl_with<A: AsRef<OsStr>>(&self, args: &[A], input: &str) -> String {
        let said = self.say("kubectl", args, input);
        let shown: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
        assert!(said.success, "kubectl {}: {}", shown.join(" "), said.stderr);
        said.stdout
    }

    /// Imports image archives, so that pods can use them.
    pub fn load<P: AsRef<OsStr>>(&self, archives: &[P]) {
        let said: Said = script("load").arg(&self.name).args(archives).output().expect("load can be run").into();
        assert!(said.success, "images could not be loaded: {}", said.stderr);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Connections first: the API server waits for them before it ends.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.end();
        }
    }
}

/// The process that takes a cluster down once nobody holds the other end of its pipe.
struct Keeper(Child);

impl Keeper {
    fn of(name: &str) -> Self {
        let keeper = Command::new("sh")
            .args(["-c", "read -r _; exec \"$0\" \"$1\""])
            .arg(root().join("tests/cluster/down"))
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A Ctrl-C that ends the tests must not end it.
            .process_group(0)
            .spawn()
            .expect("sh can be run");
        Self(keeper)
    }

    /// Takes the cluster down and waits for that.
    fn end(mut self) {
        drop(self.0.stdin.take());
        let ended = self.0.wait();
        if !std::thread::panicking() {
            assert!(ended.is_ok_and(|status| status.success()), "the cluster could not be taken down");
        }
    }
}

/// Takes down clusters whose test process is gone, and whose keeper could not do its part.
fn take_down_what_dead_runs_left(purpose: &str) {
    let Ok(folder) = std::fs::read_dir(clusters()) else { return };
    for entry in folder.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(purpose).and_then(|rest| rest.strip_prefix('-'));
        let Some(pid) = pid.filter(|pid| pid.parse::<u32>().is_ok()) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            script("down").arg(&name).status().ok();
        }
    }
}

fn enter(network: &File) {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter the cluster's network");
}

fn script(name: &str) -> Command {
    Command::new(root().join("tests/cluster").join(name))
}

/// Where clusters keep their state; `tests/cluster/lib.sh` says the same.
fn clusters() -> PathBuf {
    std::env::var_os("ALONGSIDE_CLUSTERS").map_or_else(|| "/var/lib/alongside/clusters".into(), PathBuf::from)
}

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
