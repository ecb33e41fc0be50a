//! What may change in a migration that has begun, and what may not.

use alongside::api::{Migration, MigrationStatus};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::server::{CLUSTER, create, migration, migrations, name_of, words};

/// Four phases on two stores.
const SPEC: &str = "
stores:
- {name: orders, postgres: {secretRef: {name: orders-db, key: uri}}}
- {name: stock, postgres: {secretRef: {name: stock-db, key: uri}}}
phases:
- {name: expand, sql: {store: orders, up: {inline: SELECT 1}}}
- {name: fill, backfill: {store: orders, table: item, set: {sku: upper(code)}, rate: 1000}}
- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: contract, pointOfNoReturn: true, sql: {store: stock, up: {inline: SELECT 2}}}";

const BEGUN: &str = "spec.phases: Invalid value: phases up to `cut-over` have begun and can't be edited, removed or \
                     reordered: change later ones, or abort and begin anew";

const STORE: &str = "spec.stores: Invalid value: a store that a begun phase works on can't be changed or removed: add \
                     another one for later phases, or abort and begin anew";

/// Creates the migration of [`SPEC`], says in its status that its first three phases have begun, and applies the changed
/// text as kubectl does.
fn after_three_phases_have_begun(sentence: &str, changed: &str) -> Result<(), String> {
    let name = name_of(sentence);
    CLUSTER.run(async || {
        let client = CLUSTER.client();
        create(&client, &migration(&name, SPEC)).await.expect("the migration is a good one");
        set_begun(&client, &name, 3).await.expect("its status can be written");
        let outcome = replace(&client, &name, changed).await;
        migrations(client).delete(&name, &DeleteParams::default()).await.expect("it can be deleted");
        outcome
    })
}

async fn set_begun(client: &Client, name: &str, begun: i64) -> Result<(), String> {
    let status = json!({ "status": MigrationStatus { begun, ..MigrationStatus::default() } });
    let patched = migrations(client.clone()).patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await;
    patched.map(drop).map_err(|error| words(&error))
}

async fn replace(client: &Client, name: &str, spec: &str) -> Result<(), String> {
    let migrations: Api<Migration> = migrations(client.clone());
    let was = migrations.get(name).await.expect("the migration is there");
    let mut wanted: Migration = serde_saphyr::from_str(&migration(name, spec)).expect("the types read it");
    wanted.metadata.resource_version = was.resource_version();
    migrations.replace(name, &<_>::default(), &wanted).await.map(drop).map_err(|error| words(&error))
}

macro_rules! changes {
    ($($sentence:ident: $from:expr => $to:expr => $outcome:expr;)*) => {
        $(#[test]
        fn $sentence() {
            let changed = SPEC.replace($from, $to);
            assert_ne!(changed, SPEC, "the test changes nothing");
            let outcome = after_three_phases_have_begun(stringify!($sentence), &changed);
            assert_eq!(outcome, $outcome.map_err(str::to_owned));
        })*
    };
}

changes! {
    the_action_of_a_begun_phase_stays:
        "inline: SELECT 1" => "inline: SELECT 3" => Err::<(), &str>(BEGUN);
    the_phase_under_way_stays:
        "to: {version: v2}" => "to: {version: v3}" => Err::<(), &str>(BEGUN);
    a_begun_phase_keeps_its_name:
        "name: expand" => "name: widen" => Err::<(), &str>(BEGUN);
    a_begun_phase_gets_no_guard_afterwards:
        "{name: cut-over," => "{name: cut-over, guards: [{name: g, query: q, max: 1}]," => Err::<(), &str>(BEGUN);
    a_begun_phase_is_not_removed:
        "- {name: expand, sql: {store: orders, up: {inline: SELECT 1}}}\n" => "" => Err::<(), &str>(BEGUN);
    the_last_begun_phase_is_not_removed:
        "- {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}\n" => ""
        => Err::<(), &str>(BEGUN);
    nothing_is_put_before_a_begun_phase:
        "- {name: cut-over," => "- {name: ask, approval: Required}\n- {name: cut-over," => Err::<(), &str>(BEGUN);
    a_store_in_use_is_not_pointed_elsewhere:
        "name: orders-db" => "name: other-db" => Err::<(), &str>(STORE);
    a_store_in_use_is_not_removed:
        "- {name: orders, postgres: {secretRef: {name: orders-db, key: uri}}}\n" => ""
        => Err::<(), &str>("spec.stores: Invalid value: a store that a begun phase works on can't be changed or removed: \
        add another one for later phases, or abort and begin anew\nspec.phases: Invalid value: phase `expand`: its \
        `sql.store` names no store: write it into `spec.stores`\nspec.phases: Invalid value: a phase's \
        `backfill.store` names no store: write it into `spec.stores`");

    what_a_begun_backfill_sets_stays:
        "upper(code)" => "lower(code)" => Err::<(), &str>(BEGUN);
    a_begun_backfill_gets_no_timeout_afterwards:
        "{name: fill," => "{name: fill, timeout: 1h," => Err::<(), &str>(BEGUN);
    the_pace_of_a_begun_backfill_may_change:
        "rate: 1000" => "workers: 4, throttle: {maxLag: 2s}" => Ok(());

    a_later_phase_may_change:
        "inline: SELECT 2" => "inline: SELECT 3" => Ok(());
    a_later_phase_may_go:
        "- {name: contract, pointOfNoReturn: true, sql: {store: stock, up: {inline: SELECT 2}}}" => "" => Ok(());
    a_phase_may_be_put_among_the_later_ones:
        "- {name: contract," => "- {name: bake, bake: {for: 1h}}\n- {name: contract," => Ok(());
    a_store_for_a_later_phase_may_change:
        "name: stock-db" => "name: other-db" => Ok(());
    a_store_may_be_added:
        "stores:" => "stores:\n- {name: third, postgres: {secretRef: {name: db, key: uri}}}" => Ok(());
    a_guard_may_be_added:
        "phases:" => "guards: [{name: errors, query: up, min: 1}]\nphases:" => Ok(());
    the_phase_to_wait_at_may_change:
        "phases:" => "until: cut-over\nphases:" => Ok(());
}

