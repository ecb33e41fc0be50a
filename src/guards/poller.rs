//! Asks each query on its own schedule. A query has one task and thus one request under way at most; what one of them
//! waits for delays no other.

use std::{
    error::Error,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    ask::{Answer, Parts},
    board::Shared,
    metrics::PollOutcome,
    pace::Pace,
    prometheus::{Answered, AskError, Sample},
    slot::{PollKey, Polled},
};
use crate::api::{Span, Time};

/// How often verdicts are looked at for what time alone has changed: a value grown old, a budget used up. Such a change
/// never takes anything back, it only holds; half a second is soon enough.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// Longest sleep before the schedule is looked at again.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// Asks one query for as long as someone wants to know.
pub(super) async fn poll(board: Weak<Shared>, key: PollKey, wake: Arc<Notify>) {
    let mut pace = Pace::new(seed(&key));
    let mut was_hot = false;
    loop {
        let Some(shared) = board.upgrade() else { return };
        let Some((terms, timeout)) = shared.terms(&key) else { return };
        if terms.hot && !was_hot {
            pace.unlearn();
        }
        was_hot = terms.hot;
        let wait = pace.next(terms).since(shared.clock.now()).0;
        if !wait.is_zero() {
            drop(shared);
            tokio::select! {
                () = tokio::time::sleep(wait.min(LONGEST_SLEEP)) => {}
                () = wake.notified() => {}
            }
            continue;
        }
        ask(&shared, &key, timeout, &mut pace).await;
    }
}

async fn ask(shared: &Shared, key: &PollKey, timeout: Span, pace: &mut Pace) {
    let provider = match shared.provider(key) {
        Ok(provider) => provider,
        Err(refusal) => {
            let now = shared.clock.now();
            pace.note(now, None);
            shared.deliver(key, &Polled::Failed { seen_at: now, why: refusal.to_string() }, now);
            return;
        }
    };
    let leave = provider.client.admit().await;
    let asked_at = shared.clock.now();
    let result = provider.client.query(&key.text, timeout).await;
    let seen_at = shared.clock.now();
    drop(leave);
    shared.metrics.polled(&provider.name, PollOutcome::of(&result), seen_at.since(asked_at));
    let polled = match result {
        Ok(mut answered) => {
            // A part of the data may be missing: what there is counts, and the warning is told.
            let warning = answered.warnings.pop().map(|warning| format!("Prometheus warns: {warning}"));
            let answer = answer(answered, asked_at, seen_at);
            pace.note(asked_at, answer.parts.newest().map(|sample_at| (sample_at, answer.evaluated_at)));
            Polled::Answered { answer, warning }
        }
        Err(error) => {
            pace.note(asked_at, None);
            Polled::Failed { seen_at, why: told_whole(&error) }
        }
    };
    shared.deliver(key, &polled, seen_at);
}

fn answer(answered: Answered<Sample>, asked_at: Time, seen_at: Time) -> Answer {
    let mut parts = Parts::default();
    // An empty answer has no time of evaluation, and nothing in it that could have an age.
    let evaluated_at = answered.series.first().map_or(seen_at, |sample| sample.at);
    for sample in answered.series {
        parts.add(&sample.labels, sample.value);
    }
    Answer { asked_at, seen_at, evaluated_at, parts }
}

/// An error with its causes, once, at the edge.
pub(super) fn told_whole(error: &AskError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn seed(key: &PollKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Looks at all verdicts now and then, and not at all while nothing is watched.
pub(super) async fn sweep(board: Weak<Shared>, watched: Arc<Notify>) {
    loop {
        let Some(shared) = board.upgrade() else { return };
        let anything = shared.sweep();
        drop(shared);
        if anything {
            tokio::time::sleep(SWEEP_EVERY).await;
        } else {
            watched.notified().await;
        }
    }
}
