//! `job`: runs any Job of the user's, and its undo.
//!
//! Promises kept here: a Job's outcome is read from what Kubernetes recorded of it, and a Job that somebody deleted is
//! seen for as long as our finalizer holds it. A user's log lines never get into status, nor a credential of the forms
//! that are known.

use k8s_openapi::api::{
    batch::v1::{Job, JobTemplateSpec},
    core::v1::{Pod, ResourceQuota},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
};

use super::{At, dry_run_finding, refuse};
use crate::{
    actions,
    api::{CHILD_FINALIZER, UID_LABEL},
    engine::{
        effect::{JobOrder, JobRole, job_name},
        plan,
        world::{Finding, JobState, JobView},
    },
    worker::verdict::{Verdict, cleared},
};

/// A Job from the user's template.
pub fn from_template(template: &JobTemplateSpec) -> Job {
    let mut job = Job { spec: template.spec.clone(), ..Job::default() };
    // A Job's pods may not have the default of other pods, `Always`; whoever leaves it out means the engine's tries.
    if let Some(pod) = job.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()) {
        pod.restart_policy.get_or_insert_with(|| "Never".to_owned());
        // What it writes to its termination message is meant for status; the end of its log is not.
        for container in pod.containers.iter_mut().chain(pod.init_containers.iter_mut().flatten()) {
            container.termination_message_policy = Some("File".to_owned());
        }
    }
    if let Some(metadata) = &template.metadata {
        job.metadata.labels.clone_from(&metadata.labels);
        job.metadata.annotations.clone_from(&metadata.annotations);
    }
    job
}

/// Whether a phase's Job and its undo will be accepted: whether the namespace's quota has room, and by a dry run of the
/// very Jobs. The store of a `sql` phase is asked by a Job of its own.
pub async fn preflight(at: At<'_>, client: &Client, image: &str) -> Vec<Finding> {
    let namespace = at.migration.namespace().unwrap_or_default();
    let path = format!("spec.phases[{}].{}", at.index, plan::action(at.phase).kind());
    let full = quota_findings(&path, client, &namespace).await;
    if !full.is_empty() {
        return full;
    }
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let params = PostParams { dry_run: true, field_manager: None };
    let mut findings = Vec::new();
    for (role, what) in [(JobRole::Do, "the Job"), (JobRole::Undo, "the undo Job")] {
        let Some(job) = actions::job_of(at, &rehearsed(at, role), image) else { continue };
        let tried = jobs.create(&params, &job).await;
        findings.extend(tried.err().and_then(|error| dry_run_finding(&path, what, &error)));
    }
    findings
}

/// A Job that is only tried out, under a name that no other has: tries count from 1.
fn rehearsed(at: At<'_>, role: JobRole) -> JobOrder {
    let (migration, phase) = (at.migration, at.phase.name.clone());
    let name = job_name(&migration.name_any(), &migration.uid().unwrap_or_default(), "", &phase, role, 1, 0);
    JobOrder { name, phase, role, attempt: 1, tries: 0, tombstone: false, orphan: false }
}

/// What the namespace's ResourceQuotas say against one more Job.
pub async fn quota_findings(path: &str, client: &Client, namespace: &str) -> Vec<Finding> {
    let api: Api<ResourceQuota> = Api::namespaced(client.clone(), namespace);
    let Ok(quotas) = api.list(&ListParams::default()).await else { return Vec::new() };
    let full = |quota: &ResourceQuota, what: &str| -> Option<Finding> {
        let status = quota.status.as_ref()?;
        let number = |map: &Option<std::collections::BTreeMap<String, _>>| -> Option<u64> {
            let quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = map.as_ref()?.get(what)?;
            quantity.0.parse().ok()
        };
        let (hard, used) = (number(&status.hard)?, number(&status.used)?);
        (used >= hard).then(|| {
            let name = quota.name_any();
            refuse(path, format!("ResourceQuota {name} has no room for one more of {what}: {used} of {hard} are used"))
        })
    };
    quotas
        .items
        .iter()
        .flat_map(|quota| ["count/jobs.batch", "pods"].into_iter().filter_map(move |what| full(quota, what)))
        .collect()
}

