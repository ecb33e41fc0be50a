//! Migrations under a real Argo CD, which is built from its module (`tests/cluster/argocd`): its controller syncs them
//! from Git and heals what differs, its server runs our actions, and both have the rights that its own manifests give.
//!
//! Operators, homes and phases are those of the end-to-end tests.
//!
//! ```text
//! cargo test --features fault-points --test argocd                 # all
//! cargo test --features fault-points --test argocd -- pruned       # those with a word in their sentence
//! ```

#[path = "../support/mod.rs"]
mod support;

#[path = "../e2e/app.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod app;
#[path = "../e2e/home.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod home;
#[path = "../e2e/journey.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod journey;
#[path = "../e2e/ledger.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod ledger;
#[path = "../e2e/operator.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod operator;
#[path = "../e2e/phases.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod phases;
#[path = "../e2e/prometheus.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod prometheus;
#[path = "../e2e/stage.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod stage;
#[path = "../e2e/story.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod story;

mod argo;
mod repository;
mod scripts;
mod shop;
mod stories;

use std::{
    process::ExitCode,
    sync::{Arc, LazyLock},
    time::Duration,
};

use alongside::api::UID_LABEL;
use home::Home;
use k8s_openapi::api::{apps::v1::ControllerRevision, batch::v1::Job, core::v1::Pod};
use kube::api::ListParams;
use libtest_mimic::{Arguments, Trial};
use stage::Stage;
use story::Story;
use support::wait::within;

/// Stories at the same time.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().expect("nobody has chosen a TLS provider before");
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let stage: Arc<LazyLock<Stage>> = Arc::new(LazyLock::new(Stage::set));
    let mut trials = vec![
        Trial::test("every_moment_has_the_health_that_is_written_down", || {
            scripts::every_moment_has_the_health_that_is_written_down()
        }),
        Trial::test("every_moment_offers_the_actions_that_are_written_down", || {
            scripts::every_moment_offers_the_actions_that_are_written_down()
        }),
        Trial::test("every_action_changes_the_annotations_that_are_written_down", || {
            scripts::every_action_changes_the_annotations_that_are_written_down()
        }),
    ];
    trials.extend(stories::stories().into_iter().map(|story: Story| story.on(Arc::clone(&stage))));
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The cluster ends with the stage, and this process after it.
    drop(stage);
    conclusion.exit_code()
}

/// Waits until the garbage collector has nothing left of a Migration that is gone.
async fn no_child_is_left(home: &Home) {
    let ours = ListParams::default().labels(UID_LABEL);
    within(Duration::from_mins(2), "no child is left", async || {
        let jobs = home.all::<Job>().list(&ours).await.map_err(|error| error.to_string())?.items.len();
        let pods = home.all::<Pod>().list(&ours).await.map_err(|error| error.to_string())?.items.len();
        let plans = home.all::<ControllerRevision>().list(&ours).await.map_err(|error| error.to_string())?.items.len();
        match (jobs, pods, plans) {
            (0, 0, 0) => Ok(()),
            _ => Err(format!("{jobs} Jobs, {pods} pods, {plans} plans")),
        }
    })
    .await;
}
