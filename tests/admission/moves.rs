//! What is wrong with moving a database.

use crate::server::refused;

refused! {
    a_replication_of_a_store_into_itself {
        wrote: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: blue, tables: [public.*]}}]",
        heard: "spec.phases[0].replicate: Invalid value: `from` and `to` are the same store: name the old one and the new one",
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
    }
    a_replication_of_a_store_that_is_not_there {
        wrote: "
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*]}}]",
        heard: "spec.phases: Invalid value: a store that a phase's `replicate` names is none of the migration's: write it into `spec.stores`",
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
    }
    a_replication_of_tables_without_a_schema {
        wrote: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [orders]}}]",
        heard: r#"spec.phases[0].replicate.tables[0]: Invalid value: "orders": write a schema and a table, such as `public.orders` or `public.*`"#,
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
    }
    two_pairs_of_stores_in_step {
        wrote: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: again, replicate: {from: green, to: blue, tables: [public.*]}}]",
        heard: "spec.phases: Invalid value: a migration keeps one pair of stores in step: write one `replicate`, and a second migration for another pair",
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
    }
    two_moves_of_writes {
        wrote: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}, {name: again, switch: {service: orders-ro, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
        heard: "spec.phases: Invalid value: a migration moves writes from one store to another once: write one `switch` with a `fence`",
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
    }
    a_fence_between_stores_that_nothing_keeps_in_step {
        wrote: "
phases: [{name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
        heard: "spec.phases: Invalid value: a `switch` with a `fence` needs a `replicate` with `wayBack: true` in an earlier phase: without it the new store has no data, and going back would lose what it was given",
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
    }
    a_fence_without_a_way_back_for_writes {
        wrote: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*]}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
        heard: "spec.phases: Invalid value: a `switch` with a `fence` needs a `replicate` with `wayBack: true` in an earlier phase: without it the new store has no data, and going back would lose what it was given",
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
    }
    a_fence_that_does_not_say_what_it_prefers {
        wrote: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}}}]",
        heard: "spec.phases[1].switch: Invalid value: `fence` and `onFenceTimeout` go together: write what happens when writes can't be held in time on the way back, `PreferData` (traffic stays until no write is lost) or `PreferTraffic`",
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
    }
    a_fence_around_several_services {
        wrote: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {services: [orders-db, orders-ro], from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
        heard: "spec.phases[1].switch: Invalid value: with a `fence` one Service moves, as a store is behind one: write `service`",
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
    }
    a_fence_that_makes_clients_wait_for_minutes {
        wrote: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {deadline: 5m}, onFenceTimeout: PreferData}}]",
        heard: r#"spec.phases[1].switch.fence.deadline: Invalid value: "5m": a fence's `deadline` is between 100ms and 60s: so long may clients be made to wait"#,
        writes: "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases: [{name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}, {name: cut-over, switch: {service: orders-db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}]",
    }
}
