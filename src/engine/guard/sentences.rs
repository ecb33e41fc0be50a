//! The law in sentences: one story a rule.

use serde_json::{Value, json};

use super::*;
use crate::api::{Guard, HoldPolicy};

/// A guard on p99 latency, `max 0.5`, with changes; its figures differ from each other on purpose.
fn guard(changes: &Value) -> Guard {
    let mut spec =
        json!({"name": "latency", "query": "p99", "max": 0.5, "maxAge": "20s", "interval": "2s", "timeout": "3s"});
    let fields = changes.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(fields);
    serde_json::from_value(spec).unwrap()
}

/// A guard with its memory, told one thing after the other; times in seconds.
struct Story {
    guard: Guard,
    baseline: Option<BaselineStatus>,
    flipped_at: Option<Time>,
    memory: GuardMemory,
    now: Time,
}

fn given(changes: &Value) -> Story {
    let now = at(100.0);
    Story { guard: guard(changes), baseline: None, flipped_at: None, memory: GuardMemory::new(now), now }
}

fn at(seconds: f64) -> Time {
    #[allow(clippy::cast_possible_truncation)]
    Time((seconds * 1_000.0) as i64)
}

impl Story {
    fn law(&self) -> Law<'_> {
        Law { guard: &self.guard, baseline: self.baseline.as_ref(), flipped_at: self.flipped_at }
    }

    fn reads(mut self, seen: f64, sample_at: Option<Time>, age: Option<Span>, outcome: Outcome) -> Self {
        let mut memory = self.memory.clone();
        memory.fold(&self.law(), &Reading { seen_at: at(seen), sample_at, age, outcome });
        self.memory = memory;
        self.now = at(seen);
        self
    }

    /// A sample taken 0.1 s before it was seen.
    fn sample(self, seen: f64, value: f64) -> Self {
        self.reads(seen, Some(at(seen - 0.1)), Some(Span::millis(100)), Outcome::Value(value))
    }

    /// The sample of `taken`, polled at `seen`.
    fn polled(self, taken: f64, seen: f64, value: f64) -> Self {
        let age = at(seen).since(at(taken));
        self.reads(seen, Some(at(taken)), Some(age), Outcome::Value(value))
    }

    fn silent(self, seen: f64, outcome: Outcome) -> Self {
        self.reads(seen, None, None, outcome)
    }

    fn flips(mut self, when: f64) -> Self {
        self.flipped_at = Some(at(when));
        self
    }

    fn with_baseline(mut self, value: f64) -> Self {
        let guard = self.guard.name.clone();
        self.baseline = Some(BaselineStatus { guard, value, spread: 0.0, samples: 30, taken_at: at(0.0) });
        self
    }

    fn says_at(&self, now: f64) -> Verdict {
        judge(&self.law(), &self.memory, at(now))
    }

    #[track_caller]
    fn passes(self) -> Self {
        assert_eq!(judge(&self.law(), &self.memory, self.now), Verdict::Pass);
        self
    }

    #[track_caller]
    fn breaches(self) -> Self {
        let says = judge(&self.law(), &self.memory, self.now);
        assert!(matches!(says, Verdict::Breach { .. }), "{says:?}");
        self
    }

    #[track_caller]
    fn falls_silent(self, expected: Silence) -> Self {
        match judge(&self.law(), &self.memory, self.now) {
            Verdict::Silent { why, .. } if why == expected => self,
            says => panic!("expected silence for {expected:?}, not {says:?}"),
        }
    }

    #[track_caller]
    fn overdue(self, expected: bool) -> Self {
        match judge(&self.law(), &self.memory, self.now) {
            Verdict::Silent { over_budget, .. } if over_budget == expected => self,
            says => panic!("expected over_budget {expected}, not {says:?}"),
        }
    }
}

#[test]
fn a_guard_that_was_never_asked_says_nothing() {
    given(&json!({})).falls_silent(Silence::NotAsked);
}

#[test]
fn a_fresh_value_within_the_limit_passes_and_one_on_the_limit_too() {
    given(&json!({})).sample(101.0, 0.2).passes().sample(102.0, 0.5).passes();
}

#[test]
fn the_first_sample_beyond_the_limit_is_a_breach() {
    let story = given(&json!({})).sample(101.0, 0.2).sample(102.0, 0.51).breaches();
    assert_eq!(story.says_at(102.0), Verdict::Breach { sample_at: Some(at(101.9)), seen_at: at(102.0) });
}

