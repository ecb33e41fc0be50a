//! Rules of the actions that work on data.

use super::{Rule, at_most_all, between};

/// The rules of `replicate`, `backfill` and `verify`, wherever they stand.
pub(super) fn rules() -> Vec<Rule> {
    let mut rules = of_a_backfill();
    rules.extend(of_a_verification());
    rules.extend(of_a_replication());
    rules
}

fn of_a_replication() -> Vec<Rule> {
    vec![
        Rule::new(
            "spec.phases.[].replicate",
            "self.from != self.to",
            "`from` and `to` are the same store: name the old one and the new one",
        ),
        Rule::new(
            "spec.phases.[].switch",
            "has(self.fence) == has(self.onFenceTimeout)",
            "`fence` and `onFenceTimeout` go together: write what happens when writes can't be held in time on the way \
             back, `PreferData` (traffic stays until no write is lost) or `PreferTraffic`",
        ),
        Rule::new(
            "spec.phases.[].switch",
            "!has(self.fence) || has(self.service)",
            "with a `fence` one Service moves, as a store is behind one: write `service`",
        ),
        between(
            "spec.phases.[].switch.fence.deadline",
            "100ms",
            "60s",
            "a fence's `deadline` is between 100ms and 60s: so long may clients be made to wait",
        ),
    ]
}

fn of_a_backfill() -> Vec<Rule> {
    vec![
        Rule::new(
            "spec.phases.[].backfill",
            "!has(self.sync) || self.sync != 'Trigger' || has(self.where)",
            "with `sync: Trigger` say in `where` how a row is told that nobody has filled yet, such as `first_name IS NULL`",
        ),
        between(
            "spec.phases.[].backfill.lockTimeout",
            "10ms",
            "60s",
            "a `lockTimeout` is between 10ms and 60s: while a statement waits for its lock, all others queue behind it",
        ),
        at_most_all(
            "spec.phases.[].backfill.throttle.duty",
            "nobody can work for more than all of the time: write `100%` or less",
        ),
        between(
            "spec.phases.[].backfill.chunk.time",
            "1ms",
            "10s",
            "a chunk's `time` is between 1ms and 10s: so long may a write of the application wait for it",
        ),
    ]
}

fn of_a_verification() -> Vec<Rule> {
    let rule = |rule: &str, message| Rule::new("spec.phases.[].verify", rule, message);
    vec![
        rule(
            "has(self.store) != has(self.from) && has(self.store) != has(self.to)",
            "`verify` looks at one store or at two: write `store`, `table` and `expect`, or `from`, `to` and `tables`",
        ),
        rule(
            "!has(self.store) || (has(self.table) && has(self.expect) && size(self.expect) > 0)",
            "`verify` within one store needs a `table` and what to `expect` of its rows: write both",
        ),
        rule(
            "!has(self.from) || (has(self.tables) && size(self.tables) > 0)",
            "`verify` between stores needs `tables`: write them, such as `[public.*]`",
        ),
        rule(
            "!has(self.store) || !(has(self.tables) || has(self.ignore) || has(self.counts) || has(self.checksum))",
            "`tables`, `ignore`, `counts` and `checksum` go with `from` and `to`: leave them out, or name two stores",
        ),
        rule(
            "!has(self.from) || !(has(self.table) || has(self.expect))",
            "`table` and `expect` go with `store`: leave them out, or name one store",
        ),
        rule(
            "!has(self.from) || !has(self.to) || self.from != self.to",
            "`from` and `to` are the same store, which always equals itself: name two",
        ),
    ]
}
