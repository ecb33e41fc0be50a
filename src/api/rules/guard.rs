//! Rules of a guard, wherever one can stand.

use super::{Rule, at_least, at_most_all, between};

/// The rules of a guard that stands at `at`.
pub(super) fn rules(at: &str) -> Vec<Rule> {
    let rule = |rule: &str, message| Rule::new(at, rule, message);
    let field = |name: &str| format!("{at}.{name}");
    vec![
        rule(
            "has(self.ratio) != has(self.query)",
            "a guard has either `ratio` (with `errors` and `total`) or `query`, not both and not neither",
        ),
        rule(
            "has(self.max) || has(self.min) || has(self.maxIncrease) || has(self.maxDecrease)",
            "a guard needs a limit: write `max`, `min`, `maxIncrease` or `maxDecrease`",
        ),
        rule(
            "!has(self.max) || !has(self.min) || self.min <= self.max",
            "`min` is above `max`, so no value could pass: write the lower of the two as `min`",
        ),
        rule(
            "!has(self.ratio) || !has(self.max) || self.max < 1.0",
            "a `ratio` lies between 0 and 1, so this `max` is never exceeded: for 5 % write `max: 0.05`",
        ),
        rule(
            "!has(self.minDelta) || has(self.maxIncrease) || has(self.maxDecrease)",
            "`minDelta` goes with `maxIncrease` or `maxDecrease`: write one of them, or leave it out",
        ),
        rule(
            "!has(self.baselineWindow) || has(self.maxIncrease) || has(self.maxDecrease)",
            "`baselineWindow` goes with `maxIncrease` or `maxDecrease`: write one of them, or leave it out",
        ),
        rule(
            "!has(self.minDelta) || self.minDelta >= 0.0",
            "`minDelta` is the size of a change: write a number that isn't negative",
        ),
        rule(
            "!has(self.__for__) || !has(self.consecutive)",
            "write either `for` or `consecutive`, not both: each says when an exceeded limit is a breach",
        ),
        rule(
            "!has(self.lowTraffic) || self.lowTraffic == 'Hold' || has(self.ratio)",
            "`lowTraffic` goes with `ratio`, as only a total tells how much traffic there is: write `ratio`, or leave it out",
        ),
        rule(
            "!has(self.ratio) || !has(self.ratio.minRate) || self.ratio.minRate >= 0.0",
            "`ratio.minRate` is a rate: write a number that isn't negative",
        ),
        at_least(
            &field("interval"),
            "200ms",
            "Prometheus has no new sample sooner than every 200ms: write `interval: 200ms` or more",
        ),
        between(&field("timeout"), "100ms", "60s", "a guard's `timeout` is between 100ms and 60s"),
        at_least(&field("maxAge"), "1s", "no sample is newer than that: write `maxAge: 1s` or more"),
        at_least(&field("baselineWindow"), "1s", "no sample fits into that: write `baselineWindow: 1s` or more"),
        at_most_all(&field("maxDecrease"), "nothing falls by more than all of it: write `100%` or less"),
    ]
}
