//! Watches of the traffic objects of Migrations under way: each Service by its name, its EndpointSlices by label, the
//! pods of both sides by the Service's own selector. Never cluster-wide.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{Arc, Mutex},
};

use futures::TryStreamExt;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::context::chain;
use crate::{
    actions::switch,
    api::{Migration, TrafficStatus},
    engine::world::{ServiceView, Sight},
};

/// A Service to watch, with the labels of its two sides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watched {
    /// Name of the Service.
    pub service: String,
    /// Labels of the old side.
    pub from: BTreeMap<String, String>,
    /// Labels of the new side.
    pub to: BTreeMap<String, String>,
}

impl From<&TrafficStatus> for Watched {
    fn from(traffic: &TrafficStatus) -> Self {
        Self { service: traffic.service.clone(), from: traffic.from.clone(), to: traffic.to.clone() }
    }
}

type ByUid = HashMap<String, Vec<(Watched, Arc<Watches>)>>;

/// The watches of all Migrations, by UID.
pub struct TrafficWatches {
    client: Client,
    wake: mpsc::UnboundedSender<ObjectRef<Migration>>,
    by_uid: Mutex<ByUid>,
}

struct Watches {
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    pods: Store<Pod>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl TrafficWatches {
    /// Watches through this client; `wake` hears of each change.
    pub fn new(client: Client, wake: mpsc::UnboundedSender<ObjectRef<Migration>>) -> Self {
        Self { client, wake, by_uid: Mutex::default() }
    }

    /// Watches exactly these Services for a Migration. Cheap where nothing has changed.
    pub async fn watch(&self, migration: &Migration, wanted: &[Watched]) {
        let uid = migration.uid().unwrap_or_default();
        let namespace = migration.namespace().unwrap_or_default();
        let known = self.lock().get(&uid).cloned().unwrap_or_default();
        if known.len() == wanted.len() && known.iter().all(|(watched, _)| wanted.contains(watched)) {
            return;
        }
        let mut watches = Vec::new();
        for watched in wanted {
            let running = known.iter().find(|(running, _)| running == watched);
            if let Some(running) = running {
                watches.push(running.clone());
            } else {
                let Some(started) = self.start(migration, &namespace, watched).await else { continue };
                watches.push((watched.clone(), Arc::new(started)));
            }
        }
        if watches.is_empty() {
            self.lock().remove(&uid);
        } else {
            self.lock().insert(uid, watches);
        }
    }

    /// Ends a Migration's watches.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    async fn start(&self, migration: &Migration, namespace: &str, watched: &Watched) -> Option<Watches> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        // Which pods belong to either side depends on the rest of the Service's selector.
        let service = services.get_opt(&watched.service).await.ok()??;
        let selector = service.spec.and_then(|spec| spec.selector).unwrap_or_default();
        let by_name = watcher::Config::default().fields(&format!("metadata.name={}", watched.service));
        let by_label = watcher::Config::default().labels(&slice_selector(&watched.service));
        let by_sides = watcher::Config::default().labels(&pod_selector(&selector, watched));
        let wake = || Waker { wake: self.wake.clone(), migration: ObjectRef::from_obj(migration) };
        let (services, task_1) = reflect(services, by_name, wake());
        let (slices, task_2) =
            reflect(Api::<EndpointSlice>::namespaced(self.client.clone(), namespace), by_label, wake());
        let (pods, task_3) = reflect(Api::<Pod>::namespaced(self.client.clone(), namespace), by_sides, wake());
        Some(Watches { services, slices, pods, _tasks: vec![task_1, task_2, task_3] })
    }

    /// What the caches say, at once. `Unseen` until they have been filled.
    pub fn cached(&self, uid: &str, traffic: &Watched) -> Sight<ServiceView> {
        let watches =
            self.lock().get(uid).and_then(|all| all.iter().find(|(w, _)| w == traffic).map(|(_, w)| w.clone()));
        let Some(watches) = watches else { return Sight::Unseen };
        let ready = |ready: Option<()>| ready.is_some();
        let filled = ready(now_or_never(watches.services.wait_until_ready()))
            && ready(now_or_never(watches.slices.wait_until_ready()))
            && ready(now_or_never(watches.pods.wait_until_ready()));
        if !filled {
            return Sight::Unseen;
        }
        match watches.services.state().first() {
            None => Sight::Absent,
            Some(service) => {
                let view =
                    switch::view(service, &watches.pods.state(), &watches.slices.state(), &traffic.from, &traffic.to);
                Sight::Seen(view)
            }
        }
    }

    /// What the API server says, uncached.
    pub async fn live(&self, namespace: &str, traffic: &Watched) -> Sight<ServiceView> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let service = match services.get_opt(&traffic.service).await {
            Ok(Some(service)) => service,
            Ok(None) => return Sight::Absent,
            Err(error) => {
                tracing::warn!(service = traffic.service, %error, "a Service could not be read");
                return Sight::Unseen;
            }
        };
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), namespace);
        let of_sides = ListParams::default().labels(&pod_selector(&selector, traffic));
        let of_service = ListParams::default().labels(&slice_selector(&traffic.service));
        let (pods, slices) = tokio::join!(pods.list(&of_sides), slices.list(&of_service));
        match (pods, slices) {
            (Ok(pods), Ok(slices)) => {
                let pods: Vec<Arc<Pod>> = pods.items.into_iter().map(Arc::new).collect();
                let slices: Vec<Arc<EndpointSlice>> = slices.items.into_iter().map(Arc::new).collect();
                Sight::Seen(switch::view(&service, &pods, &slices, &traffic.from, &traffic.to))
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(service = traffic.service, %error, "the pods of a Service could not be read");
                Sight::Unseen
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ByUid> {
        self.by_uid.lock().expect("nothing panics while it holds this lock")
    }
}

fn now_or_never<T, E>(future: impl Future<Output = Result<T, E>>) -> Option<T> {
    futures::FutureExt::now_or_never(future)?.ok()
}

#[derive(Clone)]
struct Waker {
    wake: mpsc::UnboundedSender<ObjectRef<Migration>>,
    migration: ObjectRef<Migration>,
}

/// Keeps a cache filled, and wakes the Migration on each change.
fn reflect<K>(api: Api<K>, config: watcher::Config, waker: Waker) -> (Store<K>, AbortOnDropHandle<()>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watcher(api, config).default_backoff().modify(|object| {
        object.managed_fields_mut().clear();
    });
    let task = tokio::spawn(async move {
        let mut changes = pin!(stream.reflect(writer).touched_objects());
        loop {
            match changes.try_next().await {
                // The receiver ends only with the operator itself.
                Ok(Some(_)) => drop(waker.wake.send(waker.migration.clone())),
                Ok(None) => return,
                Err(error) => {
                    let (migration, error) = (&waker.migration.name, chain(&error));
                    tracing::warn!(migration, error, "a watch was interrupted and goes on");
                }
            }
        }
    });
    (store, AbortOnDropHandle::new(task))
}

fn slice_selector(service: &str) -> String {
    format!("kubernetes.io/service-name={service}")
}

/// The pods of both sides, and of no other: the Service's selector with a set in place of each side's label.
fn pod_selector(selector: &BTreeMap<String, String>, watched: &Watched) -> String {
    let mut terms: Vec<String> = selector
        .iter()
        .filter(|(key, _)| !watched.from.contains_key(*key))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    terms.extend(watched.from.iter().map(|(key, old)| match watched.to.get(key) {
        Some(new) if new != old => format!("{key} in ({old},{new})"),
        Some(_) | None => format!("{key}={old}"),
    }));
    terms.join(",")
}
