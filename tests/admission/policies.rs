//! The chart's policies: who may approve, abort, pause, and write what the operator remembers.
//!
//! The release under test is limited to the namespace `policed`, so that the other tests can write status as they like.

use std::{sync::LazyLock, time::Duration};

use alongside::api::Migration;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    server::{CLUSTER, migration, words},
    support::wait::within,
};

const NAMESPACE: &str = "policed";
/// May approve, by the ClusterRole `alongside-approver`.
const ANNA: &str = "anna@example.com";
/// Has the role `edit`.
const EMIL: &str = "emil@example.com";
/// May patch Migrations and has neither virtual verb.
const PAUL: &str = "paul@example.com";
/// A backup tool that the chart's values let write status.
const BACKUP: &str = "system:serviceaccount:backup:restore";
const OPERATOR: &str = "system:serviceaccount:alongside:alongside";

/// Two phases that ask, one by its own word and one as it can't be taken back, and two that don't.
const SPEC: &str = "
phases:
- {name: prepare, observe: {query: q, max: 1, for: 1m}}
- {name: cut-over, approval: Required, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
- {name: look, observe: {query: q, max: 1, for: 1m}}
- {name: contract, pointOfNoReturn: true, observe: {query: q, max: 1, for: 1m}}";

/// Installs the chart and gives people their roles; returns once the policies are in force.
static POLICIES: LazyLock<()> = LazyLock::new(|| {
    CLUSTER.kubectl(&["create", "namespace", NAMESPACE]);
    let installed = CLUSTER.say(
        "helm",
        &[
            "install",
            "alongside",
            "charts/alongside",
            "--namespace=alongside",
            "--create-namespace",
            "--set=crds.install=false",
            &format!("--set=namespaces={{{NAMESPACE}}}"),
            &format!("--set=admissionPolicies.statusWriters={{{BACKUP}}}"),
        ],
        "",
    );
    assert!(installed.success, "{}", installed.stderr);
    CLUSTER.apply(&format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: patch, namespace: {NAMESPACE}}}, rules: [\
         {{apiGroups: [alongside.dev], resources: [migrations, migrations/status], verbs: [create, get, patch, update]}}]}}"
    ));
    let bindings = [
        ("anna-approves", ANNA, "--clusterrole=alongside-approver"),
        ("anna-edits", ANNA, "--clusterrole=edit"),
        ("emil-edits", EMIL, "--clusterrole=edit"),
        ("paul-patches", PAUL, "--role=patch"),
        ("backup-patches", BACKUP, "--role=patch"),
    ];
    for (name, user, role) in bindings {
        let user = format!("--user={user}");
        CLUSTER.kubectl(&["create", "rolebinding", name, role, &user, "--namespace", NAMESPACE]);
    }
    CLUSTER.run(async || {
        // Policies, bindings and the aggregation of roles are all taken up some time after they are written.
        let (emil, operator) = (Person::new(EMIL), Person::new(OPERATOR));
        in_force("verbs", async |name| emil.annotates(name, approval(EMIL)).await).await;
        in_force("approvals", async |name| emil.writes_phases(name, &SPEC.replace("approval: Required, ", "")).await)
            .await;
        in_force("status", async |name| Person::new(PAUL).writes_status(name).await).await;
        in_force("operator", async |name| {
            operator.patches(name, json!({ "metadata": { "labels": { "a": "b" } } })).await
        })
        .await;
    });
});