#[test]
fn a_value_below_the_least_is_a_breach_too() {
    given(&json!({"min": 0.1})).sample(101.0, 0.05).breaches();
}

#[test]
fn an_empty_result_never_passes_and_is_no_breach() {
    given(&json!({})).silent(101.0, Outcome::NoData).falls_silent(Silence::NoData);
}

#[test]
fn nan_on_a_guard_that_only_states_a_maximum_does_not_pass() {
    let nan = || given(&json!({})).sample(101.0, 0.2);
    nan().silent(102.0, Outcome::Nan).falls_silent(Silence::Nan);
    nan().sample(102.0, f64::NAN).falls_silent(Silence::Nan);
    nan().sample(102.0, f64::NEG_INFINITY).falls_silent(Silence::Nan);
}

#[test]
fn what_is_no_number_lies_beyond_every_limit() {
    for limits in [Limits { upper: Some(1.0), lower: None }, Limits { upper: None, lower: Some(1.0) }] {
        assert!(limits.exceeded_by(f64::NAN), "{limits:?}");
    }
}

#[test]
fn too_little_traffic_says_nothing() {
    given(&json!({}))
        .silent(101.0, Outcome::LowTraffic { total: 0.3 })
        .falls_silent(Silence::LowTraffic { total: 0.3 });
}

#[test]
fn several_series_are_rejected_whatever_the_policies_say() {
    let all = json!({"noData": "Breach", "nan": "Breach", "unavailable": "Breach", "lowTraffic": "Breach"});
    given(&all).silent(101.0, Outcome::MultiSeries { series: 7 }).falls_silent(Silence::MultiSeries { series: 7 });
}

#[test]
fn a_policy_of_breach_counts_each_silence_as_beyond_the_limit() {
    for (policy, outcome) in [
        ("noData", Outcome::NoData),
        ("noData", Outcome::Stale { age: Span::secs(90) }),
        ("nan", Outcome::Nan),
        ("unavailable", Outcome::Unavailable),
        ("lowTraffic", Outcome::LowTraffic { total: 0.1 }),
    ] {
        given(&json!({policy: "Breach"})).silent(101.0, outcome).breaches();
        let others = given(&json!({policy: "Hold"})).silent(101.0, outcome);
        assert!(matches!(others.says_at(101.0), Verdict::Silent { .. }), "{policy} {outcome:?}");
    }
}

#[test]
fn silent_polls_count_once_an_interval_for_no_sample_tells_them_apart() {
    let story = given(&json!({"noData": "Breach", "consecutive": 3}));
    let story = story.silent(101.0, Outcome::NoData).silent(101.2, Outcome::NoData).silent(101.4, Outcome::NoData);
    let story = story.falls_silent(Silence::Doubtful);
    story.silent(103.1, Outcome::NoData).falls_silent(Silence::Doubtful).silent(105.2, Outcome::NoData).breaches();
}

#[test]
fn one_sample_polled_thrice_is_one_breach_of_three() {
    let story = given(&json!({"consecutive": 3})).polled(101.0, 101.1, 0.9).polled(101.0, 101.3, 0.9);
    let story = story.polled(101.0, 101.5, 0.9).falls_silent(Silence::Doubtful);
    story.polled(102.0, 102.1, 0.9).falls_silent(Silence::Doubtful).polled(103.0, 103.1, 0.9).breaches();
}

#[test]
fn a_good_sample_in_between_begins_the_count_anew() {
    let story = given(&json!({"consecutive": 2})).sample(101.0, 0.9).sample(102.0, 0.1).passes();
    story.sample(103.0, 0.9).falls_silent(Silence::Doubtful).sample(104.0, 0.9).breaches();
}

#[test]
fn the_same_sample_polled_again_does_not_clear_its_own_breach() {
    given(&json!({"onBreach": "Pause"})).polled(101.0, 101.1, 0.9).polled(101.0, 101.3, 0.1).breaches();
}

#[test]
fn a_window_that_moves_beyond_the_limit_without_a_new_sample_is_a_breach_at_once() {
    given(&json!({})).polled(101.0, 101.1, 0.4).polled(101.0, 101.3, 0.6).breaches();
}

#[test]
fn a_sample_of_another_replica_that_is_a_little_older_brings_nothing_new() {
    let story = given(&json!({"consecutive": 2})).polled(101.0, 101.1, 0.9).polled(100.6, 101.2, 0.9);
    story.falls_silent(Silence::Doubtful).polled(101.0, 101.3, 0.9).falls_silent(Silence::Doubtful);
}

