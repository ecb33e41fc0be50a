//! Draining: open connections are asked to leave the side that lost the traffic. Runs beside the reconcile loop, for
//! pods answer slowly; what it found is looked at, not waited for.
//!
//! Promises kept here: what remains is counted where the pods say so, and is unknown where they don't. Nobody is asked or
//! evicted once the drain's time is over, or by one who doesn't lead any more, for its pods may be the way back by then.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Service};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Preconditions},
};
use serde::Deserialize;
use tokio_util::task::AbortOnDropHandle;

use super::switch::is_serving;
use crate::{
    api::Time,
    engine::{
        effect::{DrainHookOrder, DrainOrder, DrainWay},
        world::DrainView,
    },
};

/// How often a pod's hook is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long a pod may take to answer its hook.
const HOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// The drains under way, by Migration and Service.
#[derive(Clone)]
pub struct Drains {
    client: Client,
    http: reqwest::Client,
    running: Arc<Mutex<HashMap<(String, String), Running>>>,
}

/// Whether this replica still leads in the term in which a drain began.
type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

struct Running {
    order: DrainOrder,
    leads: Leads,
    seen: Arc<Mutex<Seen>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    finished: bool,
    remaining: Option<u64>,
}

/// What a pod's hook answers.
#[derive(Deserialize)]
struct HookAnswer {
    /// Connections still to close.
    connections: Option<u64>,
}

impl Drains {
    /// Drains through this client; `http` asks the pods' hooks.
    pub fn new(client: Client, http: reqwest::Client) -> Self {
        Self { client, http, running: Arc::default() }
    }

    /// Begins a drain, unless the same one is under way. It ends once `leads` says no; `notify` is called when it has
    /// ended.
    pub fn begin(
        &self,
        uid: &str,
        namespace: &str,
        order: DrainOrder,
        now: Time,
        leads: impl Fn() -> bool + Send + Sync + 'static,
        notify: impl Fn() + Send + Sync + 'static,
    ) {
        let key = (uid.to_owned(), order.service.clone());
        let mut running = self.lock();
        if running.get(&key).is_some_and(|known| known.order == order && (known.leads)()) {
            return;
        }
        let leads: Leads = Arc::new(leads);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let drain = Drain {
            client: self.client.clone(),
            http: self.http.clone(),
            namespace: namespace.to_owned(),
            order: order.clone(),
            leads: leads.clone(),
            seen: seen.clone(),
        };
        let longest = order.until.since(now).0;
        let task = tokio::spawn(async move {
            let _ = tokio::time::timeout(longest, drain.run()).await;
            notify();
        });
        running.insert(key, Running { order, leads, seen, _task: AbortOnDropHandle::new(task) });
    }

    /// What is known of a Migration's drains, by Service.
    pub fn look(&self, uid: &str) -> BTreeMap<String, DrainView> {
        self.lock()
            .iter()
            .filter(|((owner, _), running)| owner == uid && (running.leads)())
            .map(|((_, service), running)| {
                let seen = *running.seen.lock().expect("nothing panics while it holds this lock");
                let view = DrainView { side: running.order.side, finished: seen.finished, remaining: seen.remaining };
                (service.clone(), view)
            })
            .collect()
    }

