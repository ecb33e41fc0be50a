//! What is wrong with a migration as a whole.

use crate::server::refused;

refused! {
    a_migration_without_phases {
        wrote: "phases: []",
        heard: "spec.phases: Invalid value: 0: spec.phases in body should have at least 1 items",
        writes: "phases: [{name: ask, approval: Required}]",
    }
    a_migration_that_forgets_its_phases {
        wrote: "until: ask",
        heard: "spec.phases: Required value",
        writes: "
until: ask
phases: [{name: ask, approval: Required}]",
    }
    two_phases_of_one_name {
        wrote: "phases: [{name: ask, approval: Required}, {name: ask, approval: Required}]",
        heard: r#"spec.phases[1]: Duplicate value: {"name":"ask"}"#,
        writes: "phases: [{name: ask, approval: Required}, {name: ask-again, approval: Required}]",
    }
    until_a_phase_that_does_not_exist {
        wrote: "
until: bake
phases: [{name: ask, approval: Required}]",
        heard: "spec.until: Invalid value: `until` is `bake`, which names no phase: write the name of one, or leave it out",
        writes: "
until: null
phases: [{name: ask, approval: Required}]",
    }
    a_script_for_a_store_that_does_not_exist {
        wrote: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases:
- {name: first, sql: {store: orders, up: {inline: SELECT 1}}}
- {name: expand, sql: {store: order, up: {inline: SELECT 1}}}",
        heard: "spec.phases: Invalid value: phase `expand`: its `sql.store` names no store: write it into `spec.stores`",
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases:
- {name: first, sql: {store: orders, up: {inline: SELECT 1}}}
- {name: expand, sql: {store: orders, up: {inline: SELECT 1}}}",
    }
    a_script_without_any_store {
        wrote: "phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}}}]",
        heard: "spec.phases: Invalid value: phase `expand`: its `sql.store` names no store: write it into `spec.stores`",
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: expand, sql: {store: orders, up: {inline: SELECT 1}}}]",
    }
    a_store_without_a_secret {
        wrote: "
stores: [{name: orders, postgres: {}}]
phases: [{name: ask, approval: Required}]",
        heard: "spec.stores[0].postgres.secretRef: Required value",
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: ask, approval: Required}]",
    }
    a_store_that_holds_its_password {
        wrote: "
stores: [{name: orders, postgres: {uri: 'postgres://app:secret@db/orders'}}]
phases: [{name: ask, approval: Required}]",
        heard: r#"Migration in version "v1alpha1" cannot be handled as a Migration: strict decoding error: unknown field "spec.stores[0].postgres.uri""#,
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: ask, approval: Required}]",
    }
    a_store_of_another_kind {
        wrote: "
stores: [{name: orders, mysql: {secretRef: {name: db, key: uri}}}]
phases: [{name: ask, approval: Required}]",
        heard: r#"Migration in version "v1alpha1" cannot be handled as a Migration: strict decoding error: unknown field "spec.stores[0].mysql""#,
        writes: "
stores: [{name: orders, postgres: {secretRef: {name: db, key: uri}}}]
phases: [{name: ask, approval: Required}]",
    }
    a_bake_before_any_switch {
        wrote: "
phases:
- {name: bake, bake: {for: 1h}}
- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}",
        heard: "spec.phases: Invalid value: a `bake` needs a `switch` before it: there is no old side to keep yet",
        writes: "
phases:
- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: bake, bake: {for: 1h}}",
    }
    a_switch_after_the_point_of_no_return {
        wrote: "
phases:
- {name: ask, approval: Required, pointOfNoReturn: true}
- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}",
        heard: "spec.phases: Invalid value: a `switch` comes before the point of no return, or traffic could not be taken back: write it into an earlier phase",
        writes: "
phases:
- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: ask, approval: Required, pointOfNoReturn: true}",
    }
    a_bake_after_the_point_of_no_return {
        wrote: "
phases:
- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: ask, approval: Required, pointOfNoReturn: true}
- {name: bake, bake: {for: 1h}}",
        heard: "spec.phases: Invalid value: a `bake` comes before the point of no return, as it keeps the way back open: write it into an earlier phase",
        writes: "
