//! Takes baselines: reads a guard's window just before the flip, off the path of any decision.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use super::{
    ask::{Parts, Question},
    board::{Shared, Watched},
    poller::told_whole,
    prometheus::{AskError, Series},
    provider::Provider,
    slot::PollKey,
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
    /// What is known for each guard that needs a baseline, in the order of the guards.
    pub fn views(&self, set: &WatchSet) -> Vec<BaselineView> {
        let needing = set.guards.iter().filter(|guard| guard.needs_baseline());
        let view = |guard: &Guard| {
            if let Some(known) = set.baselines.iter().find(|baseline| baseline.guard == guard.name) {
                return BaselineView::Taken(known.clone());
            }
            let taking = self.0.get(&guard.name).filter(|taking| taking.guard == *guard);
            match taking.and_then(|taking| taking.result.as_ref()) {
                None => BaselineView::NotYet,
                Some(Ok(taken)) => BaselineView::Taken(taken.clone()),
                Some(Err(why)) => BaselineView::Refused { guard: guard.name.clone(), why: why.clone() },
            }
        };
        needing.map(view).collect()
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

/// Begins to take every baseline that is wanted, needed, and not there or grown old.
pub(super) fn take_where_due(shared: &Arc<Shared>, watched: &mut Watched, now: Time) {
    let Watched { key, set, slots, takings, .. } = watched;
    if !set.want_baselines {
        takings.0.clear();
        return;
    }
    let has_one = |guard: &Guard| set.baselines.iter().any(|baseline| baseline.guard == guard.name);
    for slot in slots.iter().filter(|slot| slot.guard.needs_baseline() && !has_one(&slot.guard)) {
        if !takings.is_due(&slot.guard, now) {
            continue;
        }
        takings.begin(&slot.guard, now);
        let Some((PollKey { provider, .. }, question)) = &slot.asks else {
            takings.finish(&slot.guard, Err(slot.trouble.clone().unwrap_or_default()));
            continue;
        };
        let provider = shared.providers.find(provider, &key.namespace);
        let provider = provider.map(Arc::clone).map_err(|refusal| refusal.to_string());
        let board = Arc::downgrade(shared);
        shared.spawn(take(board, key.uid.clone(), slot.guard.clone(), question.clone(), provider));
    }
}

async fn take(
    board: Weak<Shared>,
    uid: String,
    guard: Guard,
    question: Question,
    provider: Result<Arc<Provider>, String>,
) {
    let result = match provider {
        Ok(provider) => match read_window(&provider, &guard, &question).await {
            Ok(samples) => {
                let Some(shared) = board.upgrade() else { return };
                baseline(&guard, &samples, shared.clock.now()).map_err(|refusal| refusal.to_string())
            }
            Err(error) => Err(told_whole(&error)),
        },
        Err(refusal) => Err(refusal),
    };
    let Some(shared) = board.upgrade() else { return };
    let mut state = shared.lock();
    let Some(watched) = state.watched(&uid) else { return };
    if watched.takings.finish(&guard, result) {
        shared.events.change(&watched.key);
    }
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
