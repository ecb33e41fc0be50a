//! Data on its way: a table's new shape, filled and proven while it is in use, and everything cleared away at the end.

use alongside::api::{MigrationStatus, PhaseState, RollbackReason, State};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::{
    home::Home,
    journey::{phase, told},
    phases::{approval, phases},
    shop::Shop,
    story::{Story, stories},
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![
        a_column_is_filled_and_proven_under_writes_and_its_trigger_goes_before_the_contract,
        rows_that_are_not_as_expected_take_the_backfill_back_and_are_named,
        a_backfill_is_seen_while_it_works_and_can_be_paused_and_hurried,
        a_backfill_that_can_not_work_is_refused_before_the_first_effect,
    ]
}

/// Whether the backfill's trigger is on the table.
const TRIGGERS: &str = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'items'::regclass AND NOT tgisinternal";
/// Rows whose new column isn't what the old one says.
const WRONG: &str = "SELECT count(*) FROM items WHERE sku IS DISTINCT FROM upper(name)";

async fn a_column_is_filled_and_proven_under_writes_and_its_trigger_goes_before_the_contract(home: Home) {
    let shop = Shop::opens(&home, &[]).await;
    let _operator = home.leader("a").await;
    let contract = json!({
        "name": "contract", "pointOfNoReturn": true,
        "sql": { "store": "inventory", "up": { "inline": "ALTER TABLE items DROP COLUMN name" } },
    });
    let mut spec = phases([expand(), fill(&json!({})), prove("sku = upper(name)"), contract]);
    spec["stores"] = Shop::store();
    let migration = home.migrates("to-v2", spec).await;
    let status = migration.holds_for("Approval").await;
    assert_eq!(phase(&status, "fill").state, PhaseState::Done);
    assert!(said(&status, "fill").starts_with("Filled"), "{}", said(&status, "fill"));
    assert_eq!(said(&status, "prove"), "As expected: 1000 rows.");
    // Whoever still knows nothing of the new column keeps it true all the same.
    shop.asks("UPDATE items SET name = name || '!' WHERE id % 7 = 0; INSERT INTO items (id, name, stock) VALUES (100001, 'late', 1)");
    assert_eq!((shop.number(WRONG), shop.number(TRIGGERS) > 0), (0, true));

    migration.is_approved().await;
    let status = migration.comes_to(State::Succeeded).await;
    assert!(phase(&status, "fill").cleaned_up);
    assert_eq!((shop.number(TRIGGERS), told(&status, "PhaseCleanedUp")), (0, 1));
    assert_eq!(shop.number("SELECT count(*) FROM items WHERE sku IS NULL"), 0);
    let left =
        "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'alongside'";
    assert_eq!(shop.number(left), 0);
}

async fn rows_that_are_not_as_expected_take_the_backfill_back_and_are_named(home: Home) {
    let shop = Shop::opens(&home, &[]).await;
    let _operator = home.leader("a").await;
    let mut prove = prove("sku = upper(name) AND id <> 17");
    prove["retries"] = json!(0);
    let mut spec = phases([expand(), fill(&json!({})), prove]);
    spec["stores"] = Shop::store();
    let migration = home.migrates("to-v2", spec).await;
    let status = migration.comes_to(State::RolledBack).await;
    let rollback = status.rollback.as_ref().expect("it was rolled back");
    assert_eq!(rollback.reason, RollbackReason::PhaseFailed);
    assert!(rollback.message.contains("1 not as expected of 1000 rows"), "{}", rollback.message);
    assert_eq!(phase(&status, "fill").state, PhaseState::Undone);
    assert_eq!(shop.number(TRIGGERS), 0);
    assert!(!shop.has_the_column());

    // The whole evidence outlives the pod that found it.
    let uid = migration.object().await.uid().expect("it has a UID");
    let ours = ListParams::default().labels(&format!("{}={uid}", alongside::api::UID_LABEL));
    let maps = home.all::<ConfigMap>().list(&ours).await.expect("ConfigMaps can be listed").items;
    let evidence = maps.iter().find_map(|map| map.data.as_ref()?.get("evidence.json"));
    let evidence: Value = serde_json::from_str(evidence.expect("the evidence was kept")).expect("it is JSON");
    assert_eq!(evidence["phase"], "prove");
    assert!(evidence.to_string().contains("17"), "{evidence}");
}

