//! The board: what is watched for each Migration, and what is known of it. Reconcile, lane 1 and metrics share it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::registry::Registry;
use tokio::{runtime::Handle, sync::Notify, task::AbortHandle};

use super::{
    clock::{Clock, SystemClock},
    events::{EventQueue, Events},
    metrics::GuardMetrics,
    pace::Terms,
    poller, preflight,
    provider::{AccessError, Provider, Providers},
    slot::{News, PollKey, Polled, Slot},
    watch::{BoardView, Trouble, WatchKey, WatchSet},
    window::{self, Takings},
};
use crate::{
    api::{Migration, Span, Time},
    engine::{
        guard::{Verdict, judge, observe, view},
        world::Finding,
    },
};

/// What is watched and what is known. Cloning gives another handle to the same board; when the last is gone, polling ends.
#[derive(Clone, Debug)]
pub struct Board {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub clock: Arc<dyn Clock>,
    pub providers: Providers,
    pub events: Arc<EventQueue>,
    pub metrics: GuardMetrics,
    /// Wakes the sweeper, which sleeps while nothing is watched.
    watched: Arc<Notify>,
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    migrations: HashMap<String, Watched>,
    polls: HashMap<PollKey, Poll>,
}

/// One Migration on the board.
#[derive(Debug)]
pub(super) struct Watched {
    pub key: WatchKey,
    pub set: WatchSet,
    pub since: Time,
    pub slots: Vec<Slot>,
    pub observation: Option<Slot>,
    pub takings: Takings,
}

#[derive(Debug)]
struct Poll {
    /// UIDs of the Migrations that want its answers.
    readers: BTreeSet<String>,
    wake: Arc<Notify>,
    task: AbortHandle,
}

impl Board {
    /// An empty board with its events, on the machine's clock. Polls run on the runtime that this is called in.
    pub fn start(providers: Providers) -> (Self, Events) {
        Self::start_with_clock(providers, Arc::new(SystemClock::new()))
    }

    /// As [`Board::start`], on another clock.
    pub fn start_with_clock(providers: Providers, clock: Arc<dyn Clock>) -> (Self, Events) {
        let shared = Arc::new(Shared {
            clock,
            providers,
            events: Arc::default(),
            metrics: GuardMetrics::default(),
            watched: Arc::default(),
            runtime: Handle::current(),
            state: Mutex::default(),
        });
        shared.runtime.spawn(poller::sweep(Arc::downgrade(&shared), Arc::clone(&shared.watched)));
        let events = Events(Arc::clone(&shared.events));
        (Self { shared }, events)
    }

    /// The time by the board's clock, which ages are measured with.
    pub fn now(&self) -> Time {
        self.shared.clock.now()
    }

    /// Registers the board's own metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry, &self.shared.events);
    }

    /// Declares what is to be watched for a Migration. The same declaration again costs a comparison; another one keeps
    /// what is known of every guard that is the same as before, within the same attempt.
    pub fn watch(&self, key: WatchKey, set: WatchSet) {
        if self.shared.lock().migrations.get(&key.uid).is_some_and(|watched| watched.set == set) {
            return;
        }
        let now = self.shared.clock.now();
        // Queries are parsed before the lock is taken.
        let slots: Vec<_> = set.guards.iter().map(|guard| Slot::new(guard.clone(), &set, now)).collect();
        let observation = set.observation.as_ref().map(|action| Slot::observing(action, &set, now));
        let fresh = Watched { key, set, since: now, slots, observation, takings: Takings::default() };
        self.shared.replace(fresh, now);
        self.shared.watched.notify_one();
    }

    /// Forgets a Migration: its polls end, unless others ask the same, and so do its metrics and events.
    pub fn forget(&self, uid: &str) {
        self.shared.forget(uid);
    }

    /// What can be known of a Migration's guards and observations before any is asked.
    pub fn preflight(&self, migration: &Migration) -> Vec<Finding> {
        preflight::preflight(migration, &self.shared.providers)
    }

    /// What is known of a Migration at `now`. An empty view if it isn't watched.
    pub fn look(&self, uid: &str, now: Time) -> BoardView {
        self.shared.lock().migrations.get(uid).map(|watched| watched.look(now)).unwrap_or_default()
    }
}

