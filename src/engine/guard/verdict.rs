//! From what is remembered of a guard to what it says now.
//!
//! Time alone can take a `Pass` away, never bring one: a value grows old, and a view that nobody refreshes says nothing.

use super::{
    GuardMemory, GuardView, Law, ObservationView, Silence, Verdict,
    memory::{Completed, Standing},
};
use crate::api::{OnBreach, Span, Time};

/// How long a breach that rolls back is still told after later samples were within the limit: a value that falls back
/// while the rollback is being started, or while a new leader takes over, doesn't call it off. Longer than a reconcile
/// with all its time-outs, shorter than anyone would take to retry.
pub const BREACH_IS_KEPT: Span = Span::secs(30);

/// What a guard says at `now`.
pub fn judge(law: &Law, memory: &GuardMemory, now: Time) -> Verdict {
    if let Some(breach) = kept_breach(law, memory, now) {
        return said(breach);
    }
    let silent = |why, since| silence(law, why, since, now);
    let Some(polled_at) = memory.polled_at else {
        return silent(Silence::NotAsked, memory.created_at);
    };
    if now.since(polled_at) > law.view_expires_after() {
        return silent(Silence::Unavailable, memory.unavailable_since.unwrap_or(polled_at));
    }
    match memory.standing {
        Standing::NotAsked => silent(Silence::NotAsked, memory.created_at),
        Standing::Silent(why) => {
            let since = if why == Silence::Unavailable { memory.unavailable_since } else { memory.silent_since };
            silent(why, since.unwrap_or(polled_at))
        }
        Standing::Exceeding => match memory.run.and_then(|run| run.completed) {
            Some(breach) => said(breach),
            None => silent(Silence::Doubtful, doubtful_since(law, memory).unwrap_or(polled_at)),
        },
        Standing::Within => within(law, memory, now),
    }
}

/// A guard as a decision sees it at `now`.
pub fn view(law: &Law, memory: &GuardMemory, now: Time) -> GuardView {
    GuardView {
        name: law.guard.name.clone(),
        on_breach: law.guard.on_breach,
        dry_run: law.guard.dry_run,
        verdict: judge(law, memory, now),
        value: memory.value(),
        limit: law.limits_in_words(),
        upper: law.limits().upper,
        lower: law.limits().lower,
        sample_at: memory.measured.and_then(|measured| measured.sample_at),
    }
}

/// How long an observation's bound has held. The law is that of a guard with the observation's bounds.
pub fn observe(law: &Law, memory: &GuardMemory, now: Time) -> ObservationView {
    match (judge(law, memory, now), memory.passing_since(), memory.value()) {
        (Verdict::Pass, Some(since), _) => ObservationView::HoldsSince(since),
        (Verdict::Pass, None, _) => ObservationView::Silent(Silence::NotAsked),
        (Verdict::Breach { .. }, _, Some(value)) => ObservationView::Fails { value },
        (Verdict::Breach { .. }, _, None) => ObservationView::Silent(Silence::NoData),
        (Verdict::Silent { why, .. }, _, _) => ObservationView::Silent(why),
    }
}

fn within(law: &Law, memory: &GuardMemory, now: Time) -> Verdict {
    let Some(measured) = memory.measured else {
        return silence(law, Silence::NoData, memory.created_at, now);
    };
    let age = Span(measured.age.0 + now.since(measured.seen_at).0);
    if age > law.max_age() {
        return silence(law, Silence::Stale { age }, measured.seen_at, now);
    }
    if law.lacks_its_baseline() {
        return silence(law, Silence::NoBaseline, law.flipped_at.unwrap_or(measured.seen_at), now);
    }
    // It was within when it was read; a baseline taken since may have moved the limit. The next sample decides.
    if law.limits().exceeded_by(measured.value) {
        return silence(law, Silence::Doubtful, measured.seen_at, now);
    }
    Verdict::Pass
}

fn kept_breach(law: &Law, memory: &GuardMemory, now: Time) -> Option<Completed> {
    let takes_back = law.guard.on_breach == OnBreach::Rollback && !law.guard.dry_run;
    memory.breached.filter(|breach| takes_back && now.since(breach.seen_at) <= BREACH_IS_KEPT)
}

fn doubtful_since(law: &Law, memory: &GuardMemory) -> Option<Time> {
    memory.run.map(|run| run.first.seen_at).or(law.flipped_at)
}

fn said(breach: Completed) -> Verdict {
    Verdict::Breach { sample_at: breach.sample_at, seen_at: breach.seen_at }
}

fn silence(law: &Law, why: Silence, since: Time, now: Time) -> Verdict {
    Verdict::Silent { why, since, over_budget: counts_against_budget(why) && now.since(since) > law.hold_budget() }
}

/// A doubt has an end of its own, `for`, `consecutive` or the warm-up; all else could go on for ever.
fn counts_against_budget(why: Silence) -> bool {
    match why {
        Silence::Doubtful => false,
        Silence::NotAsked
        | Silence::NoData
        | Silence::Stale { .. }
        | Silence::Nan
        | Silence::Unavailable
        | Silence::LowTraffic { .. }
        | Silence::MultiSeries { .. }
        | Silence::NoBaseline => true,
    }
}
