//! What every reconcile shares.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use k8s_openapi::api::batch::v1::Job;
use kube::{
    Client,
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    agents::Agents, caller::Caller, config::Config, effects::EffectError, http::Readiness, lease::Leadership,
    metrics::Metrics, plans::PlanStore, watches::TrafficWatches, workers::Workers,
};
use crate::{
    actions::drain::Drains,
    api::{Migration, Time},
    engine::world::Preflight,
    guards::Board,
};

/// First delay after an error of one Migration's reconcile; it doubles with each.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// How soon to look again after a write that found its Service changed.
const AFTER_REFUSAL: Duration = Duration::from_millis(20);
/// Refusals in a row before that delay doubles with each.
const REFUSALS_AT_ONCE: u32 = 5;
/// Longest delay after errors.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// What every reconcile shares.
pub struct Context {
    /// The flags.
    pub config: Config,
    /// For everything but lane 1.
    pub client: Client,
    /// For lane 1 alone: a connection of its own that no queue of ordinary requests stands before.
    pub lane_1: Client,
    /// All Migrations in scope.
    pub migrations: Store<Migration>,
    /// All Jobs of Migrations in scope.
    pub jobs: Store<Job>,
    /// Which caches have been filled.
    pub readiness: Readiness,
    /// What the guards say.
    pub board: Board,
    /// Who leads.
    pub leadership: Leadership,
    /// Services, EndpointSlices and pods of Migrations under way.
    pub traffic: TrafficWatches,
    /// Drains under way.
    pub drains: Drains,
    /// Workers that are being asked how far they are.
    pub workers: Workers,
    /// Agents that are being listened to.
    pub agents: Agents,
    /// How pods of ours are spoken to.
    pub caller: Caller,
    /// Frozen plans.
    pub plans: PlanStore,
    /// Writes Events.
    pub recorder: Recorder,
    /// The operator's own metrics.
    pub metrics: Metrics,
    /// Wakes a Migration's reconcile.
    pub wake: mpsc::UnboundedSender<ObjectRef<Migration>>,
    /// What this process remembers of each Migration between reconciles.
    pub memories: Memories,
}

/// What this process remembers of each Migration, by UID. All of it can be lost at any time.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<String, Memory>>);

/// What this process remembers of one Migration.
#[derive(Default)]
pub struct Memory {
    /// The version that our last status write made. A cache that shows an older one is behind.
    pub written: Option<String>,
    /// The term in which it was last read uncached.
    pub term: Option<u64>,
    /// Errors in a row.
    pub errors: u32,
    /// Writes in a row that found a Service changed.
    pub refusals: u32,
    /// What the API server said to our last write to a Service, by Service, where it would not have it.
    pub denied: BTreeMap<String, String>,
    /// What preflight found, for which version of the spec, and when.
    pub preflight: Option<(String, Instant, Preflight)>,
    /// Which ways back a dry run was refused for and why, by Service, and when that was asked.
    pub way_back: Option<(Instant, BTreeMap<String, String>)>,
    /// When it is looked at again although it rests.
    pub look_at: Option<Instant>,
    /// Why a Job could not be made when it was last asked for, by its name.
    pub jobs_refused: BTreeMap<String, String>,
    /// What has been told of it beside its status.
    pub told: String,
    /// Cancels the reconcile in flight.
    pub in_flight: CancellationToken,
}

impl Context {
    /// Whether a Migration is in the cache still.
    pub fn holds(&self, migration: &Migration) -> bool {
        let cached = self.migrations.get(&ObjectRef::from_obj(migration));
        cached.is_some_and(|cached| cached.metadata.uid == migration.metadata.uid)
    }