#[test]
fn an_older_sample_after_a_silence_does_not_make_a_known_one_new() {
    let story = given(&json!({"consecutive": 2})).polled(101.0, 101.1, 0.1).silent(101.2, Outcome::Unavailable);
    let story = story.polled(100.6, 101.3, 0.1).passes().polled(100.8, 101.4, 0.9).falls_silent(Silence::Doubtful);
    story.polled(101.0, 101.5, 0.9).falls_silent(Silence::Doubtful);
}

#[test]
fn samples_of_a_clock_that_was_set_back_are_new() {
    let story = given(&json!({"onBreach": "Pause"})).polled(5_000.0, 101.0, 0.9).breaches();
    story.reads(102.0, Some(at(1_400.0)), Some(Span::millis(5)), Outcome::Value(0.2)).passes();
}

#[test]
fn exceeded_for_less_than_demanded_holds_and_for_long_enough_breaches() {
    let story = given(&json!({"for": "10s"})).sample(101.0, 0.9).sample(106.0, 0.9).falls_silent(Silence::Doubtful);
    story.sample(110.9, 0.9).falls_silent(Silence::Doubtful).sample(111.0, 0.9).breaches();
}

#[test]
fn a_hole_longer_than_a_sample_may_be_old_is_not_all_along() {
    let story = given(&json!({"for": "30s"})).sample(101.0, 0.9).silent(110.0, Outcome::NoData);
    story.sample(135.0, 0.9).falls_silent(Silence::Doubtful);
}

#[test]
fn silence_clears_no_doubt() {
    let story = given(&json!({"consecutive": 2})).sample(101.0, 0.9).silent(102.0, Outcome::Unavailable);
    story.falls_silent(Silence::Unavailable).sample(103.0, 0.9).breaches();
}

#[test]
fn a_value_that_grows_old_stops_passing() {
    let story = given(&json!({})).sample(101.0, 0.2).sample(103.0, 0.2);
    let story = story.polled(102.9, 120.0, 0.2).passes();
    assert_eq!(story.says_at(122.9), Verdict::Pass);
    let Verdict::Silent { why: Silence::Stale { age }, .. } = story.says_at(122.901) else {
        panic!("{:?}", story.says_at(122.901))
    };
    assert_eq!(age, Span::millis(20_001));
}

#[test]
fn a_value_on_an_old_sample_never_counts() {
    let old = Span::millis(20_001);
    let story = given(&json!({})).reads(101.0, Some(at(80.0)), Some(old), Outcome::Value(0.2));
    story.falls_silent(Silence::Stale { age: old });
}

#[test]
fn a_value_beyond_the_limit_on_an_old_sample_is_no_breach() {
    let old = Span::millis(20_001);
    let story = given(&json!({})).reads(101.0, Some(at(80.0)), Some(old), Outcome::Value(0.9));
    story.falls_silent(Silence::Stale { age: old });
}

#[test]
fn a_value_whose_age_nobody_knows_never_counts() {
    given(&json!({})).reads(101.0, Some(at(101.0)), None, Outcome::Value(0.2)).falls_silent(Silence::NoData);
}

#[test]
fn a_view_that_nobody_refreshes_says_nothing() {
    let story = given(&json!({"maxAge": "10m"})).sample(101.0, 0.2);
    assert_eq!(story.says_at(107.0), Verdict::Pass);
    let says = story.says_at(107.001);
    assert!(matches!(says, Verdict::Silent { why: Silence::Unavailable, since, .. } if since == at(101.0)), "{says:?}");
}

#[test]
fn a_view_lives_as_long_as_one_poll_may_hang() {
    let story = given(&json!({"maxAge": "10m", "timeout": "30s"})).sample(101.0, 0.2);
    assert_eq!(story.says_at(133.0), Verdict::Pass);
    assert_ne!(story.says_at(133.001), Verdict::Pass);
}

#[test]
fn prometheus_down_is_no_breach_and_has_a_budget_of_its_own() {
    let down = |story: Story, from: u32, to: u32| {
        (from..=to).fold(story, |story, second| story.silent(f64::from(second), Outcome::Unavailable))
    };
    let story = given(&json!({"holdBudget": "60s"})).sample(100.0, 0.2).silent(101.0, Outcome::NoData);
    let story = down(story, 140, 200).falls_silent(Silence::Unavailable).overdue(false);
    let story = down(story, 201, 201).overdue(true);
    // One answer resets it, though it says nothing itself; the other budget has run out meanwhile.
    let story = story.silent(202.0, Outcome::NoData).falls_silent(Silence::NoData).overdue(true);
    let story = down(story, 203, 204).overdue(false);
    story.sample(205.0, 0.2).passes().silent(206.0, Outcome::NoData).overdue(false);
}

