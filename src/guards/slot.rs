//! One guard of one Migration on the board: what is asked for it, what is remembered, and what was last told.

use std::{mem::discriminant, sync::Arc};

use super::{
    ask::{Answer, Question},
    provider::DEFAULT_PROVIDER,
    watch::WatchSet,
};
use crate::{
    api::{Guard, HoldPolicy, ObserveAction, OnBreach, Span, Time},
    engine::guard::{GuardMemory, Law, Outcome, Reading, Silence, Verdict, judge},
};

/// A query to one provider. Whoever has the same one shares its polls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PollKey {
    pub provider: Arc<str>,
    pub text: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub guard: Guard,
    pub memory: GuardMemory,
    /// What is asked, and whom; `None` if the query can't be asked, which `trouble` then says.
    pub asks: Option<(PollKey, Question)>,
    pub trouble: Option<String>,
    told: Verdict,
}

/// What a reading or the passing of time has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Nothing,
    Changed,
    /// A breach that rolls back, not told before.
    Breach,
}

impl Slot {
    pub fn new(guard: Guard, set: &WatchSet, now: Time) -> Self {
        let provider: Arc<str> = provider_name(&guard, set).into();
        let question = Question::compose(guard.ratio.as_ref(), guard.query.as_deref());
        let (asks, trouble) = match question {
            Ok(question) => (Some((PollKey { provider, text: Arc::clone(question.text()) }, question)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let memory = GuardMemory::new(now);
        let told = judge(&Law { guard: &guard, baseline: None, flipped_at: None }, &memory, now);
        Self { guard, memory, asks, trouble, told }
    }

    /// An observation, seen as a guard: its bounds are limits, and nothing excuses a value beyond them.
    pub fn observing(action: &ObserveAction, set: &WatchSet, now: Time) -> Self {
        let guard = Guard {
            name: "observe".to_owned(),
            provider: action.provider.clone(),
            ratio: action.ratio.clone(),
            query: action.query.clone(),
            max: action.max,
            min: action.min,
            max_increase: None,
            max_decrease: None,
            min_delta: None,
            baseline_window: None,
            for_: None,
            consecutive: None,
            on_breach: OnBreach::Pause,
            dry_run: false,
            interval: action.interval,
            timeout: None,
            max_age: action.max_age,
            warm_up: None,
            no_data: HoldPolicy::Hold,
            nan: HoldPolicy::Hold,
            unavailable: HoldPolicy::Hold,
            low_traffic: HoldPolicy::Hold,
            hold_budget: None,
        };
        Self::new(guard, set, now)
    }

    /// Whether its polls are those of `key`.
    pub fn asks(&self, key: &PollKey) -> bool {
        self.asks.as_ref().is_some_and(|(asked, _)| asked == key)
    }

    /// Takes over what an earlier slot of the same guard remembers.
    pub fn inherit(&mut self, earlier: Slot) {
        self.memory = earlier.memory;
        self.told = earlier.told;
        if self.asks.is_some() {
            self.trouble = earlier.trouble;
        }
    }

    pub fn law<'a>(&'a self, set: &'a WatchSet) -> Law<'a> {
        let baseline = set.baselines.iter().find(|baseline| baseline.guard == self.guard.name);
        Law { guard: &self.guard, baseline, flipped_at: set.flipped_at }
    }

    /// How often this guard wants to be asked: at least twice in the life of a sample, whatever its interval.
    pub fn interval(&self) -> Span {
        let interval = self.guard.interval.unwrap_or(Guard::DEFAULT_INTERVAL);
        let max_age = self.guard.max_age.unwrap_or(Guard::DEFAULT_MAX_AGE);
        interval.min(Span(max_age.0 / 2))
    }

    pub fn timeout(&self) -> Span {
        self.guard.timeout.unwrap_or(Guard::DEFAULT_TIMEOUT)
    }

    /// Takes in what a poll brought.
    pub fn fold(&mut self, set: &WatchSet, polled: &Polled) -> News {
        let Some((_, question)) = &self.asks else { return News::Nothing };
        let reading = match polled {
            Polled::Answered { answer, warning } => {
                self.trouble.clone_from(warning);
                question.read(answer, self.guard.max_age.unwrap_or(Guard::DEFAULT_MAX_AGE))
            }
            Polled::Failed { seen_at, why } => {
                self.trouble = Some(why.clone());
                Reading { seen_at: *seen_at, sample_at: None, age: None, outcome: Outcome::Unavailable }
            }
        };
        let baseline = set.baselines.iter().find(|baseline| baseline.guard == self.guard.name);
        let law = Law { guard: &self.guard, baseline, flipped_at: set.flipped_at };
        self.memory.fold(&law, &reading);
        self.news(set, reading.seen_at)
    }

    /// What has changed since it was last told.
    pub fn news(&mut self, set: &WatchSet, now: Time) -> News {
        let verdict = judge(&self.law(set), &self.memory, now);
        let before = std::mem::replace(&mut self.told, verdict);
        let takes_back = !self.guard.dry_run && self.guard.on_breach == OnBreach::Rollback;
        match (verdict, before) {
            (Verdict::Breach { .. }, Verdict::Pass | Verdict::Silent { .. }) if takes_back => News::Breach,
            (Verdict::Breach { seen_at, .. }, Verdict::Breach { seen_at: before, .. })
                if takes_back && seen_at != before =>
            {
                News::Breach
            }
            (now, before) if kind(&now) == kind(&before) => News::Nothing,
            _ => News::Changed,
        }
    }
}

/// The provider that a guard asks: its own, else the migration's, else the default.
pub(super) fn provider_name<'a>(guard: &'a Guard, set: &'a WatchSet) -> &'a str {
    guard.provider.as_ref().or(set.provider.as_ref()).map_or(DEFAULT_PROVIDER, String::as_str)
}

/// What one poll brought to everyone who asked.
#[derive(Clone, Debug)]
pub(super) enum Polled {
    Answered { answer: Answer, warning: Option<String> },
    Failed { seen_at: Time, why: String },
}

/// A verdict without its figures.
#[derive(PartialEq)]
enum Kind {
    Pass,
    Breach,
    Silent(std::mem::Discriminant<Silence>, bool),
}

fn kind(verdict: &Verdict) -> Kind {
    match verdict {
        Verdict::Pass => Kind::Pass,
        Verdict::Breach { .. } => Kind::Breach,
        Verdict::Silent { why, over_budget, .. } => Kind::Silent(discriminant(why), *over_budget),
    }
}