phases:
- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: bake, bake: {for: 1h}}
- {name: ask, approval: Required, pointOfNoReturn: true}",
    }
    one_service_switched_by_two_phases {
        wrote: "
phases:
- {name: first, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: second, switch: {services: [cart, shop], from: {version: v1}, to: {version: v2}}}",
        heard: "spec.phases: Invalid value: two phases switch the same Service: a migration moves each Service once, so write a second migration",
        writes: "
phases:
- {name: first, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: second, switch: {services: [cart, till], from: {version: v1}, to: {version: v2}}}",
    }
    one_service_in_the_lists_of_two_phases {
        wrote: "
phases:
- {name: first, switch: {services: [shop, cart], from: {version: v1}, to: {version: v2}}}
- {name: second, switch: {services: [till, shop], from: {version: v1}, to: {version: v2}}}",
        heard: "spec.phases: Invalid value: two phases switch the same Service: a migration moves each Service once, so write a second migration",
        writes: "
phases:
- {name: first, switch: {services: [shop, cart], from: {version: v1}, to: {version: v2}}}
- {name: second, switch: {services: [till, desk], from: {version: v1}, to: {version: v2}}}",
    }
    a_deletion_policy_that_does_not_exist {
        wrote: "
deletionPolicy: Retain
phases: [{name: ask, approval: Required}]",
        heard: r#"spec.deletionPolicy: Unsupported value: "Retain": supported values: "Rollback", "Orphan""#,
        writes: "
deletionPolicy: Orphan
phases: [{name: ask, approval: Required}]",
    }
    a_misspelt_field {
        wrote: "
deletionpolicy: Orphan
phases: [{name: ask, approval: Required}]",
        heard: r#"Migration in version "v1alpha1" cannot be handled as a Migration: strict decoding error: unknown field "spec.deletionpolicy""#,
        writes: "
deletionPolicy: Orphan
phases: [{name: ask, approval: Required}]",
    }
    a_field_written_twice {
        wrote: "
until: ask
until: ask
phases: [{name: ask, approval: Required}]",
        heard: "Migration in version \"v1alpha1\" cannot be handled as a Migration: strict decoding error: yaml: unmarshal errors:\n  line 8: key \"until\" already set in map",
        writes: "
until: ask
phases: [{name: ask, approval: Required}]",
    }
    a_label_for_pods_that_is_no_label {
        wrote: "
podTemplate: {labels: {team: 'a team'}}
phases: [{name: ask, approval: Required}]",
        heard: r#"spec.podTemplate.labels[team]: Invalid value: "a team": a label's value has letters, digits, `-`, `_` and `.`, such as `v2`"#,
        writes: "
podTemplate: {labels: {team: a-team, sidecar.istio.io/inject: 'false'}}
phases: [{name: ask, approval: Required}]",
    }
    more_phases_than_anyone_can_follow {
        wrote: "phases: [
{name: p00, approval: Required}, {name: p01, approval: Required}, {name: p02, approval: Required},
{name: p03, approval: Required}, {name: p04, approval: Required}, {name: p05, approval: Required},
{name: p06, approval: Required}, {name: p07, approval: Required}, {name: p08, approval: Required},
{name: p09, approval: Required}, {name: p10, approval: Required}, {name: p11, approval: Required},
{name: p12, approval: Required}, {name: p13, approval: Required}, {name: p14, approval: Required},
{name: p15, approval: Required}, {name: p16, approval: Required}, {name: p17, approval: Required},
{name: p18, approval: Required}, {name: p19, approval: Required}, {name: p20, approval: Required},
{name: p21, approval: Required}, {name: p22, approval: Required}, {name: p23, approval: Required},
{name: p24, approval: Required}, {name: p25, approval: Required}, {name: p26, approval: Required},
{name: p27, approval: Required}, {name: p28, approval: Required}, {name: p29, approval: Required},
{name: p30, approval: Required}, {name: p31, approval: Required}, {name: p32, approval: Required}]",
        heard: "spec.phases: Too many: 33: must have at most 32 items",
        writes: "phases: [{name: p00, approval: Required}]",
    }
}
