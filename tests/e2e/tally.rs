//! What a migration leaves behind once it has ended: nothing that runs, nothing that is held.

use alongside::api::{CHILD_FINALIZER, UID_LABEL};
use k8s_openapi::api::{apps::v1::ControllerRevision, batch::v1::Job, core::v1::Pod};
use kube::{ResourceExt, api::ListParams};

use crate::{app::App, home::Home};

/// Nothing is left here but what tells the story: no Job that runs, no child that is held, no claim on the Service.
pub async fn nothing_is_left(home: &Home, app: &App) {
    let ours = ListParams::default().labels(UID_LABEL);
    let held = |finalizers: &[String]| finalizers.iter().any(|finalizer| finalizer == CHILD_FINALIZER);
    for job in home.all::<Job>().list(&ours).await.expect("Jobs can be listed") {
        assert!(!held(job.finalizers()), "Job {} is held", job.name_any());
        let active = job.status.as_ref().and_then(|status| status.active).unwrap_or(0);
        assert_eq!(active, 0, "Job {} runs", job.name_any());
    }
    for plan in home.all::<ControllerRevision>().list(&ours).await.expect("plans can be listed") {
        assert!(!held(plan.finalizers()), "plan {} is held", plan.name_any());
    }
    for pod in home.all::<Pod>().list(&ours).await.expect("pods can be listed") {
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        assert!(["Succeeded", "Failed"].contains(&phase.as_str()), "pod {} is {phase}", pod.name_any());
    }
    let mark = app.mark().await;
    assert!(mark.ends_with("/released"), "the Service carries the mark {mark}");
}
