//! What the cluster refuses: it is said, asked for again, and gone on with once it is allowed.

use alongside::api::State;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{Api, api::DeleteParams};
use serde_json::json;

use crate::{
    home::Home,
    phases::{approval, phases, prepare},
    story::{Story, stories},
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![a_job_that_a_quota_refuses_is_told_and_made_once_the_quota_is_lifted]
}

async fn a_job_that_a_quota_refuses_is_told_and_made_once_the_quota_is_lifted(home: Home) {
    let _operator = home.leader("a").await;
    let journey = home.migrates("refused", phases([approval(), prepare(&home)])).await;
    journey.holds_for("Approval").await;
    let quota = json!({ "metadata": { "name": "no-jobs" }, "spec": { "hard": { "count/jobs.batch": "0" } } });
    home.create::<ResourceQuota>(quota).await;
    home.has_quota("no-jobs").await;
    journey.is_approved().await;

    let status = journey.holds_for("JobRefused").await;
    assert!(status.message.contains("exceeded quota: no-jobs"), "{}", status.message);
    assert_eq!((status.state, home.times("prepare")), (State::Waiting, 0));

    let quotas: Api<ResourceQuota> = home.all();
    quotas.delete("no-jobs", &DeleteParams::default()).await.expect("the quota can be lifted");
    journey.comes_to(State::Succeeded).await;
    assert_eq!(home.times("prepare"), 1);
}
