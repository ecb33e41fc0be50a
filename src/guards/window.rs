//! Takes baselines: reads a guard's window just before the flip, off the path of any decision.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Weak},
};

use super::{
    ask::{Parts, Question},
    board::{Shared, Watched},
    poller::told_whole,
    prometheus::{AskError, Series},
    provider::Provider,
    slot::provider_name,
    watch::WatchSet,
};
use crate::{
    api::{BaselineStatus, Guard, Span, Time},
    engine::guard::{BaselineView, Sample, baseline},
};

/// How long a baseline that nobody has used yet counts as the window *just* before the flip. Then it is taken anew.
const GROWS_OLD_AFTER: Span = Span::secs(30);
/// How soon a window that made no baseline is looked at again: noise may settle, and data may come.
const TRY_AGAIN_AFTER: Span = Span::secs(5);
/// Steps that a window is read in: finer than any usual scrape interval, and far below Prometheus's limit of 11,000.
const STEPS: u32 = 300;
/// Finest step, the shortest scrape interval that is worth telling apart.
const FINEST_STEP: Span = Span::millis(200);

/// The baselines being taken for one Migration, by guard.
#[derive(Debug, Default)]
pub(super) struct Takings(HashMap<String, Taking>);

#[derive(Debug)]
struct Taking {
    guard: Guard,
    begun_at: Time,
    under_way: bool,
    result: Option<Result<BaselineStatus, String>>,
}

impl Takings {
    /// What is known for each guard that needs a baseline.
    ///
    /// While baselines are wanted only new ones count: what status holds may be of an earlier flip.
    pub fn views(&self, set: &WatchSet) -> Vec<BaselineView> {
        needing(set).map(|guard| if set.want_baselines { self.taken(guard) } else { held(set, guard) }).collect()
    }

    fn taken(&self, guard: &Guard) -> BaselineView {
        let taking = self.0.get(&guard.name).filter(|taking| taking.guard == *guard);
        match taking.and_then(|taking| taking.result.as_ref()) {
            None => BaselineView::NotYet,
            Some(Ok(taken)) => BaselineView::Taken(taken.clone()),
            Some(Err(why)) => BaselineView::Refused { guard: guard.name.clone(), why: why.clone() },
        }
    }

    fn is_due(&self, guard: &Guard, now: Time) -> bool {
        match self.0.get(&guard.name).filter(|taking| taking.guard == *guard) {
            None => true,
            Some(Taking { under_way: true, .. }) => false,
            Some(Taking { begun_at, result: Some(Ok(_)), .. }) => now.since(*begun_at) > GROWS_OLD_AFTER,
            Some(Taking { begun_at, result: Some(Err(_)) | None, .. }) => now.since(*begun_at) > TRY_AGAIN_AFTER,
        }
    }

    fn begin(&mut self, guard: &Guard, now: Time) {
        let known = self.0.remove(&guard.name).filter(|taking| taking.guard == *guard);
        let result = known.and_then(|taking| taking.result);
        self.0.insert(guard.name.clone(), Taking { guard: guard.clone(), begun_at: now, under_way: true, result });
    }

    /// Keeps a result, unless the guard has become another since. Says whether there is something new to see.
    fn finish(&mut self, guard: &Guard, result: Result<BaselineStatus, String>) -> bool {
        let Some(taking) = self.0.get_mut(&guard.name).filter(|taking| taking.guard == *guard) else { return false };
        taking.under_way = false;
        let before = taking.result.as_ref().map(Result::is_ok);
        let serves = result.is_ok();
        taking.result = Some(result);
        before != Some(serves)
    }
}

/// The guards that need a baseline: those in force, then those of other phases, each name once.
fn needing(set: &WatchSet) -> impl Iterator<Item = &Guard> {
    let mut named = BTreeSet::new();
    let all = set.guards.iter().chain(&set.baseline_guards);
    all.filter(move |guard| guard.needs_baseline() && named.insert(guard.name.as_str()))
}

fn held(set: &WatchSet, guard: &Guard) -> BaselineView {
    let held = set.baselines.iter().find(|baseline| baseline.guard == guard.name);
    held.map_or(BaselineView::NotYet, |baseline| BaselineView::Taken(baseline.clone()))
}

/// Begins to take every baseline that is wanted and not there, or has grown old.
pub(super) fn take_where_due(shared: &Arc<Shared>, watched: &mut Watched, now: Time) {
    let Watched { key, set, takings, .. } = watched;
    if !set.want_baselines {
        takings.0.clear();
        return;
    }
    for guard in needing(set) {
        if !takings.is_due(guard, now) {
            continue;
        }
        takings.begin(guard, now);
        let provider = shared.providers.find(provider_name(guard, set), &key.namespace);
        let provider = provider.map(Arc::clone).map_err(|refusal| refusal.to_string());
        shared.spawn(take(Arc::downgrade(shared), key.uid.clone(), guard.clone(), provider));
    }
}

async fn take(board: Weak<Shared>, uid: String, guard: Guard, provider: Result<Arc<Provider>, String>) {
    let read = match provider {
        Ok(provider) => read(&provider, &guard).await,
        Err(refusal) => Err(refusal),
    };
    let Some(shared) = board.upgrade() else { return };
    let taken_at = shared.clock.now();
    let result = read.and_then(|samples| baseline(&guard, &samples, taken_at).map_err(|refusal| refusal.to_string()));
    let mut state = shared.lock();
    let Some(watched) = state.watched(&uid) else { return };
    if watched.takings.finish(&guard, result) {
        shared.events.change(&watched.key);
    }
}

async fn read(provider: &Provider, guard: &Guard) -> Result<Vec<Sample>, String> {
    let question = Question::compose(guard.ratio.as_ref(), guard.query.as_deref());
    let question = question.map_err(|error| error.to_string())?;
    read_window(provider, guard, &question).await.map_err(|error| told_whole(&error))
}

async fn read_window(provider: &Provider, guard: &Guard, question: &Question) -> Result<Vec<Sample>, AskError> {
    let timeout = guard.timeout.unwrap_or(Guard::DEFAULT_TIMEOUT);
    let window = guard.baseline_window.unwrap_or(Guard::DEFAULT_BASELINE_WINDOW);
    let _leave = provider.client.admit().await;
    // A range needs times, and they must be Prometheus's: by our clock the window could end in its past or future.
    let present = provider.client.query("time()", timeout).await?;
    let Some(end) = present.series.first().map(|sample| sample.at) else { return Ok(Vec::new()) };
    let start = Time(end.0.saturating_sub(window.as_millis()));
    let step = Span(window.0 / STEPS).max(FINEST_STEP);
    let answered = provider.client.query_range(question.text(), (start, end), step, timeout).await?;
    Ok(samples(question, &answered.series, start))
}

/// The samples within a window, each once though several steps may have seen it.
fn samples(question: &Question, series: &[Series], start: Time) -> Vec<Sample> {
    let mut steps: BTreeMap<Time, Parts> = BTreeMap::new();
    for one in series {
        for &(at, value) in &one.points {
            steps.entry(at).or_default().add(&one.labels, value);
        }
    }
    let mut found: Vec<Sample> = Vec::new();
    for parts in steps.values() {
        let Some((at, value)) = question.sample_at(parts).zip(question.value(parts)) else { continue };
        if at >= start && found.last().is_none_or(|last| at > last.at) {
            found.push(Sample { at, value });
        }
    }
    found
}
