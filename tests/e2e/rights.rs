//! What the operator may not do, with the rights that the chart gives it.

use crate::{
    home::Home,
    stage::{OPERATOR, RELEASE},
    story::{Story, stories},
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![the_operator_reads_no_secrets_and_no_logs_and_enters_no_pod]
}

async fn the_operator_reads_no_secrets_and_no_logs_and_enters_no_pod(home: Home) {
    let operator = format!("--as=system:serviceaccount:{RELEASE}:{OPERATOR}");
    let may = |verb: &str, resource: &str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let subresource = format!("--subresource={subresource}");
        let args = ["auth", "can-i", verb, resource, &subresource, &operator, "--namespace", home.name()];
        home.stage().cluster().say("kubectl", &args, "").stdout.trim() == "yes"
    };
    for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
        assert!(!may(verb, "secrets"), "it may {verb} secrets");
    }
    let never = [
        ("get", "pods/log"),
        ("create", "pods/exec"),
        ("create", "pods/attach"),
        ("create", "pods/portforward"),
        ("create", "pods"),
        ("create", "serviceaccounts/token"),
        ("patch", "deployments.apps"),
        ("delete", "services"),
        ("delete", "migrations.alongside.dev"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("impersonate", "serviceaccounts"),
        ("approve", "migrations.alongside.dev"),
    ];
    for (verb, resource) in never {
        assert!(!may(verb, resource), "it may {verb} {resource}");
    }
    // The question is answered at all.
    assert!(may("patch", "services") && may("create", "pods/eviction"));
}
