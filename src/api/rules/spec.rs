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
            format!(
                "!has(oldSelf.status) || !has(oldSelf.status.begun) || oldSelf.spec.phases.all(i, p, \
                 i >= oldSelf.status.begun || (i < size(self.spec.phases) && (self.spec.phases[i] == p || \
                 (has(p.backfill) && has(self.spec.phases[i].backfill) && {}))))",
                same_but_for_pace()
            ),
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
             (has(p.replicate) && (p.replicate.from == o.name || p.replicate.to == o.name)) || \
             (has(p.verify) && ((has(p.verify.store) && p.verify.store == o.name) || \
             (has(p.verify.from) && p.verify.from == o.name) || (has(p.verify.to) && p.verify.to == o.name)))) || \
             (has(self.spec.stores) && self.spec.stores.exists(s, s == o))))",
            "a store that a begun phase works on can't be changed or removed: add another one for later phases, or abort \
             and begin anew",
        )
        .about(".spec.stores"),
        // The agent that moves the writes is told how when the copy begins.
        Rule::new(
            "",
            "!has(oldSelf.status) || !has(oldSelf.status.begun) || \
             oldSelf.spec.phases.all(i, p, i >= oldSelf.status.begun || !has(p.replicate)) || \
             (self.spec.phases.filter(p, has(p.switch) && has(p.switch.fence)).size() == \
             oldSelf.spec.phases.filter(p, has(p.switch) && has(p.switch.fence)).size() && \
             oldSelf.spec.phases.all(p, !has(p.switch) || !has(p.switch.fence) || \
             self.spec.phases.exists(q, q.name == p.name && has(q.switch) && q.switch == p.switch)))",
            "how writes move can't be changed once the copy has begun: leave the `switch` with its `fence` as it is, or abort \
             and begin anew",
        )
        .about(".spec.phases"),
        Rule::new(
            "",
            "oldSelf.hasValue() || size(self.metadata.name) <= 63",
            "the name of a migration has up to 63 characters, as it is a label on what belongs to it: write a shorter one",
        )
        .with_optional_old_self(),
    ]
}

/// A phase and the one in its place say the same but for how fast a backfill works, which may change while it does.
fn same_but_for_pace() -> String {
    let same = |below: &'static str, fields: &'static [&'static str]| {
        fields.iter().map(move |field| {
            let (now, then) = (format!("self.spec.phases[i]{below}"), format!("p{below}"));
            format!(
                "has({now}.{field}) == has({then}.{field}) && (!has({then}.{field}) || {now}.{field} == {then}.{field})"
            )
        })
    };
    let of_phase = same("", &["approval", "guards", "timeout", "retries", "pointOfNoReturn"]);
    let of_backfill = same(".backfill", &["where", "sync", "onRollback", "lockTimeout", "chunk"]);
    let always = ["name", "backfill.store", "backfill.table", "backfill.set"];
    let always = always.iter().map(|field| format!("self.spec.phases[i].{field} == p.{field}"));
    always.chain(of_phase).chain(of_backfill).collect::<Vec<_>>().join(" && ")
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
            "self.phases.all(p, !has(p.replicate) || (has(self.stores) && \
             self.stores.exists(s, s.name == p.replicate.from) && self.stores.exists(s, s.name == p.replicate.to)))",
            "a store that a phase's `replicate` names is none of the migration's: write it into `spec.stores`",
        )
        .about(".phases"),
        rule(
            "self.phases.filter(p, has(p.replicate)).size() <= 1",
            "a migration keeps one pair of stores in step: write one `replicate`, and a second migration for another pair",
        )
        .about(".phases"),
        rule(
            "self.phases.filter(p, has(p.switch) && has(p.switch.fence)).size() <= 1",
            "a migration moves writes from one store to another once: write one `switch` with a `fence`",
        )
        .about(".phases"),
        rule(
            "self.phases.all(i, p, !has(p.switch) || !has(p.switch.fence) || self.phases.exists(j, q, j < i && \
             has(q.replicate) && has(q.replicate.wayBack) && q.replicate.wayBack))",
            "a `switch` with a `fence` needs a `replicate` with `wayBack: true` in an earlier phase: without it the new \
             store has no data, and going back would lose what it was given",
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
