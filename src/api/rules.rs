//! The CEL rules of the schema: what the API server refuses at admission, and what it says to write instead.
//!
//! The list is data, so that it reads as a checklist and a test can walk it. Only the root carries transition rules
//! that pass while the spec is unchanged: anything else at the root, violated by an old object after an upgrade,
//! would block even status writes (design section 2, "CRD facts").

/// One rule: where in the schema, the CEL expression, and what the user is told.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Path in the schema from the root: property names, `[]` for a list's items.
    pub at: &'static str,
    /// The CEL expression; `self` is the node.
    pub rule: &'static str,
    /// What a user reads when it is false.
    pub message: &'static str,
}

const GUARD_RULES: &[(&str, &str)] = &[
    (
        "has(self.ratio) != has(self.query)",
        "a guard has either `ratio` (errors and total) or `query`, not both and not neither",
    ),
    (
        "has(self.max) || has(self.min) || has(self.maxIncrease) || has(self.maxDecrease)",
        "a guard needs a limit: write `max`, `min`, `maxIncrease` or `maxDecrease`",
    ),
    ("!has(self.max) || !has(self.min) || self.min <= self.max", "`min` is above `max`, so no value could pass"),
    (
        "!has(self.minDelta) || has(self.maxIncrease) || has(self.maxDecrease)",
        "`minDelta` goes with `maxIncrease` or `maxDecrease`",
    ),
    ("!has(self.minDelta) || self.minDelta >= 0.0", "`minDelta` is a size: write a number that isn't negative"),
    (
        "!has(self.__for__) || !has(self.consecutive)",
        "write either `for` or `consecutive`, not both: each says when an exceeded limit is a breach",
    ),
    (
        "!has(self.ratio) || !has(self.ratio.minRate) || self.ratio.minRate >= 0.0",
        "`ratio.minRate` is a rate: write a number that isn't negative",
    ),
    (
        "!has(self.interval) || duration(self.interval) >= duration('200ms')",
        "`interval` is shorter than 200ms; Prometheus has no new sample that soon",
    ),
    ("!has(self.timeout) || duration(self.timeout) <= duration('60s')", "`timeout` is longer than 60s"),
    (
        "!has(self.lowTraffic) || self.lowTraffic == 'Hold' || has(self.ratio)",
        "`lowTraffic` goes with `ratio`: only a total tells how much traffic there is",
    ),
];

const SCRIPT_RULES: &[(&str, &str)] =
    &[("has(self.inline) != has(self.configMapKey)", "a script is either `inline` or a `configMapKey`")];