/// A Job as a decision sees it. `pods` are the Job's, where they have been read.
pub fn view(job: &Job, uid: &str, pods: &[Pod]) -> JobView {
    JobView {
        uid: job.uid().unwrap_or_default(),
        ours: job.labels().get(UID_LABEL).is_some_and(|label| label == uid),
        finalizer: job.finalizers().iter().any(|finalizer| finalizer == CHILD_FINALIZER),
        state: state(job, pods),
    }
}

/// Whether a Job's pods have been asked for and none of them is ready: why may be in the pods.
pub fn has_yet_to_run(job: &Job) -> bool {
    let suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    let ready = job.status.as_ref().and_then(|status| status.ready).unwrap_or(0);
    !suspended && ready == 0
}

/// Why no pod of a Job can run, if that is so. Free of what changes from moment to moment: it stands in status.
pub fn stuck(pods: &[Pod]) -> Option<String> {
    pods.iter().find_map(|pod| {
        let status = pod.status.as_ref()?;
        let scheduled = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled");
        if scheduled.is_some_and(|condition| condition.reason.as_deref() == Some("Unschedulable")) {
            return Some(format!("pod {} fits on no node", pod.name_any()));
        }
        let containers = [&status.init_container_statuses, &status.container_statuses];
        containers.into_iter().flatten().flatten().find_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            match waiting.reason.as_deref()? {
                "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
                    Some(format!("image {} can't be pulled", container.image))
                }
                "CreateContainerConfigError" | "CreateContainerError" => {
                    let message = waiting.message.as_deref().unwrap_or("it can't be made");
                    Some(format!("container {}: {}", container.name, cleared(message)))
                }
                _ => None,
            }
        })
    })
}

/// Whether a Job has ended, so that its pods are worth reading.
pub fn has_ended(job: &Job) -> bool {
    condition(job, "Complete").is_some() || condition(job, "Failed").is_some()
}

fn condition<'a>(job: &'a Job, type_: &str) -> Option<&'a k8s_openapi::api::batch::v1::JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

fn state(job: &Job, pods: &[Pod]) -> JobState {
    if condition(job, "Complete").is_some() {
        return JobState::Succeeded { message: said(pods) };
    }
    if let Some(failed) = condition(job, "Failed") {
        let reason = failed.reason.clone().unwrap_or_else(|| "Failed".to_owned());
        let (message, terminal) = match report(pods) {
            // What the container says tells more than that it was not started again.
            Some(Report { message, terminal, .. }) if reason == "BackoffLimitExceeded" => (message, terminal),
            Some(Report { message, terminal, .. }) => (format!("{reason}: {message}"), terminal),
            None => (format!("{reason}: {}", failed.message.clone().unwrap_or_default()), false),
        };
        return JobState::Failed { message, terminal };
    }
    if job.metadata.deletion_timestamp.is_some() {
        return deleted(job, pods);
    }
    if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        return suspended(job);
    }
    JobState::Active
}

/// A Job that is being deleted gets no more pods and no more conditions: what came of it is in its pods alone, and those
/// that run are the garbage collector's to end.
fn deleted(job: &Job, pods: &[Pod]) -> JobState {
    if !pods.iter().all(has_stopped) {
        return JobState::Active;
    }
    let succeeded = pods.iter().filter(|pod| phase(pod) == Some("Succeeded")).count();
    let wanted = job.spec.as_ref().and_then(|spec| spec.completions).unwrap_or(1);
    if usize::try_from(wanted).is_ok_and(|wanted| succeeded >= wanted) {
        return JobState::Succeeded { message: said(pods) };
    }
    JobState::Failed { message: "the Job was deleted before it had ended".to_owned(), terminal: false }
}