    /// Follows what happens to the cache of Migrations: forgets those that are gone.
    pub fn forget_the_gone(&self, event: &watcher::Event<Migration>) {
        match event {
            watcher::Event::Delete(migration) => self.forget(migration.metadata.uid.as_deref().unwrap_or_default()),
            // Nobody told of those that went while the watch was interrupted.
            watcher::Event::InitDone => {
                let there: HashSet<_> =
                    self.migrations.state().iter().filter_map(|migration| migration.metadata.uid.clone()).collect();
                for uid in self.memories.uids().iter().filter(|uid| !there.contains(*uid)) {
                    self.forget(uid);
                }
            }
            watcher::Event::Init | watcher::Event::InitApply(_) | watcher::Event::Apply(_) => {}
        }
    }

    /// Ends whatever is watched, polled, drained and asked for a Migration.
    pub fn look_away(&self, uid: &str) {
        self.board.forget(uid);
        self.traffic.forget(uid);
        self.drains.forget(uid);
        self.workers.forget(uid);
        self.agents.forget(uid);
    }

    /// Forgets a Migration that doesn't exist any more.
    pub fn forget(&self, uid: &str) {
        self.look_away(uid);
        self.plans.forget(uid);
        self.memories.forget(uid);
    }
}

impl Memories {
    /// Looks at or changes what is remembered of a Migration.
    pub fn with<T>(&self, uid: &str, look: impl FnOnce(&mut Memory) -> T) -> T {
        let mut all = self.0.lock().expect("nothing panics while it holds this lock");
        look(all.entry(uid.to_owned()).or_default())
    }

    /// Looks at or changes what is remembered of a Migration, unless it has been forgotten.
    pub fn with_known(&self, uid: &str, look: impl FnOnce(&mut Memory)) {
        let mut all = self.0.lock().expect("nothing panics while it holds this lock");
        if let Some(memory) = all.get_mut(uid) {
            look(memory);
        }
    }

    /// The UIDs of all that is remembered.
    pub fn uids(&self) -> Vec<String> {
        self.0.lock().expect("nothing panics while it holds this lock").keys().cloned().collect()
    }

    /// Forgets a Migration.
    pub fn forget(&self, uid: &str) {
        self.0.lock().expect("nothing panics while it holds this lock").remove(uid);
    }

    /// The delay after one more write that found its Service changed. Looking again mends it at once, but for a Service
    /// that somebody changes without end.
    pub fn look_again(&self, uid: &str) -> Duration {
        self.with(uid, |memory| {
            let more = memory.refusals.saturating_sub(REFUSALS_AT_ONCE);
            memory.refusals = memory.refusals.saturating_add(1);
            AFTER_REFUSAL.saturating_mul(1 << more.min(16)).min(LONGEST_BACKOFF)
        })
    }

    /// Remembers what came of asking for a Job. Where the API server gave no answer, what it said before stands.
    pub fn job_was_asked_for(&self, uid: &str, name: &str, refused: Option<&EffectError>) {
        let why = match refused {
            Some(EffectError::Api { source, .. }) => match &**source {
                kube::Error::Api(status) => Some(status.message.clone()),
                _ => return,
            },
            Some(error) => Some(error.to_string()),
            None => None,
        };
        self.with_known(uid, |memory| match why {
            Some(why) => drop(memory.jobs_refused.insert(name.to_owned(), why)),
            None => drop(memory.jobs_refused.remove(name)),
        });
    }

    /// The delay after one more error.
    pub fn backoff(&self, uid: &str) -> Duration {
        let mut delay = FIRST_BACKOFF;
        self.with_known(uid, |memory| {
            delay = FIRST_BACKOFF.saturating_mul(1 << memory.errors.min(16)).min(LONGEST_BACKOFF);
            memory.errors = memory.errors.saturating_add(1);
        });
        delay
    }
}

/// A shared context.
pub type Shared = Arc<Context>;

/// What time it is: the one place in this room that asks.
pub fn now() -> Time {
    Time(jiff::Timestamp::now().as_millisecond())
}

/// Longest text of an error in a log line, in characters: the API server quotes whole objects.
const LONGEST_ERROR: usize = 600;

/// An error and its sources in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    cut(&causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

/// An error's text, no longer than a log line bears.
pub fn cut(text: &str) -> String {
    text.chars().take(LONGEST_ERROR).collect()
}
