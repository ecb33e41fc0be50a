//! What the cluster won't let us do: it is told in its own words, and done once it may be.

use std::time::Duration;

use alongside::api::{PhaseState, State};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::Service,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    home::{Home, made},
    phases::{approval, bake, cut_over, phases, prepare},
    story::{Story, stories},
    support::wait::within,
};

/// How long the API server may take to know a policy.
const PATIENCE: Duration = Duration::from_mins(1);
/// What the policy says.
const SUNDAYS: &str = "selectors are changed on Sundays only";

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![
        a_flip_that_a_policy_denies_is_refused_before_the_first_effect,
        a_flip_that_a_policy_denies_later_is_told_and_follows_once_the_policy_goes,
    ]
}

async fn a_flip_that_a_policy_denies_is_refused_before_the_first_effect(home: Home) {
    let app = home.app("web").await;
    let policy = Policy::keeps_selectors(&home).await;
    let _operator = home.leader("a").await;
    let migration = home.migrates("to-v2", phases([prepare(&home), cut_over("web")])).await;
    let status = migration.holds_for("PreflightRefused").await;
    assert!(status.message.contains(SUNDAYS), "{}", status.message);
    assert!(status.phases.iter().all(|phase| phase.state == PhaseState::Pending), "{status:?}");
    assert_eq!((home.times("prepare"), app.mark().await.as_str()), (0, ""));
    policy.goes().await;
    migration.comes_to(State::Succeeded).await;
    app.serves("v2").await;
}

async fn a_flip_that_a_policy_denies_later_is_told_and_follows_once_the_policy_goes(home: Home) {
    let app = home.app("web").await;
    let operator = home.leader("a").await;
    let migration = home.migrates("to-v2", phases([approval(), cut_over("web"), bake("1s")])).await;
    migration.holds_for("Approval").await;
    let policy = Policy::keeps_selectors(&home).await;
    migration.is_approved().await;
    let status = migration.holds_for("WriteDenied").await;
    assert_eq!(status.state, State::Stalled);
    assert!(status.message.contains(SUNDAYS), "{}", status.message);
    assert!(!operator.log().reads().contains("has changed since it was looked at"), "nobody has changed the Service");
    assert_eq!(app.points_at().await, "v1");
    policy.goes().await;
    migration.comes_to(State::Succeeded).await;
    app.serves("v2").await;
}

/// A policy that lets nobody change a Service's selector.
struct Policy {
    home: Home,
}

impl Policy {
    /// Makes it, and waits until the API server goes by it.
    async fn keeps_selectors(home: &Home) -> Self {
        let here = json!({ "matchLabels": { "kubernetes.io/metadata.name": home.name() } });
        let services = json!({
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["services"],
        });
        let policy = made(json!({
            "metadata": { "name": home.name() },
            "spec": {
                "matchConstraints": { "namespaceSelector": here, "resourceRules": [services] },
                "validations": [{ "expression": "object.spec.selector == oldObject.spec.selector", "message": SUNDAYS }],
            },
        }));
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(home.client());
        policies.create(&PostParams::default(), &policy).await.expect("a policy can be made");
        let binding = made(json!({
            "metadata": { "name": home.name() },
            "spec": { "policyName": home.name(), "validationActions": ["Deny"] },
        }));
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(home.client());
        bindings.create(&PostParams::default(), &binding).await.expect("a policy can be bound");
        let policy = Self { home: home.clone() };
        within(PATIENCE, "the policy is known", async || match policy.denies().await {
            true => Ok(()),
            false => Err("not yet"),
        })
        .await;
        policy
    }

    async fn denies(&self) -> bool {
        let services: Api<Service> = self.home.all();
        let moved = Patch::Merge(json!({ "spec": { "selector": { "version": "v3" } } }));
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        services.patch("web", &dry_run, &moved).await.is_err()
    }

    /// Takes it away, and waits until the API server has forgotten it.
    async fn goes(self) {
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(self.home.client());
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(self.home.client());
        bindings.delete(self.home.name(), &DeleteParams::default()).await.expect("the binding can be deleted");
        policies.delete(self.home.name(), &DeleteParams::default()).await.expect("the policy can be deleted");
        within(PATIENCE, "the policy is forgotten", async || match self.denies().await {
            false => Ok(()),
            true => Err("not yet"),
        })
        .await;
    }
}