impl Watched {
    fn look(&self, now: Time) -> BoardView {
        let set = &self.set;
        let guards = self.slots.iter().map(|slot| view(&slot.law(set), &slot.memory, now)).collect();
        let observation = self.observation.as_ref().map(|slot| observe(&slot.law(set), &slot.memory, now));
        let trouble = |slot: &Slot, guard: Option<&String>| {
            slot.trouble.as_ref().map(|why| Trouble { guard: guard.cloned(), why: why.clone() })
        };
        let of_guards = self.slots.iter().filter_map(|slot| trouble(slot, Some(&slot.guard.name)));
        let of_observation = self.observation.iter().filter_map(|slot| trouble(slot, None));
        BoardView {
            guards,
            guarded_since: self.guarded_since(now),
            baselines: self.takings.views(set),
            observation,
            troubles: of_guards.chain(of_observation).collect(),
        }
    }

    fn guarded_since(&self, now: Time) -> Option<Time> {
        let mut since = self.since;
        for slot in self.slots.iter().filter(|slot| !slot.guard.dry_run) {
            if judge(&slot.law(&self.set), &slot.memory, now) != Verdict::Pass {
                return None;
            }
            since = since.max(slot.memory.passing_since()?);
        }
        Some(since)
    }

    fn all_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().chain(&self.observation)
    }

    fn poll_keys(&self) -> BTreeSet<PollKey> {
        self.all_slots().filter_map(|slot| slot.asks.as_ref().map(|(key, _)| key.clone())).collect()
    }

    /// Takes over what is known from an earlier declaration for the same Migration.
    fn inherit(&mut self, earlier: Watched) {
        if earlier.set.attempt != self.set.attempt {
            return;
        }
        self.since = earlier.since;
        let same_provider = earlier.set.provider == self.set.provider;
        for old in earlier.slots {
            let same = |slot: &&mut Slot| slot.guard == old.guard && (same_provider || slot.guard.provider.is_some());
            if let Some(slot) = self.slots.iter_mut().find(same) {
                slot.inherit(old);
            }
        }
        if earlier.set.observation == self.set.observation
            && same_provider
            && let (Some(slot), Some(old)) = (&mut self.observation, earlier.observation)
        {
            slot.inherit(old);
        }
        if self.set.want_baselines {
            self.takings = earlier.takings;
        }
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not end the guarding of all Migrations.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a task beside the polls.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    fn replace(self: &Arc<Self>, mut fresh: Watched, now: Time) {
        let mut state = self.lock();
        let uid = fresh.key.uid.clone();
        let earlier = state.migrations.remove(&uid);
        let before = earlier.as_ref().map(Watched::poll_keys).unwrap_or_default();
        let names_before: Vec<_> =
            earlier.iter().flat_map(|watched| watched.slots.iter().map(|slot| slot.guard.name.clone())).collect();
        if let Some(earlier) = earlier {
            fresh.inherit(earlier);
        }
        for name in names_before {
            if !fresh.slots.iter().any(|slot| slot.guard.name == name) {
                self.metrics.forget(&fresh.key, &name);
            }
        }
        let after = fresh.poll_keys();
        for key in before.difference(&after) {
            state.unsubscribe(key, &uid);
        }
        for key in &after {
            self.subscribe(&mut state, key, &uid);
        }
        // Limits or the time of the flip may have changed what the same readings mean.
        let watched = state.migrations.entry(uid).or_insert(fresh);
        self.tell(watched, now);
        window::take_where_due(self, watched, now);
    }

    fn subscribe(self: &Arc<Self>, state: &mut State, key: &PollKey, uid: &str) {
        let poll = state.polls.entry(key.clone()).or_insert_with(|| {
            let wake = Arc::new(Notify::new());
            let task = self.runtime.spawn(poller::poll(Arc::downgrade(self), key.clone(), Arc::clone(&wake)));
            Poll { readers: BTreeSet::new(), wake, task: task.abort_handle() }
        });
        poll.readers.insert(uid.to_owned());
        // The terms may have changed: an interval, or the time after a flip.
        poll.wake.notify_one();
    }

    fn forget(&self, uid: &str) {
        let mut state = self.lock();
        let Some(watched) = state.migrations.remove(uid) else { return };
        for key in watched.poll_keys() {
            state.unsubscribe(&key, uid);
        }
        drop(state);
        self.events.forget(&watched.key);
        for slot in &watched.slots {
            self.metrics.forget(&watched.key, &slot.guard.name);
        }
    }

    /// How a query is to be asked, and how long it may take; `None` once nobody asks it any more.
    pub fn terms(&self, key: &PollKey) -> Option<(Terms, Span)> {
        let state = self.lock();
        let readers = &state.polls.get(key)?.readers;
        let mut asked: Option<(Terms, Span)> = None;
        for watched in readers.iter().filter_map(|uid| state.migrations.get(uid)) {
            for slot in watched.all_slots().filter(|slot| slot.asks(key)) {
                let (interval, hot, timeout) = (slot.interval(), watched.set.hot, slot.timeout());
                asked = Some(match asked {
                    None => (Terms { interval, hot }, timeout),
                    Some((terms, longest)) => {
                        (Terms { interval: terms.interval.min(interval), hot: terms.hot || hot }, longest.max(timeout))
                    }
                });
            }
        }
        asked
    }

    /// The provider of a query, if one of those who ask it may.
    pub fn provider(&self, key: &PollKey) -> Result<Arc<Provider>, AccessError> {
        let state = self.lock();
        let readers = state.polls.get(key).map(|poll| &poll.readers);
        let namespaces = readers.into_iter().flatten().filter_map(|uid| state.migrations.get(uid));
        let mut refusal = AccessError::Unknown { name: key.provider.to_string(), known: "none".to_owned() };
        for watched in namespaces {
            match self.providers.find(&key.provider, &watched.key.namespace) {
                Ok(provider) => return Ok(Arc::clone(provider)),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Gives what a poll brought to all who asked; whoever breaches is announced before the next one is looked at.
    pub fn deliver(&self, key: &PollKey, polled: &Polled, now: Time) {
        let mut state = self.lock();
        let State { migrations, polls } = &mut *state;
        let Some(poll) = polls.get(key) else { return };
        for uid in &poll.readers {
            let Some(watched) = migrations.get_mut(uid) else { continue };
            self.deliver_to(watched, key, polled, now);
        }
    }

    fn deliver_to(&self, watched: &mut Watched, key: &PollKey, polled: &Polled, now: Time) {
        let Watched { key: whose, set, slots, observation, .. } = watched;
        let refused = self.providers.find(&key.provider, &whose.namespace).err();
        let refused = refused.map(|error| Polled::Failed { seen_at: now, why: error.to_string() });
        let polled = refused.as_ref().unwrap_or(polled);
        for slot in slots.iter_mut().filter(|slot| slot.asks(key)) {
            let news = slot.fold(set, polled);
            self.announce(whose, &slot.guard.name, news);
            self.metrics.show(whose, slot, set, now);
        }
        if let Some(slot) = observation.as_mut().filter(|slot| slot.asks(key))
            && slot.fold(set, polled) != News::Nothing
        {
            self.events.change(whose);
        }
    }

    /// Announces what the passing of time, or another declaration, has changed.
    pub fn tell(&self, watched: &mut Watched, now: Time) {
        let Watched { key, set, slots, observation, .. } = watched;
        for slot in slots {
            let news = slot.news(set, now);
            if news != News::Nothing {
                self.announce(key, &slot.guard.name, news);
                self.metrics.show(key, slot, set, now);
            }
        }
        if observation.as_mut().is_some_and(|slot| slot.news(set, now) != News::Nothing) {
            self.events.change(key);
        }
    }

    fn announce(&self, key: &WatchKey, guard: &str, news: News) {
        match news {
            News::Nothing => {}
            News::Changed => self.events.change(key),
            News::Breach => self.events.breach(key, guard),
        }
    }

    /// Judges everything anew, for time has passed. Says whether anything is watched at all.
    pub fn sweep(self: &Arc<Self>) -> bool {
        let now = self.clock.now();
        let mut state = self.lock();
        for watched in state.migrations.values_mut() {
            self.tell(watched, now);
            window::take_where_due(self, watched, now);
        }
        !state.migrations.is_empty()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for poll in self.lock().polls.values() {
            poll.task.abort();
        }
        // The sweeper finds the board gone.
        self.watched.notify_one();
    }
}

impl State {
    pub fn watched(&mut self, uid: &str) -> Option<&mut Watched> {
        self.migrations.get_mut(uid)
    }

    fn unsubscribe(&mut self, key: &PollKey, uid: &str) {
        let Some(poll) = self.polls.get_mut(key) else { return };
        poll.readers.remove(uid);
        if poll.readers.is_empty() {
            poll.task.abort();
            self.polls.remove(key);
        }
    }
}