async fn a_backfill_is_seen_while_it_works_and_can_be_paused_and_hurried(home: Home) {
    let shop = Shop::opens(&home, &[]).await;
    shop.asks("INSERT INTO items (id, name, stock) SELECT 100000 + n, 'more ' || n, 1 FROM generate_series(1, 20000) n; ANALYZE items");
    let _operator = home.leader("a").await;
    let mut spec = phases([expand(), fill(&json!({ "rate": 200, "chunk": { "rows": 100 } })), approval()]);
    spec["stores"] = Shop::store();
    let migration = home.migrates("to-v2", spec.clone()).await;
    let status = migration.is("it is seen to work", |status| work(status).is_some_and(|work| work.done > 0)).await;
    let work = work(&status).cloned().expect("it works");
    assert!(work.total.is_some_and(|total| total >= 20_000), "{work:?}");
    assert!(status.message.contains("of 21,000 rows"), "{}", status.message);

    migration.is_paused().await;
    let status =
        migration.is("the worker has paused", |status| why_throttled(status).contains("paused by annotation")).await;
    assert!(phase(&status, "fill").paused.is_some());
    let before = shop.number("SELECT count(*) FROM items WHERE sku IS NOT NULL");
    migration.is_resumed().await;
    migration.is("the worker goes on", |status| phase(status, "fill").paused.is_none()).await;

    spec["phases"][1]["backfill"].as_object_mut().expect("an object").remove("rate");
    migration.patches(json!({ "spec": { "phases": spec["phases"] } })).await;
    let status = migration.holds_for("Approval").await;
    assert_eq!(told(&status, "PlanAdopted"), 0, "a pace is no part of the plan");
    assert_eq!(status.phases[1].tries, 1);
    assert!(before < 21_000 && shop.number(WRONG) == 0);
    migration.is_aborted().await;
    migration.comes_to(State::RolledBack).await;
    assert_eq!(shop.number(TRIGGERS), 0);
}

async fn a_backfill_that_can_not_work_is_refused_before_the_first_effect(home: Home) {
    let shop = Shop::opens(&home, &[]).await;
    let _operator = home.leader("a").await;
    let volatile = json!({ "name": "fill", "backfill": {
        "store": "inventory", "table": "items", "set": { "name": "name || random()" }, "where": "name IS NULL",
    } });
    let mut spec = phases([volatile]);
    spec["stores"] = Shop::store();
    let migration = home.migrates("to-v2", spec).await;
    let status = migration.holds_for("StoreRefused").await;
    assert_eq!((status.begun, phase(&status, "fill").state), (0, PhaseState::Pending));
    assert!(status.message.contains("immutable") || status.message.contains("volatile"), "{}", status.message);
    assert_eq!(shop.number(TRIGGERS), 0);
}

fn expand() -> Value {
    Shop::expands("ALTER TABLE items ADD COLUMN sku text")
}

/// Fills the new column, with more said about how.
fn fill(more: &Value) -> Value {
    let mut backfill = json!({
        "store": "inventory", "table": "items", "set": { "sku": "upper(name)" }, "where": "sku IS NULL", "sync": "Trigger",
    });
    let fields = more.as_object().expect("an object").clone();
    backfill.as_object_mut().expect("an object").extend(fields);
    json!({ "name": "fill", "backfill": backfill })
}

fn prove(expectation: &str) -> Value {
    json!({ "name": "prove", "verify": { "store": "inventory", "table": "items", "expect": [expectation] } })
}

fn said<'a>(status: &'a MigrationStatus, name: &str) -> &'a str {
    phase(status, name).message.as_deref().unwrap_or_default()
}

fn work(status: &MigrationStatus) -> Option<&alongside::api::WorkStatus> {
    status.phases.iter().find(|phase| phase.name == "fill")?.work.as_ref()
}

fn why_throttled(status: &MigrationStatus) -> String {
    work(status).and_then(|work| work.throttled.clone()).unwrap_or_default()
}