/// Waits until what a policy forbids is refused by it. Each try is at a migration of its own: what got through before the
/// policy was taken up is no change the next time, and is let through for ever.
async fn in_force(policy: &str, forbidden: impl AsyncFn(&str) -> Result<(), String>) {
    let denied = format!("ValidatingAdmissionPolicy 'alongside-{policy}'");
    let mut tries = 0;
    within(Duration::from_mins(2), &format!("the policy {policy} is in force"), async || {
        tries += 1;
        let name = format!("{policy}-{tries}");
        Person::new(EMIL).creates(&name).await;
        match forbidden(&name).await {
            Err(said) if said.starts_with(&denied) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Someone who talks to the API server under a name of their own.
struct Person {
    name: &'static str,
    migrations: Api<Migration>,
}

impl Person {
    fn new(name: &'static str) -> Self {
        let client: Client = CLUSTER.client_as(name, &["system:authenticated"]);
        Self { name, migrations: Api::namespaced(client, NAMESPACE) }
    }

    /// Creates a migration of [`SPEC`], trying again for as long as the person's role isn't there yet.
    async fn creates(&self, name: &str) {
        within(Duration::from_mins(2), "the role holds the right to create", async || {
            self.creates_with(name, json!({})).await
        })
        .await;
    }

    async fn creates_with(&self, name: &str, annotations: Value) -> Result<(), String> {
        let mut object: Migration = serde_saphyr::from_str(&migration(name, SPEC)).expect("the types read it");
        object.metadata.annotations = serde_json::from_value(annotations).expect("annotations are texts");
        self.migrations.create(&PostParams::default(), &object).await.map(drop).map_err(|error| words(&error))
    }

    /// Merges annotations, as `kubectl annotate` does.
    async fn annotates(&self, name: &str, annotations: Value) -> Result<(), String> {
        self.patches(name, json!({ "metadata": { "annotations": annotations } })).await
    }

    async fn patches(&self, name: &str, patch: Value) -> Result<(), String> {
        let patched = self.migrations.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map(drop).map_err(|error| words(&error))
    }

    /// Applies by server-side apply, as Argo CD may be told to do.
    async fn applies(&self, name: &str, annotations: Value) -> Result<(), String> {
        let mut object: Value = serde_saphyr::from_str(&migration(name, SPEC)).expect("the specification is YAML");
        object["metadata"]["annotations"] = annotations;
        let params = PatchParams::apply(self.name).force();
        self.migrations.patch(name, &params, &Patch::Apply(object)).await.map(drop).map_err(|error| words(&error))
    }

    async fn writes_phases(&self, name: &str, spec: &str) -> Result<(), String> {
        let object: Value = serde_saphyr::from_str(&migration(name, spec)).expect("the specification is YAML");
        self.patches(name, json!({ "spec": object["spec"] })).await
    }

    async fn writes_status(&self, name: &str) -> Result<(), String> {
        let status = Patch::Merge(json!({ "status": { "message": self.name } }));
        let written = self.migrations.patch_status(name, &PatchParams::default(), &status).await;
        written.map(drop).map_err(|error| words(&error))
    }
}

/// A story told in the policed namespace.
fn policed(story: impl AsyncFnOnce() + Send) {
    LazyLock::force(&POLICIES);
    CLUSTER.run(story);
}

fn refused_by(policy: &str, said: &str) -> Result<(), String> {
    Err(format!(
        "ValidatingAdmissionPolicy 'alongside-{policy}' with binding 'alongside-{policy}' denied request: {said}"
    ))
}

fn approval(by: &str) -> Value {
    json!({ "alongside.dev/approve": "cut-over@1234/1", "alongside.dev/approved-by": by })
}

fn may_not_approve(user: &str) -> Result<(), String> {
    refused_by(
        "verbs",
        &format!(
            "'{user}' may not approve: it takes the verb 'approve' on migrations.alongside.dev, as the ClusterRole \
             alongside-approver gives it"
        ),
    )
}

fn writes_who(user: &str) -> Result<(), String> {
    refused_by(
        "verbs",
        &format!("beside 'alongside.dev/approve' write who approves: 'alongside.dev/approved-by: {user}'"),
    )
}

#[test]
fn who_has_the_right_approves_under_their_own_name() {
    policed(async || {
        Person::new(EMIL).creates("own-name").await;
        assert_eq!(Person::new(ANNA).annotates("own-name", approval(ANNA)).await, Ok(()));
    });
}

#[test]
fn nobody_approves_under_another_name_or_none() {
    policed(async || {
        let anna = Person::new(ANNA);
        anna.creates("other-name").await;
        let unsigned = json!({ "alongside.dev/approve": "cut-over@1234/1" });
        assert_eq!(anna.annotates("other-name", approval(EMIL)).await, writes_who(ANNA));
        assert_eq!(anna.annotates("other-name", unsigned).await, writes_who(ANNA));
        assert_eq!(anna.applies("other-name", approval(EMIL)).await, writes_who(ANNA));
    });
}

#[test]
fn without_the_right_nobody_approves_in_any_way_of_writing() {
    policed(async || {
        let emil = Person::new(EMIL);
        emil.creates("without-right").await;
        assert_eq!(emil.annotates("without-right", approval(EMIL)).await, may_not_approve(EMIL));
        assert_eq!(emil.applies("without-right", approval(EMIL)).await, may_not_approve(EMIL));
        assert_eq!(emil.creates_with("without-right-2", approval(EMIL)).await, may_not_approve(EMIL));
        assert_eq!(emil.applies("without-right-3", approval(EMIL)).await, may_not_approve(EMIL));
        let mut whole = emil.migrations.get("without-right").await.unwrap();
        whole.metadata.annotations = serde_json::from_value(approval(EMIL)).unwrap();
        let replaced = emil.migrations.replace("without-right", &PostParams::default(), &whole).await;
        assert_eq!(replaced.map(drop).map_err(|error| words(&error)), may_not_approve(EMIL));
    });
}

#[test]
fn an_approval_for_another_phase_takes_the_right_again() {
    policed(async || {
        let (anna, emil) = (Person::new(ANNA), Person::new(EMIL));
        anna.creates("another-phase").await;
        anna.annotates("another-phase", approval(ANNA)).await.unwrap();
        let moved = json!({ "alongside.dev/approve": "contract@1234/1" });
        assert_eq!(
            emil.annotates("another-phase", moved).await.map_err(|said| said.contains("may not approve")),
            Err(true)
        );
    });
}

#[test]
fn who_approved_is_never_rewritten() {
    policed(async || {
        let (anna, emil) = (Person::new(ANNA), Person::new(EMIL));
        anna.creates("never-rewritten").await;
        anna.annotates("never-rewritten", approval(ANNA)).await.unwrap();
        let refused = refused_by(
            "verbs",
            "'alongside.dev/approved-by' changes with 'alongside.dev/approve' and never by itself: leave it as it is",
        );
        for name in [json!(EMIL), Value::Null, json!("")] {
            let rewritten = json!({ "alongside.dev/approved-by": name });
            assert_eq!(emil.annotates("never-rewritten", rewritten.clone()).await, refused);
            assert_eq!(anna.annotates("never-rewritten", rewritten).await, refused);
        }
        emil.creates("never-signed").await;
        let signed = json!({ "alongside.dev/approved-by": EMIL });
        assert_eq!(emil.annotates("never-signed", signed).await, refused);
    });
}

#[test]
fn an_approval_can_be_withdrawn() {
    policed(async || {
        let (anna, emil) = (Person::new(ANNA), Person::new(EMIL));
        anna.creates("withdrawn").await;
        anna.annotates("withdrawn", approval(ANNA)).await.unwrap();
        let none = json!({ "alongside.dev/approve": null, "alongside.dev/approved-by": null });
        assert_eq!(emil.annotates("withdrawn", none).await, Ok(()));
    });
}

#[test]
fn writing_the_same_again_takes_no_right() {
    policed(async || {
        let (anna, paul) = (Person::new(ANNA), Person::new(PAUL));
        let all = json!({
            "alongside.dev/approve": "cut-over@1234/1",
            "alongside.dev/approved-by": ANNA,
            "alongside.dev/pause": "cut-over@1234/1",
            "alongside.dev/abort": "*@1234/1",
        });
        assert_eq!(anna.applies("same-again", all.clone()).await, Ok(()));
        assert_eq!(paul.applies("same-again", all.clone()).await, Ok(()));
        assert_eq!(paul.annotates("same-again", all).await, Ok(()));
        assert_eq!(paul.annotates("same-again", json!({ "team": "shop" })).await, Ok(()));
        assert_eq!(paul.patches("same-again", json!({ "spec": { "deletionPolicy": "Orphan" } })).await, Ok(()));
    });
}

#[test]
fn an_editor_pauses_aborts_rolls_back_and_retries() {
    policed(async || {
        let emil = Person::new(EMIL);
        emil.creates("editor-stops").await;
        for verb in ["pause", "abort", "rollback", "retry"] {
            let set = json!({ format!("alongside.dev/{verb}"): "*@1234/1" });
            assert_eq!(emil.annotates("editor-stops", set).await, Ok(()), "{verb}");
        }
    });
}

#[test]
fn who_may_only_patch_stops_nothing_and_lifts_no_pause() {
    policed(async || {
        let (emil, paul) = (Person::new(EMIL), Person::new(PAUL));
        emil.creates("only-patch").await;
        let refused = refused_by(
            "verbs",
            &format!(
                "'{PAUL}' may not pause, abort, roll back or retry: it takes the verb 'abort' on \
                 migrations.alongside.dev, as the roles edit and admin have it"
            ),
        );
        for verb in ["pause", "abort", "rollback", "retry"] {
            let set = json!({ format!("alongside.dev/{verb}"): "*@1234/1" });
            assert_eq!(paul.annotates("only-patch", set).await, refused, "{verb}");
        }
        let paused = json!({ "alongside.dev/pause": "cut-over@1234/1", "alongside.dev/abort": "*@1234/1" });
        emil.annotates("only-patch", paused).await.unwrap();
        assert_eq!(paul.annotates("only-patch", json!({ "alongside.dev/pause": null })).await, refused);
        assert_eq!(paul.annotates("only-patch", json!({ "alongside.dev/abort": null })).await, Ok(()));
    });
}

macro_rules! takes_the_right {
    ($($sentence:ident: $name:literal, $from:expr => $to:expr => $said:expr;)*) => {
        $(#[test]
        fn $sentence() {
            let changed = SPEC.replace($from, $to);
            assert_ne!(changed, SPEC, "the test changes nothing");
            policed(async || {
                let (anna, emil) = (Person::new(ANNA), Person::new(EMIL));
                emil.creates($name).await;
                assert_eq!(emil.writes_phases($name, &changed).await, refused_by("approvals", $said));
                assert_eq!(anna.writes_phases($name, &changed).await, Ok(()));
            });
        })*
    };
}

const WAITS: &str = "phase 'cut-over' waits for an approval: only who may approve (the verb 'approve' on \
                     migrations.alongside.dev) can take that away";
const CONTRACT_WAITS: &str = "phase 'contract' waits for an approval: only who may approve (the verb 'approve' on \
                              migrations.alongside.dev) can take that away";

takes_the_right! {
    an_approval_is_not_edited_away:
        "edited-away", "approval: Required, " => "" => WAITS;
    an_approval_is_not_renamed_away:
        "renamed-away", "{name: cut-over, approval: Required, " => "{name: flip, " => WAITS;
    an_approval_is_not_removed_with_its_phase:
        "removed-away", "- {name: cut-over, approval: Required, switch: {service: shop, from: {version: v1}, to: {version: v2}}}\n" => "" => WAITS;
    a_point_of_no_return_is_not_edited_away:
        "no-return-away", "pointOfNoReturn: true, " => "" => CONTRACT_WAITS;
    no_phase_is_freed_from_approval:
        "freed", "{name: prepare, " => "{name: prepare, approval: NotRequired, "
        => "phase 'prepare': only who may approve (the verb 'approve' on migrations.alongside.dev) can write 'approval: NotRequired'";
    no_freed_phase_is_added:
        "freed-added", "- {name: contract," => "- {name: drop, approval: NotRequired, observe: {query: q, max: 1, for: 1m}}\n- {name: contract,"
        => "phase 'drop': only who may approve (the verb 'approve' on migrations.alongside.dev) can write 'approval: NotRequired'";
    no_phase_becomes_a_point_of_no_return:
        "made-no-return", "{name: look, " => "{name: look, pointOfNoReturn: true, "
        => "phase 'look': only who may approve (the verb 'approve' on migrations.alongside.dev) can make it a point of no return";
}

#[test]
fn a_point_of_no_return_is_not_freed_from_its_approval() {
    policed(async || {
        let changed = SPEC.replace("pointOfNoReturn: true, ", "pointOfNoReturn: true, approval: NotRequired, ");
        let (anna, emil) = (Person::new(ANNA), Person::new(EMIL));
        emil.creates("no-return-freed").await;
        let said = emil.writes_phases("no-return-freed", &changed).await.unwrap_err();
        assert!(said.contains(CONTRACT_WAITS), "{said}");
        assert_eq!(anna.writes_phases("no-return-freed", &changed).await, Ok(()));
    });
}

#[test]
fn an_editor_changes_everything_else() {
    policed(async || {
        let emil = Person::new(EMIL);
        emil.creates("everything-else").await;
        for (from, to) in [
            ("{name: look, ", "{name: look, approval: Required, "),
            ("query: q, max: 1", "query: r, max: 2"),
            ("- {name: look, observe: {query: q, max: 1, for: 1m}}\n", ""),
            ("{name: contract, ", "{name: contract, approval: Required, "),
            (
                "- {name: look",
                "- {name: drop, pointOfNoReturn: true, observe: {query: q, max: 1, for: 1m}}\n- {name: look",
            ),
        ] {
            assert_eq!(emil.writes_phases("everything-else", &SPEC.replace(from, to)).await, Ok(()), "{from} => {to}");
            assert_eq!(Person::new(ANNA).writes_phases("everything-else", SPEC).await, Ok(()));
        }
    });
}

#[test]
fn status_is_the_operators() {
    policed(async || {
        Person::new(EMIL).creates("operators-status").await;
        for user in [PAUL, "system:admin"] {
            let groups: &[&str] = if user == PAUL { &["system:authenticated"] } else { &["system:masters"] };
            let migrations = Api::namespaced(CLUSTER.client_as(user, groups), NAMESPACE);
            let said = format!("'{user}' may not write the status of a migration: it is the operator's memory");
            assert_eq!(
                Person { name: user, migrations }.writes_status("operators-status").await,
                refused_by("status", &said)
            );
        }
        assert_eq!(Person::new(OPERATOR).writes_status("operators-status").await, Ok(()));
        assert_eq!(Person::new(BACKUP).writes_status("operators-status").await, Ok(()));
    });
}

#[test]
fn status_given_at_creation_is_dropped() {
    policed(async || {
        let paul = Person::new(PAUL);
        let mut object: Value = serde_saphyr::from_str(&migration("with-status", SPEC)).unwrap();
        object["status"] = json!({ "begun": 3, "state": "Succeeded" });
        let object: Migration = serde_json::from_value(object).unwrap();
        let created = paul.migrations.create(&PostParams::default(), &object).await.unwrap();
        assert_eq!(created.status, None);
    });
}

#[test]
fn the_operator_changes_finalizers_and_nothing_else() {
    policed(async || {
        let operator = Person::new(OPERATOR);
        Person::new(EMIL).creates("only-finalizers").await;
        let finalizers = json!({ "metadata": { "finalizers": ["alongside.dev/migration"] } });
        assert_eq!(operator.patches("only-finalizers", finalizers).await, Ok(()));
        assert_eq!(operator.patches("only-finalizers", json!({ "metadata": { "finalizers": null } })).await, Ok(()));
        let refused = refused_by("operator", "the operator may change a migration's finalizers and nothing else of it");
        for change in [
            json!({ "metadata": { "annotations": { "note": "x" } } }),
            json!({ "metadata": { "labels": { "note": "x" } } }),
            json!({ "spec": { "until": "look" } }),
        ] {
            assert_eq!(operator.patches("only-finalizers", change.clone()).await, refused, "{change}");
        }
    });
}

#[test]
fn other_namespaces_are_left_to_other_releases() {
    policed(async || {
        let migrations: Api<Migration> = Api::namespaced(CLUSTER.client(), "default");
        let object: Migration = serde_saphyr::from_str(&migration("elsewhere", SPEC)).unwrap();
        migrations.create(&PostParams::default(), &object).await.unwrap();
        let status = Patch::Merge(json!({ "status": { "message": "by an administrator" } }));
        migrations.patch_status("elsewhere", &PatchParams::default(), &status).await.expect("no policy is bound here");
    });
}

#[test]
fn the_policies_are_free_of_type_errors() {
    policed(async || {
        within(Duration::from_mins(2), "each policy has been checked", async || {
            let checked = CLUSTER.kubectl(&[
                "get",
                "validatingadmissionpolicies",
                "--output=jsonpath={range .items[*]}{.metadata.name}={.status.typeChecking}{\"\\n\"}{end}",
            ]);
            let expected = ["approvals", "operator", "status", "verbs"].map(|name| format!("alongside-{name}={{}}"));
            if checked.lines().eq(expected) { Ok(()) } else { Err(checked) }
        })
        .await;
    });
}
