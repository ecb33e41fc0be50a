//! Rules of a migration as a whole: what phases, stores and `until` say about each other, and what may change later.

use super::Rule;

/// The rules of the root and of the spec.
pub(super) fn rules() -> Vec<Rule> {
    let mut rules = of_changes();
    rules.extend(of_the_whole());
    rules
}

/// The rules of the root. Each passes while the spec is unchanged, whatever else is wrong with the object.
fn of_changes() -> Vec<Rule> {
    vec![
        Rule::new(
            "",
            "!has(oldSelf.status) || !has(oldSelf.status.begun) || oldSelf.spec.phases.all(i, p, \
             i >= oldSelf.status.begun || (i < size(self.spec.phases) && (self.spec.phases[i] == p || \
             (has(p.backfill) && has(self.spec.phases[i].backfill) && self.spec.phases[i].name == p.name && \
             has(self.spec.phases[i].approval) == has(p.approval) && (!has(p.approval) || self.spec.phases[i].approval == p.approval) && \
             has(self.spec.phases[i].guards) == has(p.guards) && (!has(p.guards) || self.spec.phases[i].guards == p.guards) && \
             has(self.spec.phases[i].timeout) == has(p.timeout) && (!has(p.timeout) || self.spec.phases[i].timeout == p.timeout) && \
             has(self.spec.phases[i].retries) == has(p.retries) && (!has(p.retries) || self.spec.phases[i].retries == p.retries) && \
             has(self.spec.phases[i].pointOfNoReturn) == has(p.pointOfNoReturn) && (!has(p.pointOfNoReturn) || self.spec.phases[i].pointOfNoReturn == p.pointOfNoReturn) && \
             self.spec.phases[i].backfill.store == p.backfill.store && \
             self.spec.phases[i].backfill.table == p.backfill.table && \
             self.spec.phases[i].backfill.set == p.backfill.set && \
             has(self.spec.phases[i].backfill.where) == has(p.backfill.where) && (!has(p.backfill.where) || self.spec.phases[i].backfill.where == p.backfill.where) && \
             has(self.spec.phases[i].backfill.sync) == has(p.backfill.sync) && (!has(p.backfill.sync) || self.spec.phases[i].backfill.sync == p.backfill.sync) && \
             has(self.spec.phases[i].backfill.onRollback) == has(p.backfill.onRollback) && (!has(p.backfill.onRollback) || self.spec.phases[i].backfill.onRollback == p.backfill.onRollback) && \
             has(self.spec.phases[i].backfill.lockTimeout) == has(p.backfill.lockTimeout) && (!has(p.backfill.lockTimeout) || self.spec.phases[i].backfill.lockTimeout == p.backfill.lockTimeout)) && \
             has(self.spec.phases[i].backfill.chunk) == has(p.backfill.chunk) && (!has(p.backfill.chunk) || self.spec.phases[i].backfill.chunk == p.backfill.chunk)))))",
            "phases that have begun can't be edited, removed or reordered: change later ones, or abort and begin anew",
        )
        .says(
            "'phases up to `' + oldSelf.spec.phases[oldSelf.status.begun - 1].name + \
             '` have begun and can\\'t be edited, removed or reordered: change later ones, or abort and begin anew'",
        )
        .about(".spec.phases"),
        Rule::new(
            "",
            "!has(oldSelf.status) || !has(oldSelf.status.begun) || !has(oldSelf.spec.stores) || \
             oldSelf.spec.phases.all(i, p, i >= oldSelf.status.begun || oldSelf.spec.stores.all(o, \
             !((has(p.sql) && p.sql.store == o.name) || (has(p.backfill) && p.backfill.store == o.name) || \
             (has(p.verify) && ((has(p.verify.store) && p.verify.store == o.name) || \
             (has(p.verify.from) && p.verify.from == o.name) || (has(p.verify.to) && p.verify.to == o.name)))) || \
             (has(self.spec.stores) && self.spec.stores.exists(s, s == o))))",
            "a store that a begun phase works on can't be changed or removed: add another one for later phases, or abort \
             and begin anew",
        )
        .about(".spec.stores"),
        Rule::new(
            "",
            "oldSelf.hasValue() || size(self.metadata.name) <= 63",
            "the name of a migration has up to 63 characters, as it is a label on what belongs to it: write a shorter one",
        )
        .with_optional_old_self(),
    ]
}

