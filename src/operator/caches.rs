//! The caches of Migrations and of their Jobs. An object that can't be read stands in nobody's way but its own, and
//! whatever interrupts a watch is told.

use std::collections::HashMap;

use futures::{Stream, StreamExt};
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, ResourceExt,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;

use super::{
    context::{chain, cut},
    http::Readiness,
    observe,
};
use crate::api::{Migration, MigrationSpec, NAME_LABEL, UID_LABEL};

/// Keeps a cache of the Migrations filled, and tells of each change. `unreadable` counts those that are left out.
pub fn migrations(
    api: Api<DeserializeGuard<Migration>>,
    writer: Writer<Migration>,
    readiness: Readiness,
    unreadable: Gauge,
) -> impl Stream<Item = Result<Event<Migration>, watcher::Error>> {
    let mut readable = Readable { left_out: HashMap::new(), listed: HashMap::new(), count: unreadable };
    watcher(api, watcher::Config::default())
        .default_backoff()
        .filter_map(move |event| std::future::ready(event.map(|event| readable.pass(event)).transpose()))
        .modify(trim)
        .reflect(writer)
        .inspect(follows("migrations", readiness))
}

/// What `kubectl apply` writes down for itself: the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Leaves out of the cache what nobody reads there. Ten thousand Migrations may wait for a person: of one that rests,
/// nothing is kept but what tells that it does. Who goes on with it reads it anew ([`is_trimmed`]).
fn trim(migration: &mut Migration) {
    migration.managed_fields_mut().clear();
    migration.annotations_mut().remove(LAST_APPLIED);
    if !observe::may_rest(migration) {
        return;
    }
    migration.spec = MigrationSpec::default();
    if let Some(status) = &mut migration.status {
        (status.history, status.conditions, status.baselines) = <_>::default();
        (status.message, status.next, status.binding) = <_>::default();
        status.phases.iter_mut().for_each(|phase| phase.message = None);
        status.phases.shrink_to_fit();
        for traffic in &mut status.traffic {
            (traffic.from, traffic.to) = <_>::default();
        }
    }
}

/// Whether a Migration was read from the cache without its spec. None has no phase.
pub fn is_trimmed(cached: &Migration) -> bool {
    cached.spec.phases.is_empty()
}

/// Keeps a cache of the Jobs that carry our label filled, and wakes their Migrations.
pub fn jobs(
    api: Api<Job>,
    wake: mpsc::UnboundedSender<ObjectRef<Migration>>,
    readiness: Readiness,
) -> (Store<Job>, tokio::task::JoinHandle<()>) {
    let (store, writer) = reflector::store();
    let stream =
        watcher(api, watcher::Config::default().labels(UID_LABEL)).default_backoff().modify(|job: &mut Job| {
            job.managed_fields_mut().clear();
            // What the pods run is of no interest here, and takes most of the room.
            if let Some(spec) = &mut job.spec {
                spec.template = k8s_openapi::api::core::v1::PodTemplateSpec::default();
            }
        });
    let task = tokio::spawn(async move {
        let changes = stream.reflect(writer).inspect(follows("jobs", readiness)).touched_objects();
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = changes.next().await {
            // What interrupts the watch has been told, and it goes on by itself.
            let Ok(job) = change else { continue };
            let (Some(name), Some(namespace)) = (job.labels().get(NAME_LABEL), job.namespace()) else { continue };
            drop(wake.send(ObjectRef::new(name).within(&namespace)));
        }
    });
    (store, task)
}

/// Says when a cache has been filled for the first time, and what interrupts its watch. `Store::wait_until_ready` would
/// not do for the first: of those who wait for one store, which the controller does too, only the last is woken.
fn follows<K>(name: &'static str, readiness: Readiness) -> impl FnMut(&Result<Event<K>, watcher::Error>) {
    move |event| match event {
        Ok(Event::InitDone) => {
            readiness.goes_on(name);
            readiness.reached(name);
        }
        Ok(Event::Init) => {}
        Ok(Event::InitApply(_) | Event::Apply(_) | Event::Delete(_)) => readiness.goes_on(name),
        Err(error) => {
            let error = chain(error);
            tracing::warn!(watch = name, error, "a watch was interrupted and goes on");
            readiness.is_interrupted(name, &error);
        }
    }
}

/// Passes on the Migrations that can be read, and leaves out each that can't: one that a newer release wrote, or one
/// older than a field that has become required. Listed together with the others it would keep them all from being read.
struct Readable {
    left_out: HashMap<ObjectRef<Migration>, Option<String>>,
    listed: HashMap<ObjectRef<Migration>, Option<String>>,
    count: Gauge,
}

impl Readable {
    fn pass(&mut self, event: Event<DeserializeGuard<Migration>>) -> Option<Event<Migration>> {
        let passed = match event {
            Event::Init => {
                self.listed.clear();
                Some(Event::Init)
            }
            Event::InitApply(DeserializeGuard(Ok(migration))) => Some(Event::InitApply(migration)),
            Event::InitApply(DeserializeGuard(Err(invalid))) => {
                self.tell(&invalid);
                self.listed.insert(reference(&invalid.metadata), invalid.metadata.resource_version);
                None
            }
            Event::InitDone => {
                self.left_out = std::mem::take(&mut self.listed);
                Some(Event::InitDone)
            }
            Event::Apply(DeserializeGuard(Ok(migration))) => {
                self.left_out.remove(&ObjectRef::from_obj(&migration));
                Some(Event::Apply(migration))
            }
            // Decisions on what it was before would be made on a view that is known to be old.
            Event::Apply(DeserializeGuard(Err(invalid))) => {
                self.tell(&invalid);
                self.left_out.insert(reference(&invalid.metadata), invalid.metadata.resource_version.clone());
                Some(Event::Delete(shell(invalid.metadata)))
            }
            Event::Delete(DeserializeGuard(Ok(migration))) => {
                self.left_out.remove(&ObjectRef::from_obj(&migration));
                Some(Event::Delete(migration))
            }
            Event::Delete(DeserializeGuard(Err(invalid))) => {
                self.left_out.remove(&reference(&invalid.metadata));
                Some(Event::Delete(shell(invalid.metadata)))
            }
        };
        self.count.set(i64::try_from(self.left_out.len()).unwrap_or(i64::MAX));
        passed
    }

    /// Names what is left out, once a version.
    fn tell(&self, invalid: &InvalidObject) {
        let known = self.left_out.get(&reference(&invalid.metadata));
        if known.is_none_or(|version| *version != invalid.metadata.resource_version) {
            tracing::warn!(
                migration = invalid.metadata.name,
                namespace = invalid.metadata.namespace,
                error = cut(&invalid.error),
                "a Migration can't be read by this release and is left alone; all others go on"
            );
        }
    }
}

fn reference(metadata: &ObjectMeta) -> ObjectRef<Migration> {
    let reference = ObjectRef::new(metadata.name.as_deref().unwrap_or_default());
    match &metadata.namespace {
        Some(namespace) => reference.within(namespace),
        None => reference,
    }
}

/// A Migration of which only the metadata is known.
fn shell(metadata: ObjectMeta) -> Migration {
    Migration { metadata, ..Migration::new("", MigrationSpec::default()) }
}