#[test]
fn phases_change_places_only_before_they_begin() {
    let phases = [
        "- {name: one, approval: Required}\n",
        "- {name: two, approval: Required}\n",
        "- {name: three, approval: Required}\n",
    ];
    let order = |places: [usize; 3]| format!("phases:\n{}", places.map(|place| phases[place]).concat());
    CLUSTER.run(async || {
        let client = CLUSTER.client();
        let name = "changes-places";
        create(&client, &migration(name, &order([0, 1, 2]))).await.unwrap();
        replace(&client, name, &order([2, 0, 1])).await.expect("nothing has begun");
        set_begun(&client, name, 1).await.unwrap();
        replace(&client, name, &order([2, 1, 0])).await.expect("both have yet to begin");
        let refused = replace(&client, name, &order([1, 2, 0])).await.unwrap_err();
        assert!(refused.starts_with("spec.phases: Invalid value: phases up to `three` have begun"), "{refused}");
    });
}

#[test]
fn whatever_status_says_it_can_be_written_again() {
    CLUSTER.run(async || {
        let client = CLUSTER.client();
        let name = "says-nonsense";
        create(&client, &migration(name, SPEC)).await.unwrap();
        for begun in [99, -5, 3, 0] {
            set_begun(&client, name, begun).await.unwrap_or_else(|error| panic!("after begun: {begun}: {error}"));
            let label = Patch::Merge(json!({ "metadata": { "labels": { "begun": format!("is{begun}") } } }));
            migrations(client.clone()).patch(name, &PatchParams::default(), &label).await.expect("labels can change");
        }
    });
}

#[test]
fn a_name_longer_than_a_label_is_refused() {
    CLUSTER.run(async || {
        let client = CLUSTER.client();
        let spec = "phases: [{name: ask, approval: Required}]";
        let refused = create(&client, &migration(&"x".repeat(64), spec)).await.map(|taken| taken.name_any());
        let said = "<nil>: Invalid value: the name of a migration has up to 63 characters, as it is a label on what \
                    belongs to it: write a shorter one";
        assert_eq!(refused, Err(said.to_owned()));
        create(&client, &migration(&"x".repeat(63), spec)).await.expect("63 characters are a label");
    });
}

/// A database's move; the agent is told how writes move when the copy begins.
const MOVE: &str = "
stores: [{name: blue, postgres: {secretRef: {name: a, key: uri}}}, {name: green, postgres: {secretRef: {name: b, key: uri}}}]
phases:
- {name: copy, replicate: {from: blue, to: green, tables: [public.*], wayBack: true}}
- {name: cut-over, switch: {service: db, from: {pg: blue}, to: {pg: green}, fence: {}, onFenceTimeout: PreferData}}
- {name: bake, bake: {for: 1h}}";

#[test]
fn how_writes_move_changes_only_before_the_copy_begins() {
    let without = MOVE.replace(", fence: {}, onFenceTimeout: PreferData", "");
    let other = MOVE.replace("fence: {}", "fence: {deadline: 9s}");
    let later = MOVE.replace("for: 1h", "for: 2h");
    CLUSTER.run(async || {
        let client = CLUSTER.client();
        let name = "how-writes-move";
        create(&client, &migration(name, MOVE)).await.unwrap();
        replace(&client, name, &other).await.expect("nothing has begun");
        replace(&client, name, MOVE).await.expect("nothing has begun");
        set_begun(&client, name, 1).await.unwrap();
        replace(&client, name, &later).await.expect("the rest may change");
        for changed in [&without, &other] {
            let refused = replace(&client, name, changed).await.unwrap_err();
            assert!(refused.starts_with("spec.phases: Invalid value: how writes move can't be changed"), "{refused}");
        }
    });
}
