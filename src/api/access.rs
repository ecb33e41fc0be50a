//! Who may do what: the operator's rights and those of the roles that people get, each with its reason.
//!
//! This one table is what the chart's roles are generated from, and what the operator asks the API server about itself.

use super::GROUP;

/// Rights on resources of one API group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The API group; empty is the core group.
    pub group: &'static str,
    /// Resources in it, with a subresource after a slash.
    pub resources: &'static [&'static str],
    /// What may be done with them.
    pub verbs: &'static [&'static str],
    /// Only the object of this name, where the role can know it.
    pub only: Option<Named>,
    /// What the right is needed for.
    pub why: &'static str,
}

/// An object whose name only the installation knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The Lease that the operator's replicas share.
    Lease,
}

/// What the operator does in the namespaces where Migrations are. It reads no Secret and no log.
pub const OPERATOR: &[Access] = &[
    on(GROUP, &["migrations"], &["get", "list", "watch"], "Follows what users ask for."),
    on(
        GROUP,
        &["migrations"],
        &["patch"],
        "Sets and lifts its finalizer, which is metadata; a policy of the chart refuses it any other change.",
    ),
    on(GROUP, &["migrations/status"], &["update", "patch"], "Remembers and shows how far each Migration is."),
    on(
        GROUP,
        &["migrations/finalizers"],
        &["update"],
        "Owns plans and Jobs in a Migration's name, where the API server asks for this right (OpenShift does).",
    ),
    on(
        "apps",
        &["controllerrevisions"],
        &["get", "list", "watch", "create", "patch", "delete"],
        "Keeps each frozen plan until its Migration has settled.",
    ),
    on("", &["configmaps"], &["get", "create", "patch", "delete"], "Reads scripts and hands Jobs their frozen copy."),
    on(
        "batch",
        &["jobs"],
        &["get", "list", "watch", "create", "patch", "delete"],
        "Runs scripts and users' Jobs, and takes their outcome.",
    ),
    on("", &["pods"], &["get", "list", "watch"], "Counts serving pods and reads how a Job's pod ended."),
    on("", &["pods/eviction"], &["create"], "Drains a side by evicting its pods, within their disruption budget."),
    on("", &["services"], &["get", "list", "watch", "patch"], "Moves traffic: one label of one selector."),
    on("discovery.k8s.io", &["endpointslices"], &["get", "list", "watch"], "Sees that traffic has moved."),
    on("events.k8s.io", &["events"], &["create", "patch"], "Says what it did."),
    on("", &["namespaces"], &["get"], "Sees that a namespace is being deleted, where no Job can be made any more."),
    on("", &["resourcequotas"], &["list"], "Says beforehand that a namespace has no room for a Job or its undo."),
];

/// What the operator does in its own namespace.
pub const OPERATOR_AT_HOME: &[Access] = &[
    on("coordination.k8s.io", &["leases"], &["create"], "Makes the Lease; a right to create knows no names."),
    Access {
        only: Some(Named::Lease),
        ..on(
            "coordination.k8s.io",
            &["leases"],
            &["get", "watch", "update", "patch"],
            "Agrees with the other replicas who acts.",
        )
    },
];

/// Adds to the role `view`: looks on.
pub const VIEWER: &[Access] =
    &[on(GROUP, &["migrations", "migrations/status"], &["get", "list", "watch"], "Sees what is going on.")];

/// Adds to the roles `edit` and `admin`: begins, changes and stops Migrations.
///
/// Whoever may create a Migration can in effect create Jobs and move Services in that namespace, which `edit` may
/// do anyway.
pub const EDITOR: &[Access] = &[
    on(
        GROUP,
        &["migrations"],
        &["create", "update", "patch", "delete", "deletecollection"],
        "Begins, changes and deletes Migrations, and through them creates Jobs and moves Services.",
    ),
    on(
        GROUP,
        &["migrations"],
        &[VERB_ABORT],
        "Sets the annotations `pause`, `abort`, `rollback` and `retry`; deleting a Migration does no less.",
    ),
];

/// The role of those who approve phases. It is part of no other role, `admin` included.
pub const APPROVER: &[Access] = &[
    on(GROUP, &["migrations", "migrations/status"], &["get", "list", "watch"], "Sees what is to be approved."),
    on(GROUP, &["migrations"], &["patch"], "Sets the annotations."),
    on(GROUP, &["migrations"], &[VERB_APPROVE, VERB_ABORT], "Approves phases, and stops what it approved."),
];

/// Virtual verb on Migrations: approving a phase, and taking the need for an approval away.
pub const VERB_APPROVE: &str = "approve";
/// Virtual verb on Migrations: pausing, aborting, rolling back and retrying.
pub const VERB_ABORT: &str = "abort";

const fn on(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Access {
    Access { group, resources, verbs, only: None, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_may_not_read_secrets_or_logs_nor_take_everything() {
        for access in OPERATOR.iter().chain(OPERATOR_AT_HOME) {
            for forbidden in ["secrets", "pods/log", "pods/exec", "*"] {
                assert!(!access.resources.contains(&forbidden), "{access:?}");
            }
            assert!(!access.verbs.contains(&"*") && access.group != "*", "{access:?}");
        }
    }

    #[test]
    fn only_the_approver_may_approve() {
        for roles in [OPERATOR, OPERATOR_AT_HOME, VIEWER, EDITOR] {
            assert!(roles.iter().all(|access| !access.verbs.contains(&VERB_APPROVE)));
        }
    }

    #[test]
    fn no_right_is_given_twice() {
        for roles in [OPERATOR, OPERATOR_AT_HOME, VIEWER, EDITOR, APPROVER] {
            let mut seen = Vec::new();
            for access in roles {
                for resource in access.resources {
                    for verb in access.verbs {
                        let right = (access.group, *resource, *verb);
                        assert!(!seen.contains(&right), "{right:?}");
                        seen.push(right);
                    }
                }
            }
        }
    }
}
