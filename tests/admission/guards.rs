//! What is wrong with a guard. A phase's guards carry the same rules as the migration's.

use crate::server::refused;

refused! {
    a_guard_without_ratio_or_query {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: errors, max: 0.01}]",
        heard: "spec.guards[0]: Invalid value: a guard has either `ratio` (with `errors` and `total`) or `query`, not both and not neither",
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: errors, query: up, max: 0.01}]",
    }
    a_guard_with_both_ratio_and_query {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: errors, query: up, ratio: {errors: e, total: t}, max: 0.01}]",
        heard: "spec.guards[0]: Invalid value: a guard has either `ratio` (with `errors` and `total`) or `query`, not both and not neither",
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: errors, ratio: {errors: e, total: t}, max: 0.01}]",
    }
    a_guard_without_a_limit {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: errors, query: up}]",
        heard: "spec.guards[0]: Invalid value: a guard needs a limit: write `max`, `min`, `maxIncrease` or `maxDecrease`",
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: errors, query: up, min: 1}]",
    }
    a_guard_that_no_value_can_pass {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: queue, query: depth, min: 9, max: 3.5}]",
        heard: "spec.guards[0]: Invalid value: `min` is above `max`, so no value could pass: write the lower of the two as `min`",
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: queue, query: depth, min: 3.5, max: 9}]",
    }
    a_ratio_with_its_limit_in_percent {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: errors, ratio: {errors: e, total: t}, max: 5}]",
        heard: "spec.guards[0]: Invalid value: a `ratio` lies between 0 and 1, so this `max` is never exceeded: for 5 % write `max: 0.05`",
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: errors, ratio: {errors: e, total: t}, max: 0.05}]",
    }
    a_least_change_without_a_change_to_limit {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, minDelta: 0.01}]",
        heard: "spec.guards[0]: Invalid value: `minDelta` goes with `maxIncrease` or `maxDecrease`: write one of them, or leave it out",
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, maxIncrease: 5%, minDelta: 0.01}]",
    }
    a_baseline_that_nothing_compares_with {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, baselineWindow: 10m}]",
        heard: "spec.guards[0]: Invalid value: `baselineWindow` goes with `maxIncrease` or `maxDecrease`: write one of them, or leave it out",
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, maxDecrease: 20%, baselineWindow: 10m}]",
    }
    a_negative_least_change {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, maxIncrease: 5%, minDelta: -1}]",
        heard: "spec.guards[0]: Invalid value: `minDelta` is the size of a change: write a number that isn't negative",
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, maxIncrease: 5%, minDelta: 1}]",
    }
    a_guard_with_both_a_time_and_a_count {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, for: 30s, consecutive: 3}]",
        heard: "spec.guards[0]: Invalid value: write either `for` or `consecutive`, not both: each says when an exceeded limit is a breach",
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, consecutive: 3}]",
    }
    a_policy_for_low_traffic_without_a_total {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, lowTraffic: Breach}]",
        heard: "spec.guards[0]: Invalid value: `lowTraffic` goes with `ratio`, as only a total tells how much traffic there is: write `ratio`, or leave it out",
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, ratio: {errors: e, total: t}, max: 0.3, lowTraffic: Breach}]",
    }
    a_negative_least_rate {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: errors, ratio: {errors: e, total: t, minRate: -0.5}, max: 0.3}]",
        heard: "spec.guards[0]: Invalid value: `ratio.minRate` is a rate: write a number that isn't negative",
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: errors, ratio: {errors: e, total: t, minRate: 0.5}, max: 0.3}]",
    }
    a_guard_polled_too_often {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, interval: 100ms}]",
        heard: r#"spec.guards[0].interval: Invalid value: "100ms": Prometheus has no new sample sooner than every 200ms: write `interval: 200ms` or more"#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, interval: 200ms}]",
    }
    a_guard_that_waits_too_long_for_prometheus {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, timeout: 1d}]",
        heard: r#"spec.guards[0].timeout: Invalid value: "1d": a guard's `timeout` is between 100ms and 60s"#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, timeout: 1m}]",
    }
    a_guard_for_which_no_sample_is_new_enough {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, maxAge: 0s}]",
        heard: r#"spec.guards[0].maxAge: Invalid value: "0s": no sample is newer than that: write `maxAge: 1s` or more"#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, maxAge: 1d}]",
    }
    a_baseline_of_no_time {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, maxIncrease: 5%, baselineWindow: 10ms}]",
        heard: r#"spec.guards[0].baselineWindow: Invalid value: "10ms": no sample fits into that: write `baselineWindow: 1s` or more"#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, maxIncrease: 5%, baselineWindow: 1m30s}]",
    }
    a_fall_by_more_than_all {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: rate, query: q, maxDecrease: 120%}]",
        heard: r#"spec.guards[0].maxDecrease: Invalid value: "120%": nothing falls by more than all of it: write `100%` or less"#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: rate, query: q, maxDecrease: 12.5%}]",
    }
    a_duration_without_a_unit {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, interval: '5'}]",
        heard: r#"spec.guards[0].interval: Invalid value: "5": write a number and a unit, such as `500ms`, `30s`, `10m`, `24h` or `3d`"#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, interval: 5s}]",
    }
    a_duration_that_is_a_number {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, for: 30}]",
        heard: r#"spec.guards[0].for: Invalid value: "integer": spec.guards[0].for in body must be of type string: "integer""#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, for: 30s}]",
    }
    a_duration_longer_than_anyone_waits {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, holdBudget: 99999999999999999999s}]",
        heard: r#"spec.guards[0].holdBudget: Invalid value: "99999999999999999999s": write a number and a unit, such as `500ms`, `30s`, `10m`, `24h` or `3d`"#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, holdBudget: 99999d}]",
    }
    a_share_without_a_percent_sign {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, maxIncrease: '0.05'}]",
        heard: r#"spec.guards[0].maxIncrease: Invalid value: "0.05": write a number and a percent sign, such as `5%`"#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, maxIncrease: 5%}]",
    }
    an_outcome_of_a_breach_that_does_not_exist {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, onBreach: Abort}]",
        heard: r#"spec.guards[0].onBreach: Unsupported value: "Abort": supported values: "Rollback", "Pause""#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, onBreach: Pause}]",
    }
    a_policy_that_lets_missing_data_pass {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, noData: Pass}]",
        heard: r#"spec.guards[0].noData: Unsupported value: "Pass": supported values: "Hold", "Breach""#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, noData: Breach}]",
    }
    two_guards_of_one_name {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3}, {name: p99, query: r, max: 4}]",
        heard: r#"spec.guards[1]: Duplicate value: {"name":"p99"}"#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3}, {name: p95, query: r, max: 4}]",
    }
    a_guard_with_an_address_of_its_own {
        wrote: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, url: 'http://prometheus:9090'}]",
        heard: r#"Migration in version "v1alpha1" cannot be handled as a Migration: strict decoding error: unknown field "spec.guards[0].url""#,
        writes: "
phases: [{name: ask, approval: Required}]
guards: [{name: p99, query: q, max: 3, provider: team-a}]",
    }
    a_phases_guard_without_a_limit {
        wrote: "
phases: [{name: ask, approval: Required, guards: [{name: p99, query: q}]}]",
        heard: "spec.phases[0].guards[0]: Invalid value: a guard needs a limit: write `max`, `min`, `maxIncrease` or `maxDecrease`",
        writes: "
phases: [{name: ask, approval: Required, guards: [{name: p99, query: q, max: 2}]}]",
    }
}
