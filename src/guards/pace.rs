//! When to ask next. Pure: times in, a time out.
//!
//! Ordinarily every interval. After a flip, when the next sample is due: Prometheus scrapes at a steady rate, so two
//! samples tell when the third can be read, and a poll just after it sees it some milliseconds old instead of half an
//! interval. Never more often than every [`FLOOR`] on average, whatever is learned.

use std::collections::VecDeque;

use crate::api::{Span, Time};

/// Shortest time between polls of one query, on average: five a second is what a Prometheus bears from a thousand
/// guards for the minutes after their flips.
pub const FLOOR: Span = Span::millis(200);
/// What a poll costs of the floor's budget: a little less than it lasts, so that polls that fell behind the samples can
/// catch up with them.
const COST: Span = Span::millis(190);
/// How far polls may run ahead of the floor, so that a sample that is a little late is looked for again at once.
const AHEAD: Span = FLOOR;
/// How soon a sample that was due and isn't there is looked for again.
const LOOK_AGAIN: Span = Span::millis(25);
/// How long after its timestamp a sample is expected to be readable, at first: scraping and storing it takes a while.
const FIRST_SLACK: Span = Span::millis(10);
/// How much later the next samples are expected after one was missed.
const MORE_SLACK: Span = Span::millis(10);
/// Samples in a row that came in time, after which they are expected a millisecond earlier. With [`MORE_SLACK`] this
/// settles where one poll in some forty comes too early, which costs a second look.
const TRUST: u32 = 4;
/// Samples after a flip during which each that was missed teaches its whole delay at once. Later a single slow scrape
/// must not make all polls late.
const SETTLING: u32 = 8;
/// Distances between samples that are remembered. The least of them is the scrape interval: a missed scrape only makes
/// distances longer.
const REMEMBERED: usize = 8;
/// Distances that must be known before the next sample's time is.
const ENOUGH: usize = 2;

/// How a query is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How often, ordinarily; the shortest of all who want to know.
    pub interval: Span,
    /// Whether to ask whenever a new sample is due.
    pub hot: bool,
}

/// What is known of one query's rhythm.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Between 0 and 1: where in the interval this query's polls lie, so that not all are asked at once.
    phase: f64,
    asked: u32,
    asked_at: Option<Time>,
    /// When the floor's budget is used up to.
    spent_until: Time,
    last: Option<Known>,
    distances: VecDeque<Span>,
    slack: Span,
    /// Samples seen since the rhythm was last forgotten, and those in a row that came in time.
    samples: u32,
    in_time: u32,
    /// Polls in a row that brought no sample.
    in_vain: u32,
}

/// The newest sample, and when its query was evaluated, both by Prometheus's clock.
#[derive(Clone, Copy, Debug)]
struct Known {
    sample: Time,
    evaluated: Time,
    /// When that was asked, by ours.
    asked: Time,
}

