//! Events on their way to whoever decides: at most one breach and one change per Migration wait, and breaches go first.
//!
//! The queue can't overflow, because what waits is merged, and a Migration that is forgotten takes its events along. So
//! nothing has to be dropped when the reader is slow, least of all a breach.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::Stream;
use tokio::sync::Notify;

use super::watch::{BoardEvent, EventKind, WatchKey};

/// The queue, shared by those who write and the one who reads.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    breaches: VecDeque<WatchKey>,
    breached: HashMap<WatchKey, BTreeSet<String>>,
    changes: VecDeque<WatchKey>,
    changed: BTreeSet<WatchKey>,
}

impl EventQueue {
    /// Announces that a guard has breached.
    pub fn breach(&self, key: &WatchKey, guard: &str) {
        let mut waiting = self.lock();
        if !waiting.breached.contains_key(key) {
            waiting.breaches.push_back(key.clone());
        }
        waiting.breached.entry(key.clone()).or_default().insert(guard.to_owned());
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Announces that there is something new to see.
    pub fn change(&self, key: &WatchKey) {
        let mut waiting = self.lock();
        if waiting.changed.insert(key.clone()) {
            waiting.changes.push_back(key.clone());
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Takes back what waits for a Migration that isn't watched any more.
    pub fn forget(&self, key: &WatchKey) {
        let mut waiting = self.lock();
        if waiting.breached.remove(key).is_some() {
            waiting.breaches.retain(|other| other != key);
        }
        if waiting.changed.remove(key) {
            waiting.changes.retain(|other| other != key);
        }
    }

    /// Events that wait.
    pub fn len(&self) -> usize {
        let waiting = self.lock();
        waiting.breaches.len() + waiting.changes.len()
    }

    fn pop(&self) -> Option<BoardEvent> {
        let mut waiting = self.lock();
        if let Some(key) = waiting.breaches.pop_front() {
            let guards = waiting.breached.remove(&key).unwrap_or_default().into_iter().collect();
            return Some(BoardEvent { key, kind: EventKind::Breach { guards } });
        }
        let key = waiting.changes.pop_front()?;
        waiting.changed.remove(&key);
        Some(BoardEvent { key, kind: EventKind::Changed })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading end. There is one reader: two would take each other's events.
#[derive(Debug)]
pub struct Events(pub(super) Arc<EventQueue>);

impl Events {
    /// The next event, a breach before any change. Waits until there is one; dropping the future loses nothing.
    pub async fn next(&mut self) -> BoardEvent {
        loop {
            if let Some(event) = self.0.pop() {
                return event;
            }
            self.0.arrived.notified().await;
        }
    }

    /// The events as a stream that never ends.
    pub fn into_stream(self) -> impl Stream<Item = BoardEvent> + Send {
        futures::stream::unfold(self, |mut events| async move {
            let event = events.next().await;
            Some((event, events))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uid: &str) -> WatchKey {
        WatchKey { namespace: "ns".to_owned(), name: format!("name-of-{uid}"), uid: uid.to_owned() }
    }

    fn breach(uid: &str, guards: &[&str]) -> BoardEvent {
        let guards = guards.iter().map(|&guard| guard.to_owned()).collect();
        BoardEvent { key: key(uid), kind: EventKind::Breach { guards } }
    }

    #[tokio::test]
    async fn a_breach_goes_before_every_change_that_waits() {
        let queue = Arc::new(EventQueue::default());
        for n in 0..1_000 {
            queue.change(&key(&format!("other-{n}")));
        }
        queue.breach(&key("mine"), "errors");
        assert_eq!(Events(queue).next().await, breach("mine", &["errors"]));
    }

    #[tokio::test]
    async fn what_waits_for_one_migration_is_told_once() {
        let queue = Arc::new(EventQueue::default());
        for _ in 0..3 {
            queue.change(&key("mine"));
            queue.breach(&key("mine"), "latency");
            queue.breach(&key("mine"), "errors");
        }
        assert_eq!(queue.len(), 2);
        let mut events = Events(Arc::clone(&queue));
        assert_eq!(events.next().await, breach("mine", &["errors", "latency"]));
        assert_eq!(events.next().await, BoardEvent { key: key("mine"), kind: EventKind::Changed });
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test]
    async fn a_forgotten_migration_takes_its_events_along() {
        let queue = Arc::new(EventQueue::default());
        queue.change(&key("gone"));
        queue.breach(&key("gone"), "errors");
        queue.breach(&key("mine"), "errors");
        queue.forget(&key("gone"));
        assert_eq!(Events(Arc::clone(&queue)).next().await, breach("mine", &["errors"]));
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test]
    async fn a_reader_that_came_first_is_woken() {
        let queue = Arc::new(EventQueue::default());
        let mut events = Events(Arc::clone(&queue));
        let (event, ()) = tokio::join!(events.next(), async { queue.breach(&key("mine"), "errors") });
        assert_eq!(event, breach("mine", &["errors"]));
    }
}
