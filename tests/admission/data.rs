//! What is wrong with an action that works on data.

use crate::server::refused;

refused! {
    a_backfill_of_a_store_that_is_not_there {
        wrote: "
phases: [{name: fill, backfill: {store: crm, table: customers, set: {first_name: \"split_part(full_name, ' ', 1)\"}}}]",
        heard: "spec.phases: Invalid value: a phase's `backfill.store` names no store: write it into `spec.stores`",
        writes: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {first_name: \"split_part(full_name, ' ', 1)\"}}}]",
    }
    a_backfill_with_a_trigger_that_can_not_tell_what_is_filled {
        wrote: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {a: b}, sync: Trigger}}]",
        heard: "spec.phases[0].backfill: Invalid value: with `sync: Trigger` say in `where` how a row is told that nobody has filled yet, such as `first_name IS NULL`",
        writes: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {a: b}, where: a IS NULL, sync: Trigger}}]",
    }
    a_backfill_that_sets_nothing {
        wrote: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {}}}]",
        heard: "spec.phases[0].backfill.set: Invalid value: 0: spec.phases[0].backfill.set in body should have at least 1 properties",
        writes: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {a: b}}}]",
    }
    a_throttle_by_a_guard_that_is_not_there {
        wrote: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
guards: [{name: p90, query: q, max: 1}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {a: b}, throttle: {guard: p99}}}]",
        heard: "spec.phases: Invalid value: a phase's `throttle.guard` names no guard: write it into `spec.guards`, or into the phase's own",
        writes: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, guards: [{name: p99, query: q, max: 1}], backfill: {store: crm, table: customers, set: {a: b}, throttle: {guard: p99}}}]",
    }
    a_duty_of_more_than_all_of_the_time {
        wrote: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {a: b}, throttle: {duty: 120%}}}]",
        heard: r#"spec.phases[0].backfill.throttle.duty: Invalid value: "120%": nobody can work for more than all of the time: write `100%` or less"#,
        writes: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {a: b}, throttle: {duty: 20%}}}]",
    }
    a_chunk_that_holds_its_rows_for_a_minute {
        wrote: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {a: b}, chunk: {time: 1m}}}]",
        heard: r#"spec.phases[0].backfill.chunk.time: Invalid value: "1m": a chunk's `time` is between 1ms and 10s: so long may a write of the application wait for it"#,
        writes: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {a: b}, chunk: {time: 100ms}}}]",
    }
    a_backfill_that_waits_long_for_a_lock {
        wrote: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {a: b}, lockTimeout: 5m}}]",
        heard: r#"spec.phases[0].backfill.lockTimeout: Invalid value: "5m": a `lockTimeout` is between 10ms and 60s: while a statement waits for its lock, all others queue behind it"#,
        writes: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: fill, backfill: {store: crm, table: customers, set: {a: b}, lockTimeout: 5s}}]",
    }
    a_verification_of_a_store_that_is_not_there {
        wrote: "phases: [{name: prove, verify: {store: crm, table: customers, expect: [a = b]}}]",
        heard: "spec.phases: Invalid value: a store that a phase's `verify` names is none of the migration's: write it into `spec.stores`",
        writes: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: prove, verify: {store: crm, table: customers, expect: [a = b]}}]",
    }
    a_verification_of_nothing {
        wrote: "phases: [{name: prove, verify: {}}]",
        heard: "spec.phases[0].verify: Invalid value: `verify` looks at one store or at two: write `store`, `table` and `expect`, or `from`, `to` and `tables`",
        writes: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: prove, verify: {store: crm, table: customers, expect: [a = b]}}]",
    }
    a_verification_that_expects_nothing {
        wrote: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: prove, verify: {store: crm, table: customers}}]",
        heard: "spec.phases[0].verify: Invalid value: `verify` within one store needs a `table` and what to `expect` of its rows: write both",
        writes: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: prove, verify: {store: crm, table: customers, expect: [a = b]}}]",
    }
    a_verification_between_stores_of_no_table {
        wrote: "
stores: [{name: blue, postgres: {secretRef: {name: blue, key: uri}}}, {name: green, postgres: {secretRef: {name: green, key: uri}}}]
phases: [{name: prove, verify: {from: blue, to: green}}]",
        heard: "spec.phases[0].verify: Invalid value: `verify` between stores needs `tables`: write them, such as `[public.*]`",
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: blue, key: uri}}}, {name: green, postgres: {secretRef: {name: green, key: uri}}}]
phases: [{name: prove, verify: {from: blue, to: green, tables: [public.*]}}]",
    }
    a_verification_within_a_store_that_counts_tables {
        wrote: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: prove, verify: {store: crm, table: customers, expect: [a = b], counts: true}}]",
        heard: "spec.phases[0].verify: Invalid value: `tables`, `ignore`, `counts` and `checksum` go with `from` and `to`: leave them out, or name two stores",
        writes: "
stores: [{name: crm, postgres: {secretRef: {name: crm-db, key: uri}}}]
phases: [{name: prove, verify: {store: crm, table: customers, expect: [a = b]}}]",
    }
    a_verification_between_stores_that_expects_something_of_rows {
        wrote: "
stores: [{name: blue, postgres: {secretRef: {name: blue, key: uri}}}, {name: green, postgres: {secretRef: {name: green, key: uri}}}]
phases: [{name: prove, verify: {from: blue, to: green, tables: [public.*], expect: [a = b]}}]",
        heard: "spec.phases[0].verify: Invalid value: `table` and `expect` go with `store`: leave them out, or name one store",
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: blue, key: uri}}}, {name: green, postgres: {secretRef: {name: green, key: uri}}}]
phases: [{name: prove, verify: {from: blue, to: green, tables: [public.*]}}]",
    }
    a_store_compared_with_itself {
        wrote: "
stores: [{name: blue, postgres: {secretRef: {name: blue, key: uri}}}]
phases: [{name: prove, verify: {from: blue, to: blue, tables: [public.*]}}]",
        heard: "spec.phases[0].verify: Invalid value: `from` and `to` are the same store, which always equals itself: name two",
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: blue, key: uri}}}, {name: green, postgres: {secretRef: {name: green, key: uri}}}]
phases: [{name: prove, verify: {from: blue, to: green, tables: [public.*]}}]",
    }
}
