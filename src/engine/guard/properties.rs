//! What no sequence of readings may ever bring about.

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::api::{Guard, HoldPolicy};

const MAX: f64 = 10.0;

fn a_guard() -> impl Strategy<Value = Guard> {
    let spans = (1_u64..30, 1_u64..20, option::of(0_u64..20), option::of(1_u64..10));
    let counts = (option::of(1_u32..4), 1_u64..60);
    (spans, counts, any::<[bool; 6]>()).prop_map(|((max_age, interval, run, warm_up), (consecutive, budget), flags)| {
        let policy = |breach: bool| if breach { HoldPolicy::Breach } else { HoldPolicy::Hold };
        let json = serde_json::json!({"name": "g", "query": "q", "max": MAX});
        let plain: Guard = serde_json::from_value(json).unwrap();
        Guard {
            max_age: Some(Span::secs(max_age)),
            interval: Some(Span::secs(interval)),
            for_: run.map(Span::secs),
            warm_up: warm_up.map(Span::secs),
            consecutive,
            hold_budget: Some(Span::secs(budget)),
            on_breach: if flags[0] { OnBreach::Rollback } else { OnBreach::Pause },
            dry_run: flags[1],
            no_data: policy(flags[2]),
            nan: policy(flags[3]),
            unavailable: policy(flags[4]),
            low_traffic: policy(flags[5]),
            ..plain
        }
    })
}

/// What a poll can bring, with the milliseconds since the one before.
#[derive(Clone, Copy, Debug)]
struct Step {
    wait: u64,
    /// Milliseconds that the newest sample has moved on; 0: the same sample.
    moved: i64,
    age: Option<u64>,
    outcome: Outcome,
}

fn silence() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::NoData),
        (0_u64..100).prop_map(|age| Outcome::Stale { age: Span::secs(age) }),
        Just(Outcome::Nan),
        prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)].prop_map(Outcome::Value),
        Just(Outcome::Unavailable),
        (0.0..5.0).prop_map(|total| Outcome::LowTraffic { total }),
        (2_usize..9).prop_map(|series| Outcome::MultiSeries { series }),
    ]
}

fn a_value() -> impl Strategy<Value = Outcome> {
    (0.0..2.0 * MAX).prop_map(Outcome::Value)
}