#[test]
fn one_good_reading_resets_the_budget() {
    let story = given(&json!({"holdBudget": "10s"})).silent(101.0, Outcome::NoData).silent(111.0, Outcome::NoData);
    let story = story.overdue(false).silent(111.1, Outcome::Nan).overdue(true);
    story.sample(112.0, 0.1).passes().silent(113.0, Outcome::NoData).overdue(false);
}

#[test]
fn a_doubt_is_never_over_budget() {
    let story = given(&json!({"holdBudget": "1s", "for": "1h"})).sample(101.0, 0.9).sample(110.0, 0.9);
    story.falls_silent(Silence::Doubtful).overdue(false);
}

#[test]
fn a_guard_that_is_never_asked_is_over_budget_in_the_end() {
    let story = given(&json!({"holdBudget": "10s"}));
    let says = story.says_at(110.001);
    assert!(matches!(says, Verdict::Silent { why: Silence::NotAsked, over_budget: true, .. }), "{says:?}");
}

#[test]
fn a_breach_within_the_warm_up_is_a_doubt_and_the_next_sample_after_it_a_breach() {
    let story = given(&json!({"warmUp": "10s"})).sample(101.0, 0.1).flips(102.0);
    let story =
        story.sample(103.0, 0.9).falls_silent(Silence::Doubtful).sample(111.9, 0.9).falls_silent(Silence::Doubtful);
    // Polling the same sample after the warm-up counts: the window it is about has been given its time.
    story.polled(111.8, 112.0, 0.9).breaches();
}

#[test]
fn a_breach_before_the_flip_is_not_excused_by_the_warm_up() {
    given(&json!({"warmUp": "10s", "onBreach": "Pause"})).sample(101.0, 0.9).flips(102.0).breaches();
}

#[test]
fn silence_within_the_warm_up_is_no_breach() {
    let story = given(&json!({"warmUp": "10s", "noData": "Breach"})).flips(102.0);
    story.silent(103.0, Outcome::NoData).falls_silent(Silence::NoData).silent(112.0, Outcome::NoData).breaches();
}

#[test]
fn a_breach_that_takes_back_is_told_for_a_while_though_the_value_has_fallen() {
    let story = given(&json!({})).sample(101.0, 0.9).sample(102.0, 0.1).breaches().sample(130.0, 0.1);
    assert!(matches!(story.says_at(131.0), Verdict::Breach { .. }));
    assert_eq!(story.says_at(131.001), Verdict::Pass);
}

#[test]
fn a_guard_that_pauses_passes_again_with_the_next_good_sample() {
    given(&json!({"onBreach": "Pause"})).sample(101.0, 0.9).breaches().sample(102.0, 0.1).passes();
}

#[test]
fn a_dry_run_tells_its_breach_and_forgets_it_with_the_next_good_sample() {
    given(&json!({"dryRun": true})).sample(101.0, 0.9).breaches().sample(102.0, 0.1).passes();
}

#[test]
fn a_rise_over_the_baseline_is_a_breach_only_beyond_both_share_and_least_change() {
    let changes = json!({"max": null, "maxIncrease": "5%", "minDelta": 0.01});
    let story = || given(&changes).with_baseline(0.1);
    story().sample(101.0, 0.109).passes();
    story().sample(101.0, 0.111).breaches();
    let story = || given(&changes).with_baseline(1.0);
    story().sample(101.0, 1.05).passes();
    story().sample(101.0, 1.06).breaches();
}

#[test]
fn a_fall_below_the_baseline_is_a_breach() {
    let story = || given(&json!({"max": null, "maxDecrease": "20%"})).with_baseline(50.0);
    story().sample(101.0, 40.0).passes();
    story().sample(101.0, 39.9).breaches();
}

#[test]
fn the_tighter_of_two_limits_counts() {
    given(&json!({"max": 0.104, "maxIncrease": "5%"})).with_baseline(0.1).sample(101.0, 0.1045).breaches();
    given(&json!({"max": 0.2, "maxIncrease": "5%"})).with_baseline(0.1).sample(101.0, 0.106).breaches();
}