const RULES: &[Rule] = &[
    Rule {
        at: "",
        rule: "!has(oldSelf.status) || !has(oldSelf.status.begun) || \
               (size(self.spec.phases) >= oldSelf.status.begun && \
               oldSelf.spec.phases.all(i, p, i >= oldSelf.status.begun || self.spec.phases[i] == p))",
        message: "phases that have begun can't be edited, removed or reordered; change later ones, or abort and begin anew",
    },
    Rule {
        at: "",
        rule: "!has(oldSelf.status) || !has(oldSelf.status.begun) || oldSelf.status.begun == 0 || \
               (has(self.spec.stores) == has(oldSelf.spec.stores) && \
               (!has(self.spec.stores) || oldSelf.spec.stores.all(o, self.spec.stores.exists(s, s == o))))",
        message: "a store can't be changed or removed once the migration has begun; add another one, or abort and begin anew",
    },
    Rule {
        at: "spec",
        rule: "!has(self.until) || self.phases.exists(p, p.name == self.until)",
        message: "`until` names no phase of this migration",
    },
    Rule {
        at: "spec",
        rule: "self.phases.all(p, !has(p.sql) || (has(self.stores) && self.stores.exists(s, s.name == p.sql.store)))",
        message: "a phase's `sql.store` names no store of `spec.stores`",
    },
    Rule {
        at: "spec",
        rule: "self.phases.all(i, p, !has(p.bake) || self.phases.exists(j, q, j < i && has(q.switch)))",
        message: "a `bake` needs a `switch` before it: there is no old side to keep yet",
    },
    Rule {
        at: "spec",
        rule: "self.phases.all(i, p, !has(p.switch) || !self.phases.exists(j, q, j < i && q.pointOfNoReturn))",
        message: "a `switch` comes before the point of no return: after it traffic could not be taken back",
    },
    Rule {
        at: "spec",
        rule: "self.phases.all(i, p, !has(p.switch) || !has(p.switch.service) || !self.phases.exists(j, q, j < i && has(q.switch) && has(q.switch.service) && q.switch.service == p.switch.service))",
        message: "two phases switch the same Service; a migration moves each Service once",
    },
    Rule {
        at: "spec.phases.[]",
        rule: "[has(self.sql), has(self.job), has(self.switch), has(self.observe), has(self.bake)].filter(x, x).size() <= 1",
        message: "a phase has exactly one action: split it into several phases",
    },
    Rule {
        at: "spec.phases.[]",
        rule: "has(self.sql) || has(self.job) || has(self.switch) || has(self.observe) || has(self.bake) || (has(self.approval) && self.approval == 'Required')",
        message: "a phase needs an action: write `sql`, `job`, `switch`, `observe` or `bake`, or `approval: Required` for a phase that waits for a person",
    },
    Rule {
        at: "spec.phases.[]",
        rule: "!has(self.retries) || has(self.sql) || has(self.job)",
        message: "`retries` goes with `sql` and `job`; other actions wait instead of failing",
    },
    Rule {
        at: "spec.phases.[]",
        rule: "!has(self.bake) || !has(self.timeout)",
        message: "a `bake` has no `timeout`: its length is `bake.for`",
    },
    Rule {
        at: "spec.phases.[].sql",
        rule: "has(self.from) != has(self.up)",
        message: "`sql` has either `up` (and `down`) or `from` with a ConfigMap, not both and not neither",
    },
    Rule {
        at: "spec.phases.[].sql",
        rule: "!has(self.down) || has(self.up)",
        message: "`sql.down` goes with `sql.up`; with `from` the down scripts are in the ConfigMap",
    },
    Rule {
        at: "spec.phases.[].sql",
        rule: "!has(self.onRollback) || self.onRollback == 'Keep' || has(self.down) || has(self.from)",
        message: "`onRollback: Down` needs a `down` script",
    },
    Rule {
        at: "spec.phases.[].sql",
        rule: "!has(self.lockTimeout) || (duration(self.lockTimeout) >= duration('10ms') && duration(self.lockTimeout) <= duration('60s'))",
        message: "`lockTimeout` is between 10ms and 60s: a longer wait for a lock queues every other statement behind it",
    },
    Rule {
        at: "spec.phases.[].job",
        rule: "!has(self.template.spec.template.spec.restartPolicy) || self.template.spec.template.spec.restartPolicy in ['Never', 'OnFailure']",
        message: "`restartPolicy` of a Job's pod is `Never` or `OnFailure`",
    },
    Rule {
        at: "spec.phases.[].job",
        rule: "has(self.template.spec) && has(self.template.spec.template.spec) && size(self.template.spec.template.spec.containers) > 0",
        message: "`job.template.spec.template.spec.containers` is empty: there is nothing to run",
    },
    Rule {
        at: "spec.phases.[].job",
        rule: "!has(self.undo) || (has(self.undo.spec) && has(self.undo.spec.template.spec) && size(self.undo.spec.template.spec.containers) > 0)",
        message: "`job.undo.spec.template.spec.containers` is empty: there is nothing to run",
    },
    Rule {
        at: "spec.phases.[].switch",
        rule: "has(self.service) != (has(self.services) && size(self.services) > 0)",
        message: "`switch` has either `service` or `services`",
    },
    Rule {
        at: "spec.phases.[].switch",
        rule: "self.from.all(k, k in self.to) && self.to.all(k, k in self.from)",
        message: "`from` and `to` must name the same labels: each label that marks the old side has a value for the new one",
    },
    Rule {
        at: "spec.phases.[].switch",
        rule: "self.from.exists(k, k in self.to && self.from[k] != self.to[k])",
        message: "`from` and `to` are the same: nothing would move",
    },
    Rule {
        at: "spec.phases.[].switch.drain",
        rule: "[has(self.hook), has(self.restartPods) && self.restartPods, has(self.wait)].filter(x, x).size() <= 1",
        message: "`drain` has one way: `hook`, `restartPods` or `wait`",
    },
    Rule {
        at: "spec.phases.[].observe",
        rule: "has(self.ratio) != has(self.query)",
        message: "`observe` has either `ratio` (errors and total) or `query`, not both and not neither",
    },
    Rule {
        at: "spec.phases.[].observe",
        rule: "has(self.max) || has(self.min)",
        message: "`observe` needs a bound: write `max` or `min`",
    },
    Rule {
        at: "spec.phases.[].observe",
        rule: "!has(self.max) || !has(self.min) || self.min <= self.max",
        message: "`min` is above `max`, so no value could satisfy",
    },
    Rule {
        at: "spec.phases.[].bake",
        rule: "duration(self.__for__) > duration('0s')",
        message: "`bake.for` is zero: write how long to keep the old side",
    },
];

/// Every rule of the schema, guards' and scripts' rules repeated wherever one can stand.
pub fn all() -> Vec<Rule> {
    let repeated = [
        ("spec.guards.[]", GUARD_RULES),
        ("spec.phases.[].guards.[]", GUARD_RULES),
        ("spec.phases.[].sql.up", SCRIPT_RULES),
        ("spec.phases.[].sql.down", SCRIPT_RULES),
    ];
    let mut rules = RULES.to_vec();
    for (at, list) in repeated {
        rules.extend(list.iter().map(|&(rule, message)| Rule { at, rule, message }));
    }
    rules
}