fn a_step(outcome: impl Strategy<Value = Outcome>) -> impl Strategy<Value = Step> {
    let moved = prop_oneof![Just(0), 1..20_000_i64, -20_000..0_i64];
    (0_u64..20_000, moved, option::weighted(0.9, 0_u64..40_000), outcome).prop_map(|(wait, moved, age, outcome)| Step {
        wait,
        moved,
        age,
        outcome,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(a_step(prop_oneof![3 => a_value(), 1 => silence()]), 1..20)
}

fn readings(steps: &[Step]) -> Vec<Reading> {
    let (mut now, mut sample) = (Time(1_000_000), Time(5_000_000));
    let read = |step: &Step| {
        now = now.after(Span::millis(step.wait));
        sample = Time(sample.0 + step.moved);
        Reading { seen_at: now, sample_at: Some(sample), age: step.age.map(Span::millis), outcome: step.outcome }
    };
    steps.iter().map(read).collect()
}

fn remember(law: &Law, readings: &[Reading]) -> GuardMemory {
    let mut memory = GuardMemory::new(Time(1_000_000));
    for reading in readings {
        memory.fold(law, reading);
    }
    memory
}

fn age_at(reading: &Reading, now: Time) -> Option<Span> {
    reading.age.map(|age| Span(age.0 + now.since(reading.seen_at).0))
}

fn is_good(reading: &Reading) -> bool {
    matches!(reading.outcome, Outcome::Value(value) if value.is_finite() && value <= MAX)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn pass_needs_a_value_within_the_limit_on_a_sample_that_is_still_fresh(
        guard in a_guard(), steps in steps(), later in 0_u64..60_000, flipped in option::of(990_000_i64..1_100_000),
    ) {
        let law = Law { guard: &guard, baseline: None, flipped_at: flipped.map(Time) };
        let readings = readings(&steps);
        let now = readings.last().unwrap().seen_at.after(Span::millis(later));
        if judge(&law, &remember(&law, &readings), now) == Verdict::Pass {
            let fresh = |reading: &Reading| age_at(reading, now).is_some_and(|age| age <= law.max_age());
            prop_assert!(readings.iter().any(|reading| is_good(reading) && fresh(reading)));
            // The last word was a measurement, and the view is alive.
            let last = readings.last().unwrap();
            prop_assert!(matches!(last.outcome, Outcome::Value(value) if value.is_finite()), "{:?}", last);
            prop_assert!(now.since(last.seen_at) <= law.view_expires_after());
        }
    }

    #[test]
    fn silence_alone_never_passes(guard in a_guard(), steps in vec(a_step(silence()), 0..20), later in 0_u64..60_000) {
        let law = Law { guard: &guard, baseline: None, flipped_at: None };
        let readings = readings(&steps);
        let now = readings.last().map_or(Time(1_000_000), |last| last.seen_at).after(Span::millis(later));
        prop_assert_ne!(judge(&law, &remember(&law, &readings), now), Verdict::Pass);
    }

    #[test]
    fn with_every_policy_at_hold_silence_alone_is_no_breach(guard in a_guard(), steps in vec(a_step(silence()), 1..20)) {
        let (no_data, nan) = (HoldPolicy::Hold, HoldPolicy::Hold);
        let guard = Guard { no_data, nan, unavailable: HoldPolicy::Hold, low_traffic: HoldPolicy::Hold, ..guard };
        let law = Law { guard: &guard, baseline: None, flipped_at: None };
        let readings = readings(&steps);
        let says = judge(&law, &remember(&law, &readings), readings.last().unwrap().seen_at);
        prop_assert!(matches!(says, Verdict::Silent { .. }), "{:?}", says);
    }

    #[test]
    fn polling_each_sample_again_changes_nothing(
        guard in a_guard(), steps in vec(a_step(a_value()), 1..20), again in 1_usize..4,
    ) {
        let law = Law { guard: &guard, baseline: None, flipped_at: None };
        // Polls in quick succession, so that age changes nothing either.
        let once = readings(&steps.iter().map(|step| Step { wait: 10, age: Some(0), ..*step }).collect::<Vec<_>>());
        let often: Vec<_> = once.iter().flat_map(|reading| std::iter::repeat_n(*reading, again + 1)).collect();
        let now = once.last().unwrap().seen_at;
        prop_assert_eq!(
            judge(&law, &remember(&law, &once), now),
            judge(&law, &remember(&law, &often), now),
        );
    }

    #[test]
    fn a_breach_needs_as_many_samples_beyond_the_limit_as_the_guard_demands(
        guard in a_guard(), steps in vec(a_step(a_value()), 1..20),
    ) {
        let guard = Guard { no_data: HoldPolicy::Hold, ..guard };
        let law = Law { guard: &guard, baseline: None, flipped_at: None };
        let readings = readings(&steps);
        let says = judge(&law, &remember(&law, &readings), readings.last().unwrap().seen_at);
        if let Verdict::Breach { .. } = says {
            let beyond = |reading: &&Reading| matches!(reading.outcome, Outcome::Value(value) if value > MAX);
            let mut samples: Vec<_> = readings.iter().filter(beyond).filter_map(|reading| reading.sample_at).collect();
            samples.sort();
            samples.dedup();
            prop_assert!(samples.len() >= guard.consecutive.unwrap_or(1) as usize);
        }
    }

    #[test]
    fn time_alone_brings_no_pass_and_no_breach(
        guard in a_guard(), steps in steps(), sooner in 0_u64..40_000, later in 0_u64..40_000,
    ) {
        let law = Law { guard: &guard, baseline: None, flipped_at: None };
        let readings = readings(&steps);
        let memory = remember(&law, &readings);
        let sooner = readings.last().unwrap().seen_at.after(Span::millis(sooner));
        let later = sooner.after(Span::millis(later));
        if let Verdict::Silent { .. } = judge(&law, &memory, sooner) {
            let says = judge(&law, &memory, later);
            prop_assert!(matches!(says, Verdict::Silent { .. }), "{:?}", says);
        }
    }

    #[test]
    fn guarded_time_holds_no_reading_that_did_not_pass(guard in a_guard(), steps in steps()) {
        let law = Law { guard: &guard, baseline: None, flipped_at: None };
        let readings = readings(&steps);
        let memory = remember(&law, &readings);
        let now = readings.last().unwrap().seen_at;
        match (judge(&law, &memory, now), memory.passing_since()) {
            (Verdict::Pass, Some(since)) => {
                for count in 1..=readings.len() {
                    let seen = readings[count - 1].seen_at;
                    if seen >= since && readings.get(count).is_none_or(|next| next.seen_at > seen) {
                        prop_assert_eq!(judge(&law, &remember(&law, &readings[..count]), seen), Verdict::Pass);
                    }
                }
            }
            (Verdict::Pass, None) => prop_assert!(false, "it passes, but not since any time"),
            (_, since) => prop_assert_eq!(since, None),
        }
    }

    #[test]
    fn over_budget_is_only_what_has_been_silent_for_longer_than_the_budget(
        guard in a_guard(), steps in steps(), later in 0_u64..90_000,
    ) {
        let law = Law { guard: &guard, baseline: None, flipped_at: None };
        let readings = readings(&steps);
        let now = readings.last().unwrap().seen_at.after(Span::millis(later));
        if let Verdict::Silent { since, over_budget, why } = judge(&law, &remember(&law, &readings), now) {
            prop_assert!(since <= now);
            prop_assert!(!over_budget || now.since(since) > law.hold_budget());
            prop_assert!(!over_budget || why != Silence::Doubtful);
        }
    }

    #[test]
    fn a_baseline_lies_within_its_samples_and_its_spread_within_the_allowed_change(
        values in vec(0.0..100.0, 0..40), share in 0_u32..100, least in option::of(0.0..20.0),
    ) {
        let json = serde_json::json!({
            "name": "g", "query": "q", "maxIncrease": format!("{share}%"), "minDelta": least, "baselineWindow": "30s",
        });
        let guard: Guard = serde_json::from_value(json).unwrap();
        let sample = |(second, &value): (usize, &f64)| Sample { at: Time(i64::try_from(second).unwrap() * 1_000), value };
        let samples: Vec<_> = values.iter().enumerate().map(sample).collect();
        if let Ok(made) = baseline(&guard, &samples, Time(7)) {
            let least_value = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let slip = 1e-9 * most;
            prop_assert!(least_value - slip <= made.value && made.value <= most + slip);
            let law = Law { guard: &guard, baseline: Some(&made), flipped_at: None };
            // None of the window's own samples would have been a breach.
            for value in values {
                prop_assert!(!law.limits().exceeded_by(value - slip - 1e-12));
            }
        }
    }

    #[test]
    fn a_window_with_one_sample_that_is_no_number_makes_no_baseline(
        at in 0_usize..10, bad in prop_oneof![Just(f64::NAN), Just(f64::INFINITY)],
    ) {
        let json = serde_json::json!({"name": "g", "query": "q", "maxIncrease": "500%", "baselineWindow": "10s"});
        let guard: Guard = serde_json::from_value(json).unwrap();
        let sample = |second: i64| Sample { at: Time(second * 1_000), value: 3.0 };
        let mut samples: Vec<_> = (0..10).map(sample).collect();
        prop_assert!(baseline(&guard, &samples, Time(7)).is_ok());
        samples[at].value = bad;
        prop_assert_eq!(
            baseline(&guard, &samples, Time(7)),
            Err(Refusal::NotANumber { bad: 1, samples: 10, window: Span::secs(10) })
        );
    }
}