impl Pace {
    /// The rhythm of a query that hasn't been asked; `seed` spreads the phases.
    pub fn new(seed: u64) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a phase needs no more than a few digits")]
        let phase = (seed % 1_000) as f64 / 1_000.0;
        Self {
            phase,
            asked: 0,
            asked_at: None,
            spent_until: Time(i64::MIN),
            last: None,
            distances: VecDeque::new(),
            slack: FIRST_SLACK,
            samples: 0,
            in_time: 0,
            in_vain: 0,
        }
    }

    /// When to ask next; the first time at once.
    pub fn next(&self, terms: Terms) -> Time {
        let Some(asked_at) = self.asked_at else { return Time(i64::MIN) };
        let earliest = Time(self.spent_until.0.saturating_sub(AHEAD.as_millis()));
        if !terms.hot {
            // The second poll finds the query's place in the interval, the others keep it.
            let wait = if self.asked == 1 { terms.interval.0.mul_f64(self.phase.max(0.1)) } else { terms.interval.0 };
            return asked_at.after(Span(wait)).max(earliest);
        }
        let latest = asked_at.after(terms.interval);
        let wanted = if self.in_vain > 0 {
            // One that is down, or has no data, is asked less and less often, but never less than ordinarily.
            asked_at.after(Span(FLOOR.0 * (1 << self.in_vain.min(10))))
        } else {
            self.next_sample_at().unwrap_or_else(|| asked_at.after(FLOOR))
        };
        wanted.max(asked_at.after(LOOK_AGAIN)).min(latest).max(earliest)
    }

    /// Takes note of a poll that was answered or failed: `sample` is the newest sample and the time of evaluation.
    pub fn note(&mut self, asked_at: Time, sample: Option<(Time, Time)>) {
        self.asked = self.asked.saturating_add(1);
        self.asked_at = Some(asked_at);
        self.spent_until = self.spent_until.max(asked_at).after(COST);
        let Some((sample_at, evaluated_at)) = sample else {
            self.in_vain = self.in_vain.saturating_add(1);
            return;
        };
        self.in_vain = 0;
        let known = Known { sample: sample_at, evaluated: evaluated_at, asked: asked_at };
        if let Some(last) = self.last.filter(|last| sample_at > last.sample) {
            // It was there already when we last looked, but couldn't be read yet.
            let hidden = last.evaluated.since(sample_at);
            self.learn(sample_at.since(last.sample));
            self.adjust(hidden);
        }
        self.last = Some(known);
    }

    /// Forgets the rhythm: what slow polls teach is a multiple of it.
    pub fn unlearn(&mut self) {
        self.distances.clear();
        self.samples = 0;
        self.in_vain = 0;
    }

    fn learn(&mut self, distance: Span) {
        self.distances.push_back(distance);
        if self.distances.len() > REMEMBERED {
            self.distances.pop_front();
        }
    }

    /// The scrape interval, once enough samples were seen to know it.
    fn cadence(&self) -> Option<Span> {
        self.distances.iter().min().copied().filter(|_| self.distances.len() >= ENOUGH)
    }

    fn longest_slack(&self) -> Span {
        Span(self.cadence().unwrap_or_default().0 / 2).max(FIRST_SLACK)
    }

    /// Expects samples later if this one could not be read for so long after its timestamp, else slowly earlier.
    fn adjust(&mut self, hidden: Span) {
        self.samples = self.samples.saturating_add(1);
        if hidden >= self.slack {
            let enough = Span(hidden.0 + MORE_SLACK.0);
            let more = if self.samples <= SETTLING { enough } else { Span(self.slack.0 + MORE_SLACK.0).min(enough) };
            self.slack = more.min(self.longest_slack());
            self.in_time = 0;
            return;
        }
        self.in_time += 1;
        if self.in_time >= TRUST {
            self.in_time = 0;
            self.slack = Span(self.slack.0.saturating_sub(Span::millis(1).0)).max(FIRST_SLACK);
        }
    }

    /// When the next sample should be readable, by our clock.
    fn next_sample_at(&self) -> Option<Time> {
        let (known, cadence) = self.last.zip(self.cadence())?;
        let due = known.sample.after(cadence).after(self.slack);
        Some(known.asked.after(due.since(known.evaluated)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOT: Terms = Terms { interval: Span::secs(5), hot: true };

    /// A Prometheus that scrapes at a steady rate, each sample readable some time after its timestamp. Its clock is an
    /// hour and a bit ahead of ours.
    struct Scraper {
        every: i64,
        readable_after: i64,
    }

    const AHEAD_OF_OURS: i64 = 3_723_456;

    impl Scraper {
        fn ask(&self, now: Time) -> (Time, Time) {
            let theirs = now.0 + AHEAD_OF_OURS;
            let newest = (theirs - self.readable_after).div_euclid(self.every) * self.every;
            (Time(newest), Time(theirs))
        }
    }

    /// Polls of a query from `from` to `to`, each with how old its news were: `None` if it brought nothing new.
    fn polls(pace: &mut Pace, terms: Terms, scraper: &Scraper, from: i64, to: i64) -> Vec<(Time, Option<i64>)> {
        let mut polls = Vec::new();
        let mut now = Time(from);
        let mut newest = None;
        while now.0 < to {
            let (sample, evaluated) = scraper.ask(now);
            pace.note(now, Some((sample, evaluated)));
            let news = (newest != Some(sample)).then(|| evaluated.0 - sample.0 - scraper.readable_after);
            newest = Some(sample);
            polls.push((now, news));
            // A timer fires a little late.
            now = Time(pace.next(terms).0.max(now.0) + 1);
        }
        polls
    }

    #[test]
    fn after_a_flip_each_sample_is_seen_just_after_it_can_be_read() {
        for (every, readable_after) in
            [(1_000, 4), (1_000, 38), (1_000, 300), (200, 3), (200, 25), (200, 80), (15_000, 120)]
        {
            let mut pace = Pace::new(0);
            let polls = polls(&mut pace, HOT, &Scraper { every, readable_after }, 17, 17 + 80 * every);
            let learned = 17 + 30 * every;
            let late: Vec<_> = polls.iter().filter(|(at, _)| at.0 > learned).filter_map(|(_, news)| *news).collect();
            assert_eq!(late.len(), 80 - 30, "every {every} ms: samples were missed");
            let worst = late.iter().max().unwrap();
            assert!(*worst <= 45, "every {every} ms, readable after {readable_after}: {late:?}");
        }
    }

    #[test]
    fn one_slow_scrape_makes_no_later_poll_late() {
        let mut pace = Pace::new(0);
        let usual = Scraper { every: 1_000, readable_after: 4 };
        polls(&mut pace, HOT, &usual, 17, 30_000);
        polls(&mut pace, HOT, &Scraper { readable_after: 400, ..usual }, 30_000, 32_000);
        let after = polls(&mut pace, HOT, &Scraper { every: 1_000, readable_after: 4 }, 32_000, 62_000);
        let late: Vec<_> = after.iter().skip(2).filter_map(|(_, news)| *news).collect();
        assert!(late.iter().all(|late| *late <= 60), "{late:?}");
    }

    #[test]
    fn no_second_sees_more_polls_than_the_floor_allows() {
        for (every, readable_after) in [(1_000, 4), (200, 3), (200, 90), (50, 1), (7, 1)] {
            let mut pace = Pace::new(0);
            let polls = polls(&mut pace, HOT, &Scraper { every, readable_after }, 0, 60_000);
            for (at, _) in &polls {
                let within = polls.iter().filter(|(other, _)| (at.0..at.0 + 1_000).contains(&other.0)).count();
                // Five, one ahead of its time, and one that the catching up adds.
                assert!(within <= 7, "{within} polls in the second from {at:?}, every {every}");
            }
            assert!(polls.len() <= 60_000 / 190 + 2, "{} polls in a minute", polls.len());
        }
    }

    #[test]
    fn a_slow_rhythm_is_asked_for_no_more_often_than_it_brings_something() {
        let mut pace = Pace::new(0);
        let polls = polls(&mut pace, HOT, &Scraper { every: 1_000, readable_after: 4 }, 0, 60_000);
        let later = polls.iter().filter(|(at, _)| at.0 > 10_000).count();
        assert!(later <= 55, "{later} polls for 50 samples");
    }

    #[test]
    fn a_prometheus_that_is_down_is_asked_less_and_less_often() {
        let mut pace = Pace::new(0);
        let mut now = Time(0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            pace.note(now, None);
            let next = pace.next(HOT);
            waits.push(next.0 - now.0);
            now = next;
        }
        assert_eq!(waits, [400, 800, 1_600, 3_200, 5_000, 5_000, 5_000, 5_000]);
    }

    #[test]
    fn ordinarily_a_query_is_asked_every_interval_each_at_its_own_time() {
        let terms = Terms { interval: Span::secs(5), hot: false };
        let mut starts = Vec::new();
        for seed in [100, 550, 999] {
            let mut pace = Pace::new(seed);
            let scraper = Scraper { every: 1_000, readable_after: 4 };
            let times: Vec<_> = polls(&mut pace, terms, &scraper, 0, 30_000).iter().map(|(at, _)| at.0).collect();
            assert!(times[1..].windows(2).all(|pair| pair[1] - pair[0] == 5_001), "{times:?}");
            starts.push(times[1]);
        }
        assert_eq!(starts, [501, 2_751, 4_996]);
    }

    #[test]
    fn a_flip_is_asked_about_at_once_not_after_the_interval() {
        let mut pace = Pace::new(0);
        pace.note(Time(1_000), Some((Time(900), Time(1_000))));
        assert_eq!(pace.next(Terms { interval: Span::secs(5), hot: true }), Time(1_200));
    }
}
