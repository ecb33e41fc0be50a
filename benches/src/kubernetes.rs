//! Objects of the cluster, and when its Services changed as a watch tells it.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{Arc, Mutex},
    time::Instant,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};

use crate::wait::{LONG, until};

/// Where everything happens.
pub const NAMESPACE: &str = "bench";
/// Requests of the benchmark's own under way at once, while it prepares.
const AT_ONCE: usize = 24;

/// A way to the cluster. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    services: Arc<Mutex<HashMap<String, Vec<Change>>>>,
}

/// A Service's selector, as the watch told it.
#[derive(Clone)]
struct Change {
    selector: BTreeMap<String, String>,
    at: Instant,
}

impl Kubernetes {
    /// Connects, makes the namespace and begins to watch its Services.
    pub async fn connect() -> Self {
        let config = Config::infer().await.expect("KUBECONFIG names a cluster");
        let client = Client::try_from(config).expect("the kubeconfig makes a client");
        let kubernetes = Self { client, services: Arc::default() };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        kubernetes.create_if_absent(None, namespace).await;
        let api: Api<DynamicObject> = kubernetes.api("v1", "ServiceAccount", Some(NAMESPACE));
        until(LONG, "the namespace's account is there", async || api.get_opt("default").await.ok().flatten()).await;
        tokio::spawn(kubernetes.clone().watch_services());
        kubernetes
    }

    async fn watch_services(self) {
        let api: Api<Service> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut changes = pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
        while let Some(change) = changes.next().await {
            let at = Instant::now();
            let Ok(service) = change else { continue };
            let selector = service.spec.and_then(|spec| spec.selector).unwrap_or_default();
            let mut services = self.services.lock().expect("nothing panics while it holds this lock");
            let known = services.entry(service.metadata.name.unwrap_or_default()).or_default();
            if known.last().is_none_or(|last| last.selector != selector) {
                known.push(Change { selector, at });
            }
        }
    }

    /// What a Service selects by, and since when, as far as is known.
    pub fn selector(&self, service: &str) -> Option<(BTreeMap<String, String>, Instant)> {
        let services = self.services.lock().expect("nothing panics while it holds this lock");
        services.get(service)?.last().map(|change| (change.selector.clone(), change.at))
    }

    /// Objects of any kind.
    pub fn api(&self, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// A typed way to the same.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    fn api_of(&self, namespace: Option<&str>, object: &Value) -> Api<DynamicObject> {
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        self.api(text("apiVersion"), text("kind"), namespace)
    }

    /// Makes an object in the benchmark's namespace.
    pub async fn create(&self, object: Value) {
        let api = self.api_of(Some(NAMESPACE), &object);
        let typed = serde_json::from_value(object.clone()).expect("an object is one");
        if let Err(error) = api.create(&PostParams::default(), &typed).await {
            panic!("not created: {error}\n{object:#}");
        }
    }

    /// Makes many, several at a time.
    pub async fn create_all(&self, objects: impl IntoIterator<Item = Value>) {
        stream::iter(objects).for_each_concurrent(AT_ONCE, |object| self.create(object)).await;
    }

    /// Makes an object unless it is there.
    pub async fn create_if_absent(&self, namespace: Option<&str>, object: Value) {
        let api = self.api_of(namespace, &object);
        let typed = serde_json::from_value(object).expect("an object is one");
        match api.create(&PostParams::default(), &typed).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("not created: {error}"),
        }
    }

    /// Merges a patch into an object of the benchmark's namespace.
    pub async fn merge(&self, version: &str, kind: &str, name: &str, patch: Value) {
        let api = self.api(version, kind, Some(NAMESPACE));
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("the object can be patched");
    }

    /// Removes an object of the benchmark's namespace. One that is gone is as good.
    pub async fn delete(&self, version: &str, kind: &str, name: &str) {
        let _ = self.api(version, kind, Some(NAMESPACE)).delete(name, &DeleteParams::default()).await;
    }

    /// Keeps the newest status of each object of a kind at hand.
    pub fn follow(&self, version: &str, kind: &str) -> Followed {
        let group_version_kind = {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            GroupVersionKind::gvk(group, version, kind)
        };
        let resource = ApiResource::from_gvk(&group_version_kind);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), NAMESPACE, &resource);
        let followed = Followed::default();
        let all = followed.0.clone();
        tokio::spawn(async move {
            let mut changes = pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
            loop {
                match changes.try_next().await {
                    Ok(Some(object)) => {
                        let name = object.metadata.name.unwrap_or_default();
                        let status = object.data.get("status").cloned().unwrap_or_default();
                        let mut all = all.lock().expect("nothing panics while it holds this lock");
                        all.insert(name, status);
                    }
                    Ok(None) => return,
                    Err(_) => {}
                }
            }
        });
        followed
    }

    /// The API server's own metrics.
    pub async fn metrics(&self) -> String {
        let request = http::Request::get("/metrics").body(Vec::new()).expect("a fixed request is whole");
        self.client.request_text(request).await.expect("the API server's metrics can be read")
    }

    /// Requests answered so far, by verb and resource, watches left out.
    pub async fn requests(&self) -> Requests {
        Requests::read(&self.metrics().await)
    }
}

/// The newest status of each object of one kind.
#[derive(Clone, Default)]
pub struct Followed(Arc<Mutex<HashMap<String, Value>>>);

impl Followed {
    /// A field of one object's status.
    pub fn field(&self, name: &str, field: &str) -> Option<String> {
        let all = self.0.lock().expect("nothing panics while it holds this lock");
        all.get(name)?.get(field)?.as_str().map(ToOwned::to_owned)
    }

    /// One object's status.
    pub fn status(&self, name: &str) -> Option<Value> {
        self.0.lock().expect("nothing panics while it holds this lock").get(name).cloned()
    }

    /// How many objects have this in a field of their status.
    pub fn count(&self, field: &str, value: &str) -> usize {
        let all = self.0.lock().expect("nothing panics while it holds this lock");
        all.values().filter(|status| status.get(field).and_then(Value::as_str) == Some(value)).count()
    }
}

/// Requests by verb, resource and subresource.
#[derive(Clone, Default)]
pub struct Requests(BTreeMap<(String, String), u64>);

impl Requests {
    fn read(text: &str) -> Self {
        let mut all = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let label = |name: &str| {
                let begin = line.find(&format!("{name}=\""))? + name.len() + 2;
                Some(line[begin..].split('"').next()?.to_owned())
            };
            let (verb, resource) = (label("verb").unwrap_or_default(), label("resource").unwrap_or_default());
            if verb == "WATCH" {
                continue;
            }
            let part = label("subresource").filter(|part| !part.is_empty()).map(|part| format!("/{part}"));
            let key = (verb, resource + &part.unwrap_or_default());
            let count = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
            *all.entry(key).or_default() += count.unwrap_or(0);
        }
        Self(all)
    }

    /// What has come since an earlier look.
    pub fn since(&self, earlier: &Self) -> Vec<(String, String, u64)> {
        let new = self.0.iter().map(|((verb, resource), count)| {
            let before = earlier.0.get(&(verb.clone(), resource.clone())).copied().unwrap_or(0);
            (verb.clone(), resource.clone(), count - before)
        });
        new.filter(|(_, _, count)| *count > 0).collect()
    }
}
