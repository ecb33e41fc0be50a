//! `switch`: moves the selector of one or several Services, and back.
//!
//! Promise kept here: no write to a Service happens unless the Service is exactly as the decision saw it.

use std::collections::BTreeMap;

use json_patch::{
    AddOperation, Patch as JsonPatch, PatchOperation, ReplaceOperation, TestOperation, jsonptr::PointerBuf,
};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::Value;

use super::{At, dry_run_finding, is_for_good, refuse, wait, warn};
use crate::{
    api::{EPOCH_ANNOTATION, FIELD_MANAGER, SwitchAction},
    engine::{
        effect::ServicePatch,
        mark::{Mark, NoMark},
        world::{Finding, ServiceView, Side, Weight},
    },
};

/// Why a Service was not written to.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The Service is not as expected; look again.
    #[error("Service {service} has changed since it was looked at")]
    Refused {
        /// Name of the Service.
        service: String,
    },
    /// The Service isn't there.
    #[error("Service {service} does not exist")]
    Gone {
        /// Name of the Service.
        service: String,
    },
    /// The Service is as expected, and still the API server won't have the write: a policy, a webhook or our rights.
    #[error("the API server refuses to change Service {service}: {why}")]
    Denied {
        /// Name of the Service.
        service: String,
        /// What it said.
        why: String,
    },
    /// The API server did not do it, or did not say so.
    #[error("could not write to Service {service}")]
    Api {
        /// Name of the Service.
        service: String,
        /// What it said.
        #[source]
        source: kube::Error,
    },
}

/// Writes to a Service by compare-and-swap on its mark and selector.
///
/// # Errors
/// `Refused` where the Service isn't as expected and `Denied` where nobody may write so; nothing has been written then.
/// `Api` where it is unknown whether the write happened: the next look tells.
pub async fn write(client: &Client, namespace: &str, patch: &ServicePatch) -> Result<(), PatchError> {
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = || patch.service.clone();
    let mut operations = Vec::new();
    let mut version = None;
    if patch.expect_mark.is_none() {
        // JSON Patch can't test that something is absent: the version that was looked at stands in for it.
        let live = api.get(&patch.service).await.map_err(|source| error(patch, source))?;
        if live.annotations().contains_key(EPOCH_ANNOTATION) {
            return Err(PatchError::Refused { service: service() });
        }
        version = live.resource_version();
        operations.push(test(&["metadata", "resourceVersion"], version.clone().unwrap_or_default()));
        if live.metadata.annotations.is_none() {
            operations.push(add(&["metadata", "annotations"], Value::Object(serde_json::Map::new())));
        }
    }
    operations.extend(operations_of(patch));
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let body = Patch::Json::<()>(JsonPatch(operations));
    match api.patch(&patch.service, &params, &body).await {
        Ok(_) => Ok(()),
        // A `test` that fails is answered by 422, and so is what a policy denies: the Service itself tells them apart.
        Err(kube::Error::Api(status)) if status.code == 422 => {
            let live = api.get(&patch.service).await.map_err(|source| error(patch, source))?;
            if is_as_expected(&live, patch, version.as_deref()) {
                Err(PatchError::Denied { service: service(), why: status.message })
            } else {
                Err(PatchError::Refused { service: service() })
            }
        }
        Err(source) => Err(error(patch, source)),
    }
}

/// Whether every `test` of a write would hold. `version` is the one that stood in for a mark that isn't there.
fn is_as_expected(live: &Service, patch: &ServicePatch, version: Option<&str>) -> bool {
    let mark = live.annotations().get(EPOCH_ANNOTATION).cloned();
    let selector = live.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    mark == patch.expect_mark.as_ref().map(ToString::to_string)
        && version.is_none_or(|version| live.resource_version().as_deref() == Some(version))
        && patch.expect_selector.iter().all(|(key, value)| selector.and_then(|all| all.get(key)) == Some(value))
}

fn error(patch: &ServicePatch, source: kube::Error) -> PatchError {
    let service = patch.service.clone();
    match &source {
        kube::Error::Api(status) if status.code == 404 => PatchError::Gone { service },
        kube::Error::Api(status) if status.code == 409 => PatchError::Refused { service },
        kube::Error::Api(status) if is_for_good(status.code) => {
            PatchError::Denied { service, why: status.message.clone() }
        }
        _ => PatchError::Api { service, source },
    }
}