    /// Ends a Migration's drains.
    pub fn forget(&self, uid: &str) {
        self.lock().retain(|(owner, _), _| owner != uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Running>> {
        self.running.lock().expect("nothing panics while it holds this lock")
    }
}

struct Drain {
    client: Client,
    http: reqwest::Client,
    namespace: String,
    order: DrainOrder,
    leads: Leads,
    seen: Arc<Mutex<Seen>>,
}

impl Drain {
    async fn run(&self) {
        match &self.order.way {
            DrainWay::Hook(hook) => self.ask_until_empty(hook).await,
            DrainWay::RestartPods => self.restart_pods().await,
            // The decision counts that time itself.
            DrainWay::Wait(_) => {}
        }
    }

    fn report(&self, finished: bool, remaining: Option<u64>) {
        *self.seen.lock().expect("nothing panics while it holds this lock") = Seen { finished, remaining };
    }

    /// The pods of the side: those that the Service's selector would hold with the side's labels.
    async fn pods(&self) -> Result<Vec<Pod>, kube::Error> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let service = services.get(&self.order.service).await?;
        let mut labels = service.spec.and_then(|spec| spec.selector).unwrap_or_default();
        labels.extend(self.order.labels.clone());
        let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(pods.list(&ListParams::default().labels(&selector.join(","))).await?.items)
    }

    async fn ask_until_empty(&self, hook: &DrainHookOrder) {
        loop {
            if let Ok(pods) = self.pods().await {
                if !(self.leads)() {
                    return;
                }
                let asked = pods.iter().filter(|pod| may_hold_connections(pod)).filter_map(|pod| {
                    let address = pod.status.as_ref()?.pod_ip.clone()?;
                    Some(self.ask(address, hook))
                });
                let answers = futures::future::join_all(asked).await;
                // A pod that doesn't answer may still hold connections: the sum is unknown then.
                let known: Option<Vec<HookCount>> = answers.into_iter().collect();
                let left = known.as_ref().map(|counts| counts.iter().map(|count| count.left).sum());
                let counted = known.as_ref().is_some_and(|counts| counts.iter().all(|count| count.counted));
                let finished = left == Some(0);
                self.report(finished, left.filter(|_| counted));
                if finished {
                    return;
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn ask(&self, address: String, hook: &DrainHookOrder) -> Option<HookCount> {
        let host = if address.contains(':') { format!("[{address}]") } else { address };
        let url = format!("http://{host}:{}{}", hook.port, hook.path);
        let answer = self.http.post(url).timeout(HOOK_TIMEOUT).send().await.ok()?.error_for_status().ok()?;
        let text = answer.text().await.ok()?;
        let connections = serde_json::from_str::<HookAnswer>(&text).ok().and_then(|answer| answer.connections);
        Some(HookCount { left: connections.unwrap_or(0), counted: connections.is_some() })
    }

    /// Evicts the pods one by one, each once the side serves as many as before.
    async fn restart_pods(&self) {
        let first = loop {
            if let Ok(pods) = self.pods().await {
                break pods;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        };
        let serving = first.iter().filter(|pod| is_serving(pod)).count();
        let mut old: Vec<(String, String)> =
            first.iter().map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())).collect();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        while let Some((name, uid)) = old.last().cloned() {
            let Ok(now) = self.pods().await else {
                tokio::time::sleep(ASK_AGAIN).await;
                continue;
            };
            let there = now.iter().find(|pod| pod.uid().as_deref() == Some(&uid));
            let enough = now.iter().filter(|pod| is_serving(pod)).count() >= serving;
            match there {
                None if enough => {
                    old.pop();
                    continue;
                }
                Some(pod) if pod.metadata.deletion_timestamp.is_none() && (enough || !is_serving(pod)) => {
                    if !(self.leads)() {
                        return;
                    }
                    // A disruption budget may refuse for now: it is asked again.
                    let _ = api.evict(&name, &exactly(uid)).await;
                }
                None | Some(_) => {}
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        self.report(true, None);
    }
}

/// This very pod: a StatefulSet's next one has the same name.
fn exactly(uid: String) -> EvictParams {
    let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
    let delete_options = Some(DeleteParams { preconditions, ..DeleteParams::default() });
    EvictParams { delete_options, ..EvictParams::default() }
}

/// Whether a process runs in a pod. One that has crashed holds no connections, and answers no hook that could say so.
fn may_hold_connections(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    // An init container counts too: one that runs beside the others may be the proxy that holds the connections.
    let containers = [&status.container_statuses, &status.init_container_statuses];
    let runs = |container: &ContainerStatus| container.state.as_ref().is_some_and(|state| state.running.is_some());
    status.phase.as_deref() == Some("Running") && containers.into_iter().flatten().flatten().any(runs)
}

struct HookCount {
    left: u64,
    counted: bool,
}
