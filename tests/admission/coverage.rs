//! The tests of this binary taken together.

use std::{collections::BTreeSet, fmt::Write as _};

use alongside::api::rules;

use crate::{
    data, guards, moves, phases,
    server::{CLUSTER, Case, create, migration, name_of},
    whole,
};

fn cases() -> Vec<Case> {
    [data::CASES, guards::CASES, moves::CASES, phases::CASES, whole::CASES].concat()
}

#[test]
fn every_rule_is_broken_by_a_case() {
    let cases = cases();
    let heard = |message: &str| cases.iter().any(|case| case.heard.contains(message));
    for rule in rules::all().iter().filter(|rule| !rule.at.is_empty()) {
        // A message that is computed has the end of the fixed one.
        let message = rule.said.map_or(rule.message, |_| rule.message.rsplit(':').next().unwrap_or_default());
        assert!(heard(message), "no case hears: {}", rule.message);
    }
    for (_, message) in rules::PATTERNS {
        assert!(heard(message), "no case hears: {message}");
    }
}

#[test]
fn there_are_many_cases_and_each_has_a_name_of_its_own() {
    let cases = cases();
    assert!(cases.len() >= 90, "{} cases", cases.len());
    let names: BTreeSet<_> = cases.iter().map(|case| name_of(case.sentence)).collect();
    assert_eq!(names.len(), cases.len());
}

/// The limit of CEL's cost at run time is per object, and no rule may meet it before the schema's bounds are met.
#[test]
fn the_largest_migration_that_the_schema_allows_is_accepted() {
    let query = "q".repeat(2048);
    let list = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let guards =
        |count| list(count, &|guard| format!("{{name: g{guard}, query: {query}, maxIncrease: 5%, interval: 1h30m}}"));
    let stores = list(16, &|store| format!("{{name: s{store}, postgres: {{secretRef: {{name: db, key: k}}}}}}"));
    let labels = list(7, &|label| format!("l{label}: {}", "v".repeat(63)));
    let switch = |phase: usize| {
        let services = list(8, &|service| format!("{}-{phase}-{service}", "s".repeat(55)));
        format!("switch: {{services: [{services}], from: {{{labels}, v: '1'}}, to: {{{labels}, v: '2'}}}}")
    };
    let sql = format!("sql: {{store: s15, up: {{inline: '{}'}}}}", "SELECT 1; ".repeat(1000));
    let mut spec = format!("stores: [{stores}]\nguards: [{}]\nuntil: p31\nphases:\n", guards(16));
    for phase in 0..32 {
        let action = if phase < 16 { switch(phase) } else { sql.clone() };
        writeln!(spec, "- {{name: p{phase}, guards: [{}], {action}}}", guards(8)).expect("a String takes all");
    }
    CLUSTER.run(async || {
        let client = CLUSTER.client();
        let taken = create(&client, &migration("largest", &spec)).await;
        taken.unwrap_or_else(|error| panic!("{} bytes: {error}", spec.len()));
    });
}