fn operations_of(patch: &ServicePatch) -> Vec<PatchOperation> {
    let mut operations = Vec::new();
    if let Some(mark) = &patch.expect_mark {
        operations.push(test(&["metadata", "annotations", EPOCH_ANNOTATION], mark.to_string()));
    }
    for (key, value) in &patch.expect_selector {
        operations.push(test(&["spec", "selector", key], value.clone()));
    }
    for (key, value) in &patch.selector {
        operations.push(PatchOperation::Replace(ReplaceOperation {
            path: pointer(&["spec", "selector", key]),
            value: Value::String(value.clone()),
        }));
    }
    operations.push(add(&["metadata", "annotations", EPOCH_ANNOTATION], Value::String(patch.mark.to_string())));
    operations
}

fn test(path: &[&str], value: String) -> PatchOperation {
    PatchOperation::Test(TestOperation { path: pointer(path), value: Value::String(value) })
}

fn add(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: pointer(path), value })
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}

/// A Service and the pods behind it, as a decision sees them.
pub fn view(
    service: &Service,
    pods: &[impl AsRef<Pod>],
    slices: &[impl AsRef<EndpointSlice>],
    from: &BTreeMap<String, String>,
    to: &BTreeMap<String, String>,
) -> ServiceView {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let (mark, scribble) = match service.annotations().get(EPOCH_ANNOTATION).map(|text| text.parse::<Mark>()) {
        None => (None, None),
        Some(Ok(mark)) => (Some(mark), None),
        Some(Err(NoMark(text))) => (None, Some(text)),
    };
    let labels_of = |side: &BTreeMap<String, String>| {
        let mut labels = selector.clone();
        labels.extend(side.clone());
        labels
    };
    let (old, new) = (labels_of(from), labels_of(to));
    let serving = |labels: &BTreeMap<String, String>| -> u32 {
        let count = pods.iter().filter(|pod| matches(pod.as_ref(), labels) && is_serving(pod.as_ref())).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    ServiceView {
        uid: service.uid().unwrap_or_default(),
        mark,
        scribble,
        from_serving: serving(&old),
        to_serving: serving(&new),
        confirmed: confirmed(pods, slices, &old, &new),
        selector,
    }
}

fn matches(pod: &Pod, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
}

/// Ready, has an address and isn't terminating. `publishNotReadyAddresses` makes every endpoint look ready, so the
/// pod's own condition is what counts.
pub fn is_serving(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none() && status.pod_ip.is_some()
}

/// Whose pods the EndpointSlices hold as serving, if they are all of one side and there is at least one.
fn confirmed(
    pods: &[impl AsRef<Pod>],
    slices: &[impl AsRef<EndpointSlice>],
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) -> Option<Side> {
    let mut side = None;
    for slice in slices {
        for endpoint in &slice.as_ref().endpoints {
            let serving = endpoint.conditions.as_ref().is_none_or(|c| c.serving.or(c.ready).unwrap_or(true));
            let terminating = endpoint.conditions.as_ref().and_then(|c| c.terminating).unwrap_or(false);
            if !serving || terminating {
                continue;
            }
            let name = endpoint.target_ref.as_ref().and_then(|target| target.name.clone())?;
            let pod = pods.iter().map(AsRef::as_ref).find(|pod| pod.name_any() == name)?;
            let this = match (matches(pod, old), matches(pod, new)) {
                (true, false) => Side::From,
                (false, true) => Side::To,
                (true, true) | (false, false) => return None,
            };
            if side.is_some_and(|side| side != this) {
                return None;
            }
            side = Some(this);
        }
    }
    side
}

/// Asks whether each Service is of a kind that can be switched, and whether we may.
pub async fn preflight(at: At<'_>, switch: &SwitchAction, client: &Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    let namespace = at.migration.namespace().unwrap_or_default();
    let api: Api<Service> = Api::namespaced(client.clone(), &namespace);
    for name in switch.service_names() {
        let path = format!("spec.phases[{}].switch", at.index);
        match api.get_opt(name).await {
            Ok(None) => findings.push(refuse(&path, format!("Service {name} does not exist in namespace {namespace}"))),
            Err(error) => findings.push(wait(&path, format!("Service {name} could not be read: {error}"))),
            Ok(Some(service)) => {
                findings.extend(kind_findings(&path, &service, switch));
                findings.extend(write_findings(&path, &api, client, &namespace, name, switch).await);
            }
        }
    }
    findings
}

/// Why the API server would not take a Service's way back, by a dry run of it. `None` too where it gave no answer.
pub async fn why_not_back(
    client: &Client,
    namespace: &str,
    service: &str,
    from: &BTreeMap<String, String>,
) -> Option<String> {
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    let error = dry_run(&api, service, from).await.err()?;
    let finding = dry_run_finding("", "the way back", &error)?;
    match finding.weight {
        Weight::Refuse => Some(finding.message),
        Weight::Wait | Weight::Warn => None,
    }
}

/// Tries a change of the selector out: admission sees it, and nothing is stored.
async fn dry_run(api: &Api<Service>, service: &str, to: &BTreeMap<String, String>) -> Result<Service, kube::Error> {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), dry_run: true, ..PatchParams::default() };
    let probe = serde_json::json!({
        "metadata": { "annotations": { EPOCH_ANNOTATION: "dry-run" } },
        "spec": { "selector": to },
    });
    api.patch(service, &params, &Patch::Merge(probe)).await
}

