//! Migrations, and whole namespaces, that are deleted in mid-flight.

use std::time::Duration;

use alongside::api::{DeletionPolicy, Migration, PhaseState, UID_LABEL};
use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, Pod},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PropagationPolicy},
};
use serde_json::json;

use crate::{
    home::Home,
    phases::{bake, contract, cut_over, long, phases, prepare},
    places::{self, Place},
    story::{Story, stories},
    support::wait::within,
};

/// How long the garbage collector, and whoever deletes namespaces, may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    let mut stories = stories![
        a_migration_that_is_to_be_orphaned_leaves_traffic_where_it_is,
        a_migration_that_has_succeeded_moves_nothing_when_it_is_deleted,
        a_migration_that_never_began_just_goes_when_it_is_deleted,
        a_migration_beyond_its_point_of_no_return_leaves_traffic_on_the_new_side_when_it_is_deleted,
        a_namespace_that_is_deleted_in_mid_flight_goes_away,
    ];
    let policies = [PropagationPolicy::Background, PropagationPolicy::Foreground];
    for (policy, place) in policies.iter().flat_map(|policy| places::ALL.map(|place| (policy.clone(), place))) {
        let how = format!("{policy:?}").to_lowercase();
        let sentence = format!("a_migration_deleted_in_the_{how}_{}_takes_itself_back", place.words());
        stories.push(Story::new(&sentence, move |home| deleted_at(policy.clone(), place, home)));
    }
    stories
}

async fn deleted_at(policy: PropagationPolicy, place: Place, home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let visitor = app.is_visited().await;
    let migration = place.is_reached(&home, &app).await;
    migration.is_deleted(policy).await;
    migration.is_gone().await;
    app.serves("v1").await;
    visitor.was_always_served().await;
    assert_eq!((home.times("prepare"), home.times("undo-prepare")), (1, 1));
    assert!(app.mark().await.ends_with("/released"), "{}", app.mark().await);
    no_child_is_left(&home).await;
}

/// The garbage collector finds nothing that it may not take.
pub async fn no_child_is_left(home: &Home) {
    let ours = ListParams::default().labels(UID_LABEL);
    within(PATIENCE, "no child is left", async || {
        let jobs = home.all::<Job>().list(&ours).await.map_err(|error| error.to_string())?.items.len();
        let pods = home.all::<Pod>().list(&ours).await.map_err(|error| error.to_string())?.items.len();
        let plans = home.all::<ControllerRevision>().list(&ours).await.map_err(|error| error.to_string())?.items.len();
        let tasks = home.all::<ConfigMap>().list(&ours).await.map_err(|error| error.to_string())?.items.len();
        match (jobs, pods, plans, tasks) {
            (0, 0, 0, 0) => Ok(()),
            _ => Err(format!("{jobs} Jobs, {pods} pods, {plans} plans, {tasks} ConfigMaps")),
        }
    })
    .await;
}

async fn a_migration_that_is_to_be_orphaned_leaves_traffic_where_it_is(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let migration = Place::ItBakes.is_reached(&home, &app).await;
    migration.patches(json!({ "spec": { "deletionPolicy": DeletionPolicy::Orphan } })).await;
    migration.is_deleted(PropagationPolicy::Background).await;
    migration.is_gone().await;
    app.serves("v2").await;
    assert!(app.mark().await.ends_with("/released"), "{}", app.mark().await);
    assert_eq!(home.times("undo-prepare"), 0);
    no_child_is_left(&home).await;
}

async fn a_migration_that_has_succeeded_moves_nothing_when_it_is_deleted(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let spec = phases([prepare(&home), cut_over("web"), bake("1s")]);
    let migration = home.migrates("to-v2", spec).await;
    migration.comes_to(alongside::api::State::Succeeded).await;
    migration.has_let_go().await;
    let before = app.service().await;
    migration.is_deleted(PropagationPolicy::Foreground).await;
    migration.is_gone().await;
    no_child_is_left(&home).await;
    assert_eq!(app.service().await, before);
    assert_eq!(home.times("undo-prepare"), 0);
}

async fn a_migration_that_never_began_just_goes_when_it_is_deleted(home: Home) {
    let _operator = home.leader("a").await;
    let migration = home.migrates("to-v2", phases([prepare(&home), cut_over("nowhere")])).await;
    migration.is("it does not start", |status| status.hold.is_some()).await;
    migration.is_deleted(PropagationPolicy::Foreground).await;
    migration.is_gone().await;
    no_child_is_left(&home).await;
    assert_eq!((home.times("prepare"), home.times("undo-prepare")), (0, 0));
}

async fn a_migration_beyond_its_point_of_no_return_leaves_traffic_on_the_new_side_when_it_is_deleted(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let spec = phases([prepare(&home), cut_over("web"), bake("1s"), contract(&home), long(&home)]);
    let migration = home.migrates("to-v2", spec).await;
    migration.has("long", PhaseState::Running).await;
    migration.is_deleted(PropagationPolicy::Background).await;
    migration.is_gone().await;
    app.serves("v2").await;
    assert!(app.mark().await.ends_with("/released"), "{}", app.mark().await);
    assert_eq!((home.times("undo-prepare"), home.times("undo-long")), (0, 0));
    no_child_is_left(&home).await;
}

async fn a_namespace_that_is_deleted_in_mid_flight_goes_away(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    Place::ItBakes.is_reached(&home, &app).await;
    let namespaces: Api<Namespace> = Api::all(home.client());
    namespaces.delete(home.name(), &DeleteParams::default()).await.expect("the namespace can be deleted");
    within(PATIENCE, "the namespace is gone", async || match namespaces.get_opt(home.name()).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let left = home.all::<Migration>().list(&ListParams::default()).await.expect("Migrations can be listed");
    assert!(left.items.is_empty());
}
