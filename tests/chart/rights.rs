//! The roles that the chart makes.

use alongside::api::access::{self, Access, Named};
use serde_json::{Value, json};

use crate::render::{Rendered, render};

/// A role's rules, as the table in `src/api/access.rs` has them.
fn rules(table: &[Access]) -> Value {
    let rule = |access: &Access| {
        let mut rule = json!({ "apiGroups": [access.group], "resources": access.resources, "verbs": access.verbs });
        match access.only {
            Some(Named::Lease) => rule["resourceNames"] = json!(["alongside"]),
            None => {}
        }
        rule
    };
    table.iter().map(rule).collect()
}

fn operators_namespaces(rendered: &Rendered) -> Vec<&str> {
    let roles =
        rendered.0.iter().filter(|object| object["kind"] == "Role" && object["metadata"]["name"] == "alongside");
    roles.filter_map(|role| role["metadata"]["namespace"].as_str()).collect()
}

#[test]
fn the_operator_has_the_rights_of_the_table_everywhere() {
    let rendered = render("{}");
    assert_eq!(rendered.object("ClusterRole", "alongside")["rules"], rules(access::OPERATOR));
    let binding = rendered.object("ClusterRoleBinding", "alongside");
    assert_eq!(
        binding["subjects"],
        json!([{ "kind": "ServiceAccount", "name": "alongside", "namespace": "alongside" }])
    );
    assert_eq!(operators_namespaces(&rendered), Vec::<&str>::new());
}

#[test]
fn with_a_namespace_it_has_them_there_and_nowhere_else() {
    let rendered = render("{namespaces: [shop]}");
    assert_eq!(operators_namespaces(&rendered), ["shop"]);
    assert_eq!(rendered.object("Role", "alongside")["rules"], rules(access::OPERATOR));
    assert!(rendered.find("ClusterRole", "alongside").is_none());
    assert!(!rendered.has_kind("ClusterRoleBinding"));
}

#[test]
fn its_own_namespace_it_needs_for_the_lease_alone() {
    for values in ["{}", "{namespaces: [shop]}"] {
        let rendered = render(values);
        let role = rendered.object("Role", "alongside-home");
        assert_eq!(role["metadata"]["namespace"], "alongside");
        assert_eq!(role["rules"], rules(access::OPERATOR_AT_HOME));
        assert_eq!(rendered.object("RoleBinding", "alongside-home")["metadata"]["namespace"], "alongside");
    }
}

#[test]
fn view_and_edit_grow_by_what_is_theirs_and_approving_is_in_neither() {
    let rendered = render("{}");
    let aggregated = |name: &str| {
        let labels = &rendered.object("ClusterRole", name)["metadata"]["labels"];
        let roles = ["view", "edit", "admin"].into_iter();
        roles
            .filter(|role| labels[format!("rbac.authorization.k8s.io/aggregate-to-{role}")] == "true")
            .collect::<Vec<_>>()
    };
    assert_eq!(aggregated("alongside-view"), ["view", "edit", "admin"]);
    assert_eq!(aggregated("alongside-edit"), ["edit", "admin"]);
    assert_eq!(aggregated("alongside-approver"), Vec::<&str>::new());
    for (name, table) in [("view", access::VIEWER), ("edit", access::EDITOR), ("approver", access::APPROVER)] {
        assert_eq!(rendered.object("ClusterRole", &format!("alongside-{name}"))["rules"], rules(table));
    }
}

#[test]
fn policies_speak_of_the_very_account_that_runs() {
    let rendered = render("{serviceAccount: {name: mover}, admissionPolicies: {statusWriters: [backup]}}");
    assert_eq!(rendered.pod()["spec"]["serviceAccountName"], "mover");
    let status = rendered.object("ValidatingAdmissionPolicy", "alongside-status");
    let expression = status["spec"]["validations"][0]["expression"].as_str().unwrap();
    assert_eq!(expression, r#"request.userInfo.username in ["system:serviceaccount:alongside:mover","backup"]"#);
    let operator = rendered.object("ValidatingAdmissionPolicy", "alongside-operator");
    let condition = operator["spec"]["matchConditions"][0]["expression"].as_str().unwrap();
    assert_eq!(condition, r#"request.userInfo.username == "system:serviceaccount:alongside:mover""#);
    let flow = rendered.object("FlowSchema", "alongside");
    assert_eq!(flow["spec"]["rules"][0]["subjects"][0]["serviceAccount"]["name"], "mover");
}

#[test]
fn policies_are_bound_to_the_releases_namespace() {
    let rendered = render("{namespaces: [shop]}");
    let bindings: Vec<_> =
        rendered.0.iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicyBinding").collect();
    assert_eq!(bindings.len(), 4);
    for binding in bindings {
        let selector = &binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(selector["key"], "kubernetes.io/metadata.name");
        assert_eq!(selector["values"], json!(["shop"]));
    }
    assert_eq!(
        render("{}").object("ValidatingAdmissionPolicyBinding", "alongside-verbs")["spec"]["matchResources"],
        Value::Null
    );
}