/// A Job that was made suspended has no finalizer, for nothing can come of it. One that has was stopped in its work; it
/// has ended once the Job controller says that no pod of it is left.
fn suspended(job: &Job) -> JobState {
    if job.finalizers().iter().all(|finalizer| finalizer != CHILD_FINALIZER) {
        return JobState::Tombstone;
    }
    let left = job.status.as_ref().map_or(0, |status| status.active.unwrap_or(0) + status.terminating.unwrap_or(0));
    if condition(job, "Suspended").is_none() || left > 0 {
        return JobState::Active;
    }
    JobState::Failed { message: "the Job was stopped before it had ended".to_owned(), terminal: true }
}

fn has_stopped(pod: &Pod) -> bool {
    matches!(phase(pod), Some("Succeeded" | "Failed"))
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref().and_then(|status| status.phase.as_deref())
}

/// What came of a Job's last container to end.
struct Report {
    /// Its termination message, and before it, if it failed, by what and with which exit code.
    message: String,
    /// Its termination message alone.
    said: String,
    /// Whether trying again can't help.
    terminal: bool,
}

fn report(pods: &[Pod]) -> Option<Report> {
    let ended = pods.iter().flat_map(|pod| {
        let status = pod.status.as_ref();
        let containers = status.and_then(|status| status.container_statuses.as_ref());
        containers.into_iter().flatten().filter_map(|container| {
            let state = container.state.as_ref()?.terminated.as_ref();
            state.or_else(|| container.last_state.as_ref()?.terminated.as_ref())
        })
    });
    let last = ended.max_by_key(|terminated| terminated.finished_at.as_ref().map(|at| at.0))?;
    let said = last.message.as_deref().unwrap_or_default().trim();
    if let Ok(verdict) = serde_json::from_str::<Verdict>(said) {
        // Anyone's Job can report in the form of our workers.
        let message = cleared(&verdict.message);
        return Some(Report { said: message.clone(), message, terminal: verdict.is_terminal() });
    }
    let exit = format!("{}, exit code {}", last.reason.as_deref().unwrap_or("Error"), last.exit_code);
    let said = cleared(said);
    let message = if said.is_empty() { exit } else { format!("{exit}: {said}") };
    Some(Report { message, said, terminal: false })
}

fn said(pods: &[Pod]) -> String {
    report(pods).map(|report| report.said).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reported(message: &str) -> [Pod; 1] {
        let terminated = json!({ "exitCode": 1, "reason": "Error", "message": message });
        let container = json!({
            "name": "work", "image": "tool", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": terminated },
        });
        [serde_json::from_value(json!({ "status": { "containerStatuses": [container] } })).unwrap()]
    }

    #[test]
    fn what_a_job_says_is_told_without_the_credentials_in_it() {
        let said = |message| report(&reported(message)).unwrap().message;
        assert_eq!(said("no table item"), "Error, exit code 1: no table item");
        assert_eq!(
            said("dial postgres://app:s3cret@db:5432/shop: refused"),
            "Error, exit code 1: dial postgres://***@db:5432/shop: refused"
        );
        assert_eq!(
            said("dsn host=db password=s3cret user=app"),
            "Error, exit code 1: dsn host=db password=*** user=app"
        );
        let verdict = Verdict::new(crate::worker::verdict::Outcome::Failed, "at mysql://app:s3cret@db/shop");
        assert_eq!(said(&verdict.to_json()), "at mysql://***@db/shop");
    }

    #[test]
    fn the_end_of_a_users_log_is_not_asked_for() {
        let container = |name| json!({ "name": name, "terminationMessagePolicy": "FallbackToLogsOnError" });
        let pod = json!({ "containers": [container("work")], "initContainers": [container("wait")] });
        let template = serde_json::from_value(json!({ "spec": { "template": { "spec": pod } } })).unwrap();
        let pod = from_template(&template).spec.unwrap().template.spec.unwrap();
        let policies = pod.containers.iter().chain(pod.init_containers.iter().flatten());
        assert!(policies.into_iter().all(|c| c.termination_message_policy.as_deref() == Some("File")));
    }
}
