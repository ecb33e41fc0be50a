//! Following objects as they change: watches, which cost the API server nothing while nothing changes.

use std::{collections::BTreeMap, fmt::Debug};

use futures::{Stream, StreamExt as _};
use kube::{
    Api, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{connect::Cluster, problem::Problem};
use crate::api::Migration;

/// What is heard of one Migration.
#[derive(Debug)]
pub enum News {
    /// It is like this now.
    Is(Box<Migration>),
    /// It isn't there, or not any more.
    Gone,
    /// It can't be watched right now; the watch goes on by itself.
    Trouble(String),
}

/// Follows one Migration, from how it is now.
pub fn one(cluster: &Cluster, name: &str) -> impl Stream<Item = Result<News, Problem>> + use<> {
    let api: Api<Migration> = Api::namespaced(cluster.watching.clone(), &cluster.namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let what = format!("migration {name}");
    let heard = watcher(api, config).default_backoff();
    heard
        .scan(false, move |there, event| {
            let news = match event {
                Ok(Event::Init) => {
                    *there = false;
                    None
                }
                Ok(Event::InitApply(migration) | Event::Apply(migration)) => {
                    *there = true;
                    Some(Ok(News::Is(Box::new(migration))))
                }
                Ok(Event::InitDone) => (!*there).then_some(Ok(News::Gone)),
                Ok(Event::Delete(_)) => {
                    *there = false;
                    Some(Ok(News::Gone))
                }
                Err(error) => Some(trouble(&what, error).map(News::Trouble)),
            };
            futures::future::ready(Some(news))
        })
        .filter_map(futures::future::ready)
}

/// Objects of one kind that a watch tells of, by namespace and name.
#[derive(Debug)]
pub struct Following<K> {
    /// Those that there are.
    pub all: BTreeMap<(String, String), K>,
    listed: BTreeMap<(String, String), K>,
}

impl<K> Default for Following<K> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), listed: BTreeMap::new() }
    }
}

impl<K: Resource> Following<K> {
    /// Takes an event in. Returns the object that is new or different, if one is.
    pub fn take(&mut self, event: Event<K>) -> Option<&K> {
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        match event {
            Event::Init => {
                self.listed.clear();
                None
            }
            Event::InitApply(object) => {
                self.listed.insert(key(&object), object);
                None
            }
            Event::InitDone => {
                self.all = std::mem::take(&mut self.listed);
                None
            }
            Event::Apply(object) => {
                let key = key(&object);
                self.all.insert(key.clone(), object);
                self.all.get(&key)
            }
            Event::Delete(object) => {
                self.all.remove(&key(&object));
                None
            }
        }
    }
}

/// Watches objects of a kind by their labels.
pub fn all<K>(api: Api<K>, labels: Option<&str>) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut config = watcher::Config::default();
    if let Some(labels) = labels {
        config = config.labels(labels);
    }
    watcher(api, config).default_backoff()
}

/// Tells what mends itself from what doesn't: a user who may not watch, and a cluster that knows no Migrations.
///
/// # Errors
/// It doesn't mend itself.
pub fn trouble(what: &str, error: watcher::Error) -> Result<String, Problem> {
    let code = match &error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    };
    match (code, error) {
        (Some(404), _) => Err(Problem::NoCrd),
        (Some(401 | 403), source) => Err(Problem::Watch { what: what.to_owned(), source: Box::new(source) }),
        (_, watcher::Error::InitialListFailed(kube::Error::SerdeError(source))) => {
            Err(Problem::Unreadable { what: what.to_owned(), source })
        }
        (_, error) => Ok(chain(&error)),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
