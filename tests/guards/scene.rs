//! What every test of the board needs: an exporter, a Prometheus that scrapes it, and a board that asks it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alongside::{
    api::{Guard, Time},
    engine::guard::{GuardView, Silence, Verdict},
    guards::{Board, BoardEvent, BoardView, EventKind, Events, Providers, WatchKey, WatchSet},
};
use serde_json::{Value, json};

use crate::support::{
    prometheus::{Exporter, Prometheus},
    wait::within,
};

/// Long enough for anything that works at all, on a busy machine.
pub const SOON: Duration = Duration::from_mins(1);
/// The namespace of all Migrations in these tests, unless they say otherwise.
pub const NAMESPACE: &str = "shop";

/// An exporter, a Prometheus, a board, and every event so far.
pub struct Scene {
    pub exporter: Exporter,
    pub prometheus: Prometheus,
    pub board: Board,
    pub events: Heard,
}

impl Scene {
    /// Everything up, scraped every 200 ms, with these series.
    pub async fn with(series: &[(&str, f64)]) -> Self {
        Self::scraped_every("200ms", series).await
    }

    /// As [`Scene::with`], at another scrape interval.
    pub async fn scraped_every(interval: &str, series: &[(&str, f64)]) -> Self {
        let exporter = Exporter::start().await;
        exporter.set_all(series.iter().copied());
        let prometheus = Prometheus::start(interval, &[&exporter]).await;
        let (board, events) = Board::start(providers(&[("default", &prometheus.url)]));
        Self { exporter, prometheus, board, events: Heard::listen(events) }
    }

    /// Watches one guard for the Migration of this number.
    pub fn guards(&self, number: usize, guards: &[Value]) {
        self.board.watch(key(number), watch(guards));
    }

    pub fn look(&self, number: usize) -> BoardView {
        self.board.look(&key(number).uid, self.board.now())
    }

    /// Waits until the first guard of a Migration says what is wanted.
    pub async fn until(&self, number: usize, sentence: &str, wanted: impl Fn(&GuardView) -> bool) -> GuardView {
        self.until_guard(number, 0, sentence, wanted).await
    }

    pub async fn until_guard(
        &self,
        number: usize,
        guard: usize,
        sentence: &str,
        wanted: impl Fn(&GuardView) -> bool,
    ) -> GuardView {
        within(SOON, sentence, async || {
            let view = self.look(number);
            let found = view.guards.get(guard).cloned().ok_or("there is no such guard".to_owned())?;
            if wanted(&found) { Ok(found) } else { Err(format!("{found:?}, {:?}", view.troubles)) }
        })
        .await
    }
}

/// Every event, in the order in which it was told.
#[derive(Clone)]
pub struct Heard(Arc<Mutex<Vec<BoardEvent>>>);

impl Heard {
    pub fn listen(mut events: Events) -> Self {
        let heard = Self(Arc::default());
        let all = Arc::clone(&heard.0);
        tokio::spawn(async move {
            loop {
                let event = events.next().await;
                all.lock().unwrap().push(event);
            }
        });
        heard
    }

    pub fn all(&self) -> Vec<BoardEvent> {
        self.0.lock().unwrap().clone()
    }

    pub fn breaches(&self) -> Vec<(String, Vec<String>)> {
        let told = |event: BoardEvent| match event.kind {
            EventKind::Breach { guards } => Some((event.key.uid, guards)),
            EventKind::Changed => None,
        };
        self.all().into_iter().filter_map(told).collect()
    }

    pub async fn breach_of(&self, number: usize) -> Vec<String> {
        let uid = key(number).uid;
        within(SOON, "the breach is told", async || {
            let breaches = self.breaches();
            breaches
                .iter()
                .find(|(whose, _)| *whose == uid)
                .map(|(_, guards)| guards.clone())
                .ok_or(format!("{breaches:?}"))
        })
        .await
    }
}

/// Providers that any namespace may ask.
pub fn providers(list: &[(&str, &str)]) -> Providers {
    let one = |&(name, url): &(&str, &str)| json!({"name": name, "url": url, "allowedNamespaces": "*"});
    configured(&list.iter().map(one).collect())
}

pub fn configured(list: &Value) -> Providers {
    Providers::set_up(serde_json::from_value(list.clone()).unwrap()).unwrap()
}

pub fn key(number: usize) -> WatchKey {
    WatchKey { namespace: NAMESPACE.to_owned(), name: format!("move-{number}"), uid: format!("uid-{number}") }
}

/// A guard that is asked every 200 ms, with changes.
pub fn guard(changes: &Value) -> Value {
    let mut spec = json!({"name": "watched", "interval": "200ms", "max": 5});
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    spec
}

pub fn watch(guards: &[Value]) -> WatchSet {
    let read = |spec: &Value| serde_json::from_value::<Guard>(spec.clone()).unwrap();
    WatchSet { guards: guards.iter().map(read).collect(), attempt: 1, ..WatchSet::default() }
}

pub fn passes(view: &GuardView) -> bool {
    view.verdict == Verdict::Pass
}

pub fn breaches(view: &GuardView) -> bool {
    matches!(view.verdict, Verdict::Breach { .. })
}

pub fn silence(view: &GuardView) -> Option<Silence> {
    match view.verdict {
        Verdict::Silent { why, .. } => Some(why),
        Verdict::Pass | Verdict::Breach { .. } => None,
    }
}

/// As Prometheus writes times.
#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit for another 285,000 years")]
pub fn seconds(at: Time) -> f64 {
    at.0 as f64 / 1_000.0
}

pub fn sample_of(view: &GuardView) -> Time {
    match view.verdict {
        Verdict::Breach { sample_at: Some(at), .. } => at,
        other => panic!("no breach with a sample: {other:?}"),
    }
}