#[test]
fn before_there_is_a_baseline_only_the_other_limits_count() {
    let changes = json!({"maxIncrease": "5%"});
    given(&changes).sample(101.0, 0.4).passes();
    given(&changes).sample(101.0, 0.6).breaches();
}

#[test]
fn after_a_flip_without_a_baseline_nothing_passes() {
    given(&json!({"maxIncrease": "5%"}))
        .sample(101.0, 0.4)
        .flips(102.0)
        .sample(103.0, 0.4)
        .falls_silent(Silence::NoBaseline);
}

#[test]
fn a_baseline_that_comes_after_a_reading_makes_it_doubtful_until_the_next() {
    let story = given(&json!({"maxIncrease": "5%"})).sample(101.0, 0.4).with_baseline(0.1);
    story.falls_silent(Silence::Doubtful).sample(102.0, 0.4).breaches();
}

#[test]
fn guarded_time_begins_with_the_first_pass_and_anew_after_each_break() {
    let since = |story: &Story| story.memory.passing_since();
    let story = given(&json!({"onBreach": "Pause"}));
    assert_eq!(since(&story), None);
    let story = story.sample(101.0, 0.1).sample(102.0, 0.1).polled(102.0, 103.0, 0.1);
    assert_eq!(since(&story), Some(at(101.0)));
    let story = story.silent(104.0, Outcome::NoData);
    assert_eq!(since(&story), None);
    let story = story.sample(105.0, 0.1).sample(106.0, 0.1);
    assert_eq!(since(&story), Some(at(105.0)));
    // A gap in polling in which the view had expired.
    let story = story.sample(120.0, 0.1);
    assert_eq!(since(&story), Some(at(120.0)));
}

#[test]
fn limits_read_as_people_write_them() {
    let words = |changes: &Value, baseline: Option<f64>| {
        let story = given(changes);
        let story = if let Some(value) = baseline { story.with_baseline(value) } else { story };
        story.law().limits_in_words()
    };
    let relative = json!({"max": null, "maxIncrease": "5%", "minDelta": 0.01});
    assert_eq!(words(&json!({}), None), "max 0.5");
    assert_eq!(words(&json!({"min": 0.25}), None), "min 0.25, max 0.5");
    assert_eq!(words(&relative, None), "max baseline + 5%, once taken");
    assert_eq!(words(&relative, Some(1.0)), "max 1.05 (baseline 1 + 5%)");
    assert_eq!(words(&relative, Some(0.1)), "max 0.11 (baseline 0.1 + 0.01)");
    assert_eq!(words(&json!({"maxIncrease": "5%"}), Some(0.3)), "max 0.315 (baseline 0.3 + 5%)");
    assert_eq!(words(&json!({"maxIncrease": "5%"}), Some(0.6)), "max 0.5");
    assert_eq!(words(&json!({"max": null, "maxDecrease": "20%"}), Some(50.0)), "min 40 (baseline 50 - 20%)");
}

#[test]
fn an_observation_holds_since_its_bound_was_first_kept() {
    let story = given(&json!({"onBreach": "Pause"}));
    let sees = |story: &Story| observe(&story.law(), &story.memory, story.now);
    assert_eq!(sees(&story), ObservationView::Silent(Silence::NotAsked));
    let story = story.sample(101.0, 0.1).sample(102.0, 0.1);
    assert_eq!(sees(&story), ObservationView::HoldsSince(at(101.0)));
    let story = story.sample(103.0, 0.7);
    assert_eq!(sees(&story), ObservationView::Fails { value: 0.7 });
    let story = story.silent(104.0, Outcome::NoData);
    assert_eq!(sees(&story), ObservationView::Silent(Silence::NoData));
    let story = story.sample(105.0, 0.1);
    assert_eq!(sees(&story), ObservationView::HoldsSince(at(105.0)));
}

#[test]
fn a_view_tells_the_last_value_also_while_nothing_is_said() {
    let story = given(&json!({})).sample(101.0, 0.2).silent(102.0, Outcome::NoData);
    let seen = view(&story.law(), &story.memory, story.now);
    assert_eq!((seen.value, seen.limit.as_str()), (Some(0.2), "max 0.5"));
    assert_eq!(story.memory.value_now(), None);
}

#[test]
fn holding_is_the_policy_of_whoever_says_nothing() {
    let plain = guard(&json!({}));
    for policy in [plain.no_data, plain.nan, plain.unavailable, plain.low_traffic] {
        assert_eq!(policy, HoldPolicy::Hold);
    }
}
