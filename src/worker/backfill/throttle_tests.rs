//! The controller against readings and against a simulated server.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits { lag: None, lock_waits: None, connections: None, guard: Some("p99".into()), duty: 1.0 }
}

fn guard(value: f64) -> Seen {
    let value = GuardValue { value, limit: 10.0, is_lowest: false, oldest: OLDEST_GUARD };
    Seen { guard: Some(Reading { value, age: Duration::ZERO }), ..Seen::default() }
}

fn duty(pace: &Pace) -> f64 {
    match pace {
        Pace::Work { duty, .. } => *duty,
        Pace::Paused { .. } => 0.0,
    }
}

#[test]
fn without_limits_it_works_all_the_time_that_it_may() {
    let limits = Limits { guard: None, duty: 0.3, ..limits() };
    let mut throttle = Throttle::new(&limits);
    assert_eq!(throttle.step(SECOND, &limits, &Seen::default()), Pace::Work { duty: 0.3, because: None });
}

#[test]
fn a_signal_that_was_never_read_pauses_and_says_which() {
    let limits = Limits { lag: Some(SECOND), lock_waits: Some(3), connections: Some(9), ..limits() };
    let mut throttle = Throttle::new(&limits);
    let Pace::Paused { because } = throttle.step(SECOND, &limits, &Seen::default()) else { panic!("it works") };
    assert_eq!(
        because,
        ["replication lag: not known", "lock waits: not known", "connections: not known", "guard p99: no reading yet"]
    );
}

#[test]
fn a_stale_signal_pauses_though_it_was_fine() {
    let limits = Limits { lag: Some(SECOND), guard: None, ..limits() };
    let mut throttle = Throttle::new(&limits);
    let aged =
        |seconds| Seen { lag: Some(Reading { value: 0.0, age: Duration::from_secs(seconds) }), ..Seen::default() };
    assert!(duty(&throttle.step(SECOND, &limits, &aged(10))) > 0.0);
    let paused = Pace::Paused { because: vec!["replication lag: the last reading is 11 s old".into()] };
    assert_eq!(throttle.step(SECOND, &limits, &aged(11)), paused);
    assert!(duty(&throttle.step(SECOND, &limits, &aged(0))) > 0.0, "a fresh reading lets it go on");
}

#[test]
fn a_replica_that_is_gone_is_no_replica_without_lag() {
    let limits = Limits { lag: Some(SECOND), guard: None, ..limits() };
    let lag = Some(Reading { value: 0.0, age: Duration::ZERO });
    let seen = Seen { lag, replicas_missing: 1, ..Seen::default() };
    let pace = Throttle::new(&limits).step(SECOND, &limits, &seen);
    assert_eq!(pace, Pace::Paused { because: vec!["replication lag: 1 replica(s) are gone".into()] });
}

#[test]
fn a_guard_without_a_number_pauses() {
    let pace = Throttle::new(&limits()).step(SECOND, &limits(), &guard(f64::NAN));
    assert_eq!(pace, Pace::Paused { because: vec!["guard p99: its value is no number".into()] });
}

#[test]
fn a_breach_slows_down_at_once_and_names_the_signal() {
    let mut throttle = Throttle::new(&limits());
    let before = duty(&throttle.step(SECOND, &limits(), &guard(1.0)));
    let after = throttle.step(SECOND * 2, &limits(), &guard(12.0));
    assert!(duty(&after) < before * 0.8);
    assert!(matches!(after, Pace::Work { because: Some(because), .. } if because == "guard p99 12 > 10"));
}

#[test]
fn a_breach_that_lasts_ends_in_a_pause_and_calm_ends_that() {
    let mut throttle = Throttle::new(&limits());
    let mut last = Pace::Work { duty: 1.0, because: None };
    for minute in 1..20 {
        last = throttle.step(SECOND * 60 * minute, &limits(), &guard(30.0));
    }
    assert_eq!(last, Pace::Paused { because: vec!["guard p99 30 > 10".into()] });
    let calm = throttle.step(SECOND * 1_300, &limits(), &guard(1.0));
    assert!((FLOOR..CAREFUL).contains(&duty(&calm)), "{calm:?}");
}

#[test]
fn a_limit_that_is_a_lowest_value_is_broken_from_above() {
    let low = |value| {
        let mut seen = guard(value);
        seen.guard.as_mut().unwrap().value.is_lowest = true;
        seen
    };
    let mut throttle = Throttle::new(&limits());
    let before = duty(&throttle.step(SECOND, &limits(), &low(100.0)));
    assert!(duty(&throttle.step(SECOND * 2, &limits(), &low(9.0))) < before);
}

/// A server whose signal follows the pace with some inertia.
fn simulate(idle: f64, gain: f64, inertia: f64, steps: u32) -> (f64, f64, f64) {
    let limits = Limits { lag: Some(Duration::from_secs(10)), guard: None, ..limits() };
    let mut throttle = Throttle::new(&limits);
    let (mut signal, mut pace) = (idle, 0.0);
    let (mut sum, mut over) = (0.0, 0.0);
    let watched = f64::from(steps / 2);
    for step in 0..steps {
        signal += (idle + gain * pace - signal) * inertia;
        let seen = Seen { lag: Some(Reading { value: signal, age: Duration::ZERO }), ..Seen::default() };
        pace = duty(&throttle.step(SECOND * step, &limits, &seen));
        if step >= steps / 2 {
            sum += pace;
            over += f64::from(u8::from(signal > 10.0));
        }
    }
    (sum / watched, over / watched, ((10.0 - idle) / gain).min(1.0))
}

proptest! {
    #[test]
    fn the_pace_finds_most_of_what_the_limit_allows_and_seldom_breaks_it(
        idle in 0.0_f64..6.0, gain in 2.0_f64..100.0, inertia in 0.4_f64..1.0,
    ) {
        let (mean, over, best) = simulate(idle, gain, inertia, 600);
        prop_assume!(best > 3.0 * FLOOR);
        prop_assert!(mean > best * 0.7, "mean {mean}, best {best}");
        prop_assert!(mean < best * 1.05, "mean {mean}, best {best}");
        prop_assert!(over < 0.2, "over its limit {over} of the time");
    }

    #[test]
    fn no_reading_makes_a_pace_beyond_what_is_allowed(
        allowed in 0.01_f64..1.0, values in proptest::collection::vec(proptest::option::of(-5.0_f64..200.0), 1..100),
    ) {
        let limits = Limits { duty: allowed, ..limits() };
        let mut throttle = Throttle::new(&limits);
        for (value, step) in values.into_iter().zip(0_u32..) {
            let seen = value.map_or_else(Seen::default, guard);
            match throttle.step(SECOND * step, &limits, &seen) {
                Pace::Work { duty, .. } => prop_assert!((FLOOR..=allowed).contains(&duty) && value.is_some()),
                Pace::Paused { because } => prop_assert!(!because.is_empty()),
            }
        }
    }

    #[test]
    fn a_breach_never_speeds_up(values in proptest::collection::vec(0.0_f64..40.0, 1..100)) {
        let mut throttle = Throttle::new(&limits());
        let mut before = 1.0;
        for (value, step) in values.into_iter().zip(0_u32..) {
            let now = duty(&throttle.step(SECOND * step, &limits(), &guard(value)));
            prop_assert!(value <= 10.0 || now <= before, "{value}: {before} to {now}");
            before = now;
        }
    }
}
