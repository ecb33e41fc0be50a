//! What people ask for by annotation, and by editing what is under way.

use alongside::api::{PhaseState, RollbackReason, State};
use kube::Api;
use serde_json::json;

use crate::{
    home::Home,
    journey::{phase, told},
    phases::{approval, contract, cut_over, job, long, phases, prepare},
    places::{self, Place},
    story::{Story, stories},
    tally::nothing_is_left,
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    let mut stories = stories![
        a_retry_after_an_abort_begins_a_new_attempt_with_new_jobs,
        until_holds_where_it_says_and_a_later_one_lets_it_go_on,
        a_pause_holds_the_next_step_and_lifting_it_lets_it_go_on,
        an_approval_by_someone_without_the_right_is_refused_and_nothing_goes_on,
        a_later_phase_that_changes_is_adopted_at_the_boundary_and_one_that_has_begun_cannot_change,
    ];
    stories.extend(places::ALL.into_iter().map(|place| {
        let sentence = format!("an_abort_{}_takes_everything_back_exactly_once", place.words());
        Story::new(&sentence, move |home| aborted_at(place, home))
    }));
    stories
}

async fn aborted_at(place: Place, home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let migration = place.is_reached(&home, &app).await;
    migration.is_aborted().await;
    let status = migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
    assert_eq!(status.rollback.as_ref().map(|rollback| rollback.reason), Some(RollbackReason::Abort));
    assert_eq!(
        (told(&status, "RollingBack"), told(&status, "PhaseUndone")),
        (1, 1 + usize::from(place == Place::AJobRuns))
    );
    assert_eq!((home.times("prepare"), home.times("undo-prepare")), (1, 1));
    // The verb is still there, and says nothing new.
    let after = migration.object().await;
    home.stage().ledger().is_read().await;
    assert_eq!(migration.object().await, after);
}

async fn a_retry_after_an_abort_begins_a_new_attempt_with_new_jobs(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let migration = home.migrates("to-v2", phases([prepare(&home), cut_over("web"), approval()])).await;
    let first = migration.holds_for("Approval").await;
    migration.is_aborted().await;
    migration.comes_to(State::RolledBack).await;
    migration.is_retried().await;
    let second = migration
        .is("it holds again", |s| s.attempt == 2 && s.hold.as_ref().is_some_and(|hold| hold.reason == "Approval"));
    let second = second.await;
    app.serves("v2").await;
    let job = |status| phase(status, "prepare").job.clone().map(|job| job.name);
    assert_ne!(job(&first), job(&second));
    assert_eq!(home.times("prepare"), 2);
    // What was asked of the first attempt is not asked of the second.
    migration.is_approved().await;
    migration.comes_to(State::Succeeded).await;
}

async fn until_holds_where_it_says_and_a_later_one_lets_it_go_on(home: Home) {
    let _operator = home.leader("a").await;
    let mut spec = phases([prepare(&home), contract(&home)]);
    spec["until"] = json!("prepare");
    let migration = home.migrates("stages", spec).await;
    let status = migration.holds_for("Until").await;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    assert_eq!(ready.map(|condition| condition.status.as_str()), Some("True"));
    assert_eq!(home.times("contract"), 0);
    migration.patches(json!({ "spec": { "until": "contract" } })).await;
    migration.comes_to(State::Succeeded).await;
    assert_eq!((home.times("prepare"), home.times("contract")), (1, 1));
}

async fn a_pause_holds_the_next_step_and_lifting_it_lets_it_go_on(home: Home) {
    let _operator = home.leader("a").await;
    let migration = home.migrates("work", phases([long(&home), prepare(&home)])).await;
    migration.has("long", PhaseState::Running).await;
    migration.is_paused().await;
    home.opens("long");
    let status = migration.holds_for("Paused").await;
    assert_eq!(phase(&status, "prepare").state, PhaseState::Pending);
    assert_eq!(home.times("prepare"), 0);
    migration.is_resumed().await;
    migration.comes_to(State::Succeeded).await;
}

async fn an_approval_by_someone_without_the_right_is_refused_and_nothing_goes_on(home: Home) {
    const EDITOR: &str = "emil@example.com";
    let _operator = home.leader("a").await;
    let migration = home.migrates("ask", phases([approval(), prepare(&home)])).await;
    let status = migration.holds_for("Approval").await;
    home.create::<k8s_openapi::api::rbac::v1::RoleBinding>(json!({
        "metadata": { "name": "editors" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
        "subjects": [{ "kind": "User", "name": EDITOR, "apiGroup": "rbac.authorization.k8s.io" }],
    }))
    .await;
    let client = home.stage().cluster().client_as(EDITOR, &["system:authenticated"]);
    let theirs: Api<alongside::api::Migration> = Api::namespaced(client, home.name());
    let approves = json!({ "metadata": { "annotations": {
        "alongside.dev/approve": status.binding, "alongside.dev/approved-by": EDITOR,
    } } });
    let patch = kube::api::Patch::Merge(approves);
    let said = crate::support::wait::within(
        std::time::Duration::from_secs(30),
        "the role and the policy are there",
        async || {
            match theirs.patch("ask", &kube::api::PatchParams::default(), &patch).await {
                // The binding has to be seen by the authorizer first: until then it is RBAC that refuses.
                Err(kube::Error::Api(status)) if status.message.contains("may not approve") => {
                    Ok(status.message.clone())
                }
                other => Err(format!("{other:?}")),
            }
        },
    )
    .await;
    assert!(said.contains("alongside-verbs"), "{said}");
    assert_eq!(migration.holds_for("Approval").await.begun, 0);
    assert_eq!(home.times("prepare"), 0);
}

async fn a_later_phase_that_changes_is_adopted_at_the_boundary_and_one_that_has_begun_cannot_change(home: Home) {
    let _operator = home.leader("a").await;
    let spec = phases([long(&home), contract(&home)]);
    let migration = home.migrates("work", spec.clone()).await;
    let before = migration.has("long", PhaseState::Running).await;

    let mut edited = spec.clone();
    edited["phases"][0]["retries"] = json!(7);
    let refused = migration.tries_to_patch(json!({ "spec": edited })).await.expect_err("the phase has begun");
    assert!(refused.to_string().contains("have begun and can't be edited"), "{refused}");

    let mut edited = spec;
    edited["phases"][1]["job"]["template"] = job(&home, "another-contract", "true");
    migration.patches(json!({ "spec": edited })).await;
    home.opens("long");
    let after = migration.comes_to(State::Succeeded).await;
    assert_eq!((home.times("long"), home.times("contract"), home.times("another-contract")), (1, 0, 1));
    assert_ne!(before.plan.map(|plan| plan.hash), after.plan.as_ref().map(|plan| plan.hash.clone()));
    assert_eq!(told(&after, "PlanAdopted"), 1);
}
