//! Rules of a phase and of the actions it can have.

use super::{Rule, at_least, at_most_all, between};

/// The rules of a phase and of all below it but its guards.
pub(super) fn rules() -> Vec<Rule> {
    let mut rules = of_a_phase();
    rules.extend(of_sql());
    for script in ["up", "down"] {
        rules.push(Rule::new(
            format!("spec.phases.[].sql.{script}"),
            "has(self.inline) != has(self.configMapKey)",
            "a script is either `inline` or a `configMapKey`, not both and not neither",
        ));
    }
    for template in ["template", "undo"] {
        rules.extend(of_a_job(&format!("spec.phases.[].job.{template}.spec")));
    }
    rules.extend(of_a_switch());
    rules.extend(of_an_observation());
    rules.push(at_least(
        "spec.phases.[].bake.for",
        "1ms",
        "a `bake` of no time keeps nothing: write how long to keep the old side, such as `24h`",
    ));
    rules
}

fn of_a_phase() -> Vec<Rule> {
    let rule = |rule: &str, message| Rule::new("spec.phases.[]", rule, message);
    vec![
        rule(
            "[has(self.sql), has(self.job), has(self.replicate), has(self.backfill), has(self.verify), has(self.switch), \
             has(self.observe), has(self.bake)].filter(x, x).size() <= 1",
            "a phase has exactly one action: write a phase for each",
        ),
        rule(
            "has(self.sql) || has(self.job) || has(self.replicate) || has(self.backfill) || has(self.verify) || \
             has(self.switch) || has(self.observe) || has(self.bake) || (has(self.approval) && self.approval == \
             'Required')",
            "a phase needs an action: write `sql`, `job`, `replicate`, `backfill`, `verify`, `switch`, `observe` or \
             `bake`, or `approval: Required` for a phase that only waits for a person",
        ),
        rule(
            "!has(self.retries) || has(self.sql) || has(self.job) || has(self.backfill) || has(self.verify)",
            "`retries` goes with `sql`, `job`, `backfill` and `verify`, as other actions wait instead of failing: leave it \
             out",
        ),
        rule("!has(self.bake) || !has(self.timeout)", "a `bake` has no `timeout`: write its length as `bake.for`"),
        at_least(
            "spec.phases.[].timeout",
            "1s",
            "a `timeout` is at least 1s: write that or more, or leave it out for none",
        ),
    ]
}

fn of_sql() -> Vec<Rule> {
    let rule = |rule: &str, message| Rule::new("spec.phases.[].sql", rule, message);
    vec![
        rule(
            "has(self.from) != has(self.up)",
            "`sql` has either `up` (and `down`) or `from` with a ConfigMap, not both and not neither",
        ),
        rule(
            "!has(self.down) || has(self.up)",
            "`sql.down` goes with `sql.up`: with `from`, put the down scripts into the ConfigMap",
        ),
        rule(
            "!has(self.onRollback) || self.onRollback == 'Keep' || has(self.down) || has(self.from)",
            "`onRollback: Down` needs a script to run: write `down`",
        ),
        between(
            "spec.phases.[].sql.lockTimeout",
            "10ms",
            "60s",
            "a `lockTimeout` is between 10ms and 60s: while a statement waits for its lock, all others queue behind it",
        ),
        at_least(
            "spec.phases.[].sql.statementTimeout",
            "10ms",
            "a `statementTimeout` is at least 10ms: write that or more, or leave it out for none",
        ),
    ]
}

/// What would be ignored or overridden is refused: retries, clean-up and the moment to start are the engine's.
fn of_a_job(at: &str) -> Vec<Rule> {
    let rule = |rule: &str, message| Rule::new(at, rule, message);
    vec![
        rule(
            "!has(self.template.spec.restartPolicy) || self.template.spec.restartPolicy in ['Never', 'OnFailure']",
            "the `restartPolicy` of a Job's pod is `Never` or `OnFailure`",
        ),
        rule(
            "!has(self.backoffLimit) || self.backoffLimit == 0",
            "the phase retries, not the Job: leave `backoffLimit` out and write `retries` beside `job`",
        ),
        rule(
            "!has(self.podReplacementPolicy) || self.podReplacementPolicy == 'Failed'",
            "two pods of one Job must not run at once: leave `podReplacementPolicy` out, it is `Failed`",
        ),
        rule(
            "!has(self.ttlSecondsAfterFinished)",
            "the Job is removed once its outcome is in status: leave `ttlSecondsAfterFinished` out",
        ),
        rule(
            "!has(self.suspend) || !self.suspend",
            "a Job begins with its phase: leave `suspend` out, and write `approval: Required` to wait for a person",
        ),
        rule(
            "!has(self.selector) && (!has(self.manualSelector) || !self.manualSelector)",
            "Kubernetes selects a Job's pods by itself: leave `selector` and `manualSelector` out",
        ),
    ]
}

fn of_a_switch() -> Vec<Rule> {
    let rule = |rule: &str, message| Rule::new("spec.phases.[].switch", rule, message);
    vec![
        rule(
            "has(self.service) != (has(self.services) && size(self.services) > 0)",
            "`switch` has either `service` or a list `services`, not both and not neither",
        ),
        rule(
            "self.from.all(k, k in self.to) && self.to.all(k, k in self.from)",
            "`from` and `to` name the same labels: for each label that marks the old side write the new side's value",
        ),
        rule(
            "!self.from.all(k, k in self.to) || !self.to.all(k, k in self.from) || \
             self.from.exists(k, self.from[k] != self.to[k])",
            "`from` and `to` are the same, so nothing would move: write the new side's value into `to`",
        ),
        at_most_all(
            "spec.phases.[].switch.keepOld",
            "the old side can't have more pods than it had at the flip: write `100%` or less",
        ),
        Rule::new(
            "spec.phases.[].switch.drain",
            "[has(self.hook), has(self.restartPods) && self.restartPods, has(self.wait)].filter(x, x).size() <= 1",
            "`drain` has one way: write `hook`, `restartPods` or `wait`",
        ),
        Rule::new(
            "spec.phases.[].switch.drain",
            "!has(self.wait) || !has(self.deadline)",
            "`drain.wait` ends when its time is over: leave `deadline` out",
        ),
    ]
}

fn of_an_observation() -> Vec<Rule> {
    let rule = |rule: &str, message| Rule::new("spec.phases.[].observe", rule, message);
    vec![
        rule(
            "has(self.ratio) != has(self.query)",
            "`observe` has either `ratio` (with `errors` and `total`) or `query`, not both and not neither",
        ),
        rule("has(self.max) || has(self.min)", "`observe` needs a bound: write `max` or `min`"),
        rule(
            "!has(self.max) || !has(self.min) || self.min <= self.max",
            "`min` is above `max`, so no value could satisfy: write the lower of the two as `min`",
        ),
        rule(
            "!has(self.ratio) || !has(self.ratio.minRate) || self.ratio.minRate >= 0.0",
            "`ratio.minRate` is a rate: write a number that isn't negative",
        ),
        at_least(
            "spec.phases.[].observe.interval",
            "200ms",
            "Prometheus has no new sample sooner than every 200ms: write `interval: 200ms` or more",
        ),
        at_least("spec.phases.[].observe.maxAge", "1s", "no sample is newer than that: write `maxAge: 1s` or more"),
    ]
}
