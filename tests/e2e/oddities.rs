//! Migrations that this release can't make sense of: they stand in nobody's way but their own.

use std::time::Duration;

use alongside::api::{PhaseState, State};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PropagationPolicy},
};
use serde_json::{Value, json};

use crate::{
    home::Home,
    operator::Operator,
    phases::{approval, guard, guarded, phases, prepare},
    stage::{OPERATOR, RELEASE},
    story::{Story, stories},
    support::wait::within,
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![
        a_migration_that_a_newer_release_wrote_keeps_nobody_else_from_going_on,
        a_migration_that_is_deleted_before_it_has_begun_is_forgotten,
        a_status_of_a_newer_format_is_left_alone_and_told_once,
    ]
}

async fn a_status_of_a_newer_format_is_left_alone_and_told_once(home: Home) {
    let journey = home.migrates("ahead", phases([prepare(&home)])).await;
    writes_status(&home, "ahead", json!({ "state": "Waiting", "formatVersion": 999 })).await;
    let operator = home.leader("a").await;
    operator.says("which this operator does not know").await;
    let before = journey.object().await;

    // It is looked at again and again.
    for round in ["one", "two", "three"] {
        journey.annotates(json!({ "round": round })).await;
    }
    home.migrates("other", phases([prepare(&home)])).await.comes_to(State::Succeeded).await;
    assert_eq!(journey.object().await.status, before.status);
    let told = operator.log().reads().matches("which this operator does not know").count();
    assert_eq!(told, 1);
}

async fn a_migration_that_is_deleted_before_it_has_begun_is_forgotten(home: Home) {
    let operator = home.leader("a").await;
    let standby = home.operator("b");
    standby.stands_by().await;
    // Nobody reports this figure, so the migration waits before its first effect, and has no finalizer.
    let journey = home.migrates("premature", guarded([guard(&home, "nobodys")], [approval()])).await;
    journey.holds_for("GuardSilent").await;
    for operator in [&operator, &standby] {
        operator.measures("premature").await;
    }

    journey.is_deleted(PropagationPolicy::Background).await;
    for operator in [&operator, &standby] {
        operator.measures_no_more("premature").await;
    }
}

async fn a_migration_that_a_newer_release_wrote_keeps_nobody_else_from_going_on(home: Home) {
    home.migrates("odd", phases([approval()])).await;
    writes_status(&home, "odd", json!({ "state": "Teleporting", "formatVersion": 999 })).await;

    let operator = home.leader("a").await;
    home.migrates("plain", phases([prepare(&home)])).await.comes_to(State::Succeeded).await;
    operator.says("can't be read by this release").await;
    leaves_out(&operator, 1.0).await;

    // One that was read before and can't be any more is left alone from then on.
    let other = home.migrates("other", phases([prepare(&home), approval()])).await;
    other.holds_for("Approval").await;
    writes_status(&home, "other", json!({ "state": "Teleporting" })).await;
    leaves_out(&operator, 2.0).await;

    // What can be read again goes on.
    writes_status(&home, "other", json!({ "state": "Waiting" })).await;
    leaves_out(&operator, 1.0).await;
    other.is_approved().await;
    other.has("wait-for-a-person", PhaseState::Done).await;
}

/// Waits until an operator leaves out so many Migrations.
async fn leaves_out(operator: &Operator, wanted: f64) {
    within(Duration::from_secs(30), "the operator leaves out what it can't read", async || {
        match operator.metric("alongside_unreadable_migrations").await? {
            count if (count - wanted).abs() < 0.5 => Ok(()),
            count => Err(format!("it leaves out {count}")),
        }
    })
    .await;
}

/// Writes into a status as no release of today would.
async fn writes_status(home: &Home, name: &str, status: Value) {
    let kind = ApiResource::erase::<alongside::api::Migration>(&());
    // The policies let nobody else write it.
    let operator = format!("system:serviceaccount:{RELEASE}:{OPERATOR}");
    let client = home.stage().cluster().client_as(&operator, &["system:serviceaccounts", "system:authenticated"]);
    let migrations: Api<DynamicObject> = Api::namespaced_with(client, home.name(), &kind);
    let patch = Patch::Merge(json!({ "status": status }));
    migrations.patch_status(name, &PatchParams::default(), &patch).await.expect("the status can be written");
}
