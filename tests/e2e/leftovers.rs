//! What the cluster won't let us do: it is told in its own words, and done once it may be.

use std::time::Duration;

use alongside::api::{PhaseState, State};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::Service,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    home::{Home, made},
    journey::told,
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
        a_way_back_that_a_policy_has_come_to_deny_is_told_while_the_old_side_is_kept,
        an_undo_that_the_api_server_would_refuse_is_told_before_the_first_effect,
        a_job_whose_image_is_not_to_be_had_says_so,
        a_frozen_leaders_drain_restarts_no_pod_once_its_successor_has_rolled_back,
        a_drain_whose_time_is_over_restarts_no_pod_any_more,
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

async fn a_way_back_that_a_policy_has_come_to_deny_is_told_while_the_old_side_is_kept(home: Home) {
    let app = home.app("web").await;
    let _operator = home.leader("a").await;
    let migration = home.migrates("to-v2", phases([cut_over("web"), bake("1h")])).await;
    migration.holds_for("Baking").await;
    let policy = Policy::keeps_selectors(&home).await;
    // It is asked again within a minute, at the next look after that; this look comes when something happens to a pod.
    let told = within(Duration::from_mins(3), "the way back is not open", async || {
        app.is_annotated("v1", &home.stage().number().to_string()).await;
        let status = migration.status().await;
        let ready = status.conditions.into_iter().find(|condition| condition.type_ == "RollbackReady");
        ready.filter(|ready| ready.status == "False").ok_or("it is open")
    })
    .await;
    assert!(told.message.contains(SUNDAYS), "{}", told.message);
    policy.goes().await;
    migration.is_aborted().await;
    migration.comes_to(State::RolledBack).await;
    app.serves("v1").await;
}

async fn an_undo_that_the_api_server_would_refuse_is_told_before_the_first_effect(home: Home) {
    let _operator = home.leader("a").await;
    let mut prepare = prepare(&home);
    let container = &mut prepare["job"]["undo"]["spec"]["template"]["spec"]["containers"][0];
    container["resources"] = json!({ "requests": { "memory": "2Gi" }, "limits": { "memory": "1Gi" } });
    let migration = home.migrates("work", phases([prepare, approval()])).await;
    let status = migration.holds_for("PreflightRefused").await;
    let told = "spec.phases[0].job: a dry run of the undo Job was refused";
    assert!(status.message.contains(told), "{}", status.message);
    assert!(status.message.contains("must be less than or equal to memory limit"), "{}", status.message);
    assert_eq!(home.times("prepare"), 0);
}

async fn a_job_whose_image_is_not_to_be_had_says_so(home: Home) {
    let _operator = home.leader("a").await;
    let mut prepare = prepare(&home);
    prepare["job"]["template"]["spec"]["template"]["spec"]["containers"][0]["image"] = json!("localhost/nowhere:1");
    let migration = home.migrates("work", phases([prepare])).await;
    let status = migration.holds_for("JobStuck").await;
    assert!(status.message.contains("image localhost/nowhere:1 can't be pulled"), "{}", status.message);
    migration.is_aborted().await;
    migration.comes_to(State::RolledBack).await;
}

async fn a_frozen_leaders_drain_restarts_no_pod_once_its_successor_has_rolled_back(home: Home) {
    let app = home.app("web").await;
    app.is_replaced_by_a_deployment("v1").await;
    app.is_replaced_by_a_deployment("v2").await;
    let before = app.pods_of("v1").await;
    let budget = Budget::keeps_v1(&home).await;
    let frozen = home.leader("a").await;
    let migration = home.migrates("to-v2", phases([restarting(None), approval()])).await;
    migration.holds_for("Draining").await;
    frozen.freezes();
    migration.is_aborted().await;
    let _successor = home.leader("b").await;
    migration.comes_to(State::RolledBack).await;

    budget.goes().await;
    frozen.thaws();
    frozen.stands_by().await;
    time_to_evict(&home).await;
    assert_eq!(app.pods_of("v1").await, before);
    app.serves("v1").await;
}

async fn a_drain_whose_time_is_over_restarts_no_pod_any_more(home: Home) {
    let app = home.app("web").await;
    app.is_replaced_by_a_deployment("v1").await;
    let before = app.pods_of("v1").await;
    let budget = Budget::keeps_v1(&home).await;
    let _operator = home.leader("a").await;
    let migration = home.migrates("to-v2", phases([restarting(Some("2s")), approval()])).await;
    let status = migration.holds_for("Approval").await;
    assert_eq!(told(&status, "DrainCutShort"), 1);
    budget.goes().await;
    time_to_evict(&home).await;
    assert_eq!(app.pods_of("v1").await, before);
}

/// A cut-over that restarts the pods of the side that lost the traffic.
fn restarting(deadline: Option<&str>) -> Value {
    let mut cut_over = cut_over("web");
    cut_over["switch"]["drain"] = json!({ "restartPods": true, "deadline": deadline });
    cut_over
}

/// Lets more time pass than a drain under way takes to evict a pod that it may evict.
async fn time_to_evict(home: &Home) {
    for _ in 0..3 {
        home.stage().ledger().is_read().await;
    }
}

/// A disruption budget that lets nobody evict the pods of v1.
struct Budget(Api<PodDisruptionBudget>);

impl Budget {
    async fn keeps_v1(home: &Home) -> Self {
        let labels = json!({ "matchLabels": { "app": "web", "version": "v1" } });
        let spec = json!({ "maxUnavailable": 0, "selector": labels });
        home.create::<PodDisruptionBudget>(json!({ "metadata": { "name": "v1" }, "spec": spec })).await;
        Self(home.all())
    }

    async fn goes(self) {
        self.0.delete("v1", &DeleteParams::default()).await.expect("the budget can be deleted");
    }
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
        within(PATIENCE, "the policy is known", async || if policy.denies().await { Ok(()) } else { Err("not yet") })
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
        within(PATIENCE, "the policy is forgotten", async || if self.denies().await { Err("not yet") } else { Ok(()) })
            .await;
    }
}
