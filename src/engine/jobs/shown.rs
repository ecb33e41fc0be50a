//! How far a phase's worker is, as status shows it.

use std::fmt;

use crate::api::{Span, WorkStatus};

use super::super::{
    draft::{Draft, cut},
    hold::Hold,
    plan::{self, Action},
};

/// How often status follows a worker that goes on as before: its live figures are metrics, and each write wakes whoever
/// watches Migrations.
const EVERY: Span = Span::secs(5);
/// How often at most it follows one that does something else or has been throttled.
const AT_MOST_EVERY: Span = Span::secs(1);

impl Draft<'_> {
    /// Takes what a phase's worker has said into status, where it is news.
    pub fn show_work(&mut self, index: usize, job: &str) {
        let Some(heard) = self.world.work.get(job) else { return };
        let now = self.now;
        let shown = &mut self.status.phases[index].work;
        let is_news = shown.as_ref().is_none_or(|shown| {
            let age = now.since(shown.at);
            let differs = WorkStatus { at: shown.at, ..heard.clone() } != *shown;
            let turned = heard.stage != shown.stage || heard.throttled != shown.throttled;
            differs && age >= if turned { AT_MOST_EVERY } else { EVERY }
        });
        if is_news {
            *shown = Some(WorkStatus { at: now, ..heard.clone() });
        }
    }
}

impl Draft<'_> {
    /// Says in status whether a worker is to do nothing for now, where it is one that can be told, and returns why.
    pub fn pause_work(&mut self, index: usize) -> Option<Hold> {
        let can_pause = match plan::action(&self.plan.phases()[index]) {
            Action::Backfill(_) => true,
            Action::Sql(_)
            | Action::Job(_)
            | Action::Replicate(_)
            | Action::Verify(_)
            | Action::Switch(_)
            | Action::Observe(_)
            | Action::Bake(_)
            | Action::Approval => false,
        };
        let held = self.why_not_go_on(index).filter(|_| can_pause);
        self.status.phases[index].paused = held.as_ref().map(|hold| cut(hold.to_string()));
        held
    }

    /// After a backfill guards compare with no time before it any more: the switch takes baselines of its own.
    pub fn forget_baselines(&mut self, index: usize) {
        if let Action::Backfill(_) = plan::action(&self.plan.phases()[index]) {
            self.status.baselines.clear();
        }
    }
}

/// How far a worker is, in words.
impl fmt::Display for WorkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.stage.is_empty() {
            write!(f, "{}, ", self.stage)?;
        }
        match self.total {
            Some(total) => {
                let share = self.done.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
                write!(f, "{} of {} rows ({share} %)", grouped(self.done), grouped(total))?;
            }
            None => write!(f, "{} rows", grouped(self.done))?,
        }
        if self.rate > 0 {
            write!(f, ", {} a second", grouped(self.rate))?;
        }
        if let Some(eta) = self.eta {
            write!(f, ", {eta} left")?;
        }
        if let Some(lag) = self.lag {
            write!(f, ", {lag} behind")?;
        }
        if let Some(why) = &self.throttled {
            write!(f, "; throttled: {why}")?;
        }
        Ok(())
    }
}

/// A number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_of_with_all_that_is_known_and_nothing_that_is_not() {
        let mut work = WorkStatus { done: 1_234_567, ..WorkStatus::default() };
        assert_eq!(work.to_string(), "1,234,567 rows");
        work.stage = "sweeping".to_owned();
        work.total = Some(5_000_000);
        work.rate = 52_000;
        work.eta = Some(Span::secs(73));
        work.throttled = Some("guard p99-latency is at 0.21 of 0.2".to_owned());
        assert_eq!(
            work.to_string(),
            "sweeping, 1,234,567 of 5,000,000 rows (24 %), 52,000 a second, 1m13s left; throttled: guard p99-latency \
             is at 0.21 of 0.2"
        );
        work = WorkStatus { done: 0, total: Some(0), lag: Some(Span::millis(40)), ..WorkStatus::default() };
        assert_eq!(work.to_string(), "0 of 0 rows (100 %), 40ms behind");
    }
}