/// What a Service's own spec says against switching it.
fn kind_findings(path: &str, service: &Service, switch: &SwitchAction) -> Vec<Finding> {
    let name = service.name_any();
    let mut findings = Vec::new();
    let spec = service.spec.clone().unwrap_or_default();
    let selector = spec.selector.unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        findings.push(refuse(path, format!("Service {name} is an ExternalName: it has no pods to switch between")));
        return findings;
    }
    if selector.is_empty() {
        findings.push(refuse(path, format!("Service {name} has no selector: someone else manages its endpoints")));
        return findings;
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        let why = "clients hold on to the pods' own addresses, and a flip would not move them";
        findings.push(refuse(path, format!("Service {name} is headless: {why}; use a Service with a cluster IP")));
    }
    for key in selector.keys() {
        // These hold the hash of one revision: whoever owns them puts every change of the selector back.
        if ["rollouts-pod-template-hash", "pod-template-hash", "flagger.app/"].iter().any(|mark| key.starts_with(mark))
        {
            findings.push(refuse(path, format!("Service {name} is managed by another tool: its selector has {key}")));
        }
    }
    for (key, value) in &switch.from {
        match selector.get(key) {
            Some(seen) if seen == value || Some(seen) == switch.to.get(key) => {}
            Some(seen) => findings.push(refuse(
                path,
                format!("Service {name} selects {key}: {seen}, which is neither `from` ({value}) nor `to`"),
            )),
            None => findings.push(refuse(
                path,
                format!(
                    "Service {name} does not select by {key}, so it would serve both sides at once; run: kubectl patch \
                     service {name} -p '{{\"spec\":{{\"selector\":{{\"{key}\":\"{value}\"}}}}}}'"
                ),
            )),
        }
    }
    if spec.internal_traffic_policy.as_deref() == Some("Local")
        || spec.external_traffic_policy.as_deref() == Some("Local")
    {
        let what = "needs a pod of the new side on each node that has one of the old side";
        findings.push(warn(path, format!("Service {name} has a traffic policy of Local: it {what}")));
    }
    findings.extend(gitops_finding(path, service));
    findings
}

/// Whether another manager owns the whole selector and would put a flip back (design section 7).
fn gitops_finding(path: &str, service: &Service) -> Option<Finding> {
    let managers = service.metadata.managed_fields.iter().flatten();
    let owner = managers.filter(|entry| entry.operation.as_deref() == Some("Apply")).find_map(|entry| {
        let fields = &entry.fields_v1.as_ref()?.0;
        fields.get("f:spec")?.get("f:selector").is_some().then(|| entry.manager.clone()).flatten()
    })?;
    let name = service.name_any();
    let entry =
        "ignoreDifferences: [{kind: Service, managedFieldsManagers: [alongside]}] with RespectIgnoreDifferences=true";
    Some(warn(
        path,
        format!("{owner} applies the selector of Service {name} and may put a flip back; in Argo CD add {entry}"),
    ))
}

/// Whether we may write to the Service: by access review, and by a dry run of the very flip, which admission sees too.
async fn write_findings(
    path: &str,
    api: &Api<Service>,
    client: &Client,
    namespace: &str,
    name: &str,
    switch: &SwitchAction,
) -> Vec<Finding> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some("patch".to_owned()),
                version: Some("v1".to_owned()),
                resource: Some("services".to_owned()),
                name: Some(name.to_owned()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    match reviews.create(&PostParams::default(), &review).await {
        Err(error) => return vec![wait(path, format!("could not ask whether Service {name} may be patched: {error}"))],
        Ok(answer) if !answer.status.as_ref().is_some_and(|status| status.allowed) => {
            let why = "the operator may not patch it; grant `patch` on services in this namespace";
            return vec![refuse(path, format!("Service {name}: {why}"))];
        }
        Ok(_) => {}
    }
    let probed = dry_run(api, name, &switch.to).await;
    probed
        .err()
        .and_then(|error| dry_run_finding(path, &format!("moving Service {name}"), &error))
        .into_iter()
        .collect()
}