fn of_the_whole() -> Vec<Rule> {
    let rule = |rule: &str, message| Rule::new("spec", rule, message);
    vec![
        rule(
            "!has(self.until) || self.phases.exists(p, p.name == self.until)",
            "`until` names no phase: write the name of one, or leave it out",
        )
        .says("'`until` is `' + self.until + '`, which names no phase: write the name of one, or leave it out'")
        .about(".until"),
        rule(
            "self.phases.all(p, !has(p.sql) || (has(self.stores) && self.stores.exists(s, s.name == p.sql.store)))",
            "a phase's `sql.store` names no store: write it into `spec.stores`",
        )
        .says(
            "'phase `' + self.phases.map(p, has(p.sql) && !(has(self.stores) && \
             self.stores.exists(s, s.name == p.sql.store)), p.name)[0] + \
             '`: its `sql.store` names no store: write it into `spec.stores`'",
        )
        .about(".phases"),
        rule(
            "self.phases.all(p, !has(p.backfill) || (has(self.stores) && \
             self.stores.exists(s, s.name == p.backfill.store)))",
            "a phase's `backfill.store` names no store: write it into `spec.stores`",
        )
        .about(".phases"),
        rule(
            "self.phases.all(p, !has(p.verify) || [has(p.verify.store) ? p.verify.store : '', \
             has(p.verify.from) ? p.verify.from : '', has(p.verify.to) ? p.verify.to : ''].all(n, n == '' || \
             (has(self.stores) && self.stores.exists(s, s.name == n))))",
            "a store that a phase's `verify` names is none of the migration's: write it into `spec.stores`",
        )
        .about(".phases"),
        rule(
            "self.phases.all(p, !has(p.backfill) || !has(p.backfill.throttle) || !has(p.backfill.throttle.guard) || \
             (has(self.guards) && self.guards.exists(g, g.name == p.backfill.throttle.guard)) || \
             (has(p.guards) && p.guards.exists(g, g.name == p.backfill.throttle.guard)))",
            "a phase's `throttle.guard` names no guard: write it into `spec.guards`, or into the phase's own",
        )
        .about(".phases"),
        rule(
            "self.phases.all(i, p, !has(p.bake) || self.phases.exists(j, q, j < i && has(q.switch)))",
            "a `bake` needs a `switch` before it: there is no old side to keep yet",
        )
        .about(".phases"),
        rule(
            "self.phases.all(i, p, !has(p.switch) || !self.phases.exists(j, q, j <= i && has(q.pointOfNoReturn) && \
             q.pointOfNoReturn))",
            "a `switch` comes before the point of no return, or traffic could not be taken back: write it into an \
             earlier phase",
        )
        .about(".phases"),
        rule(
            "self.phases.all(i, p, !has(p.bake) || !self.phases.exists(j, q, j <= i && has(q.pointOfNoReturn) && \
             q.pointOfNoReturn))",
            "a `bake` comes before the point of no return, as it keeps the way back open: write it into an earlier phase",
        )
        .about(".phases"),
        rule(
            "self.phases.all(i, p, !has(p.switch) || !has(p.switch.service) || !self.phases.exists(j, q, \
             j != i && has(q.switch) && ((has(q.switch.service) && q.switch.service == p.switch.service) || \
             (has(q.switch.services) && p.switch.service in q.switch.services))))",
            SAME_SERVICE,
        )
        .about(".phases"),
        rule(
            "self.phases.all(i, p, !has(p.switch) || !has(p.switch.services) || !self.phases.exists(j, q, \
             j != i && has(q.switch) && has(q.switch.services) && \
             p.switch.services.exists(s, s in q.switch.services)))",
            SAME_SERVICE,
        )
        .about(".phases"),
    ]
}

const SAME_SERVICE: &str =
    "two phases switch the same Service: a migration moves each Service once, so write a second migration";
