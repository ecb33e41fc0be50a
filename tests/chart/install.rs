//! The chart on a real API server. One release at a time: the CRD and the flow schema are the cluster's.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use alongside::{
    api::{Migration, access},
    worker::signed::Signer,
};
use kube::{
    Api,
    api::{DynamicObject, ListParams, PostParams},
};
use serde_json::Value;

use crate::{
    render::{CLUSTER, render},
    support::{cluster::root, wait::within},
};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const OPERATOR: &str = "system:serviceaccount:alongside:alongside";

/// A release called `alongside`, uninstalled at the end, CRD included.
struct Release;

impl Release {
    fn install(chart: &Path, options: &[&str]) -> Self {
        let chart = chart.to_str().unwrap();
        let mut arguments = vec!["install", "alongside", chart, "--namespace=alongside", "--create-namespace"];
        arguments.extend(options);
        helm(&arguments);
        Self
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        CLUSTER.say("helm", &["uninstall", "alongside", "--namespace=alongside", "--ignore-not-found", "--wait"], "");
        CLUSTER.say("kubectl", &["delete", "crd", "migrations.alongside.dev", "--ignore-not-found", "--wait"], "");
    }
}

fn helm(arguments: &[&str]) -> String {
    let said = CLUSTER.say("helm", arguments, "");
    assert!(said.success, "helm {}: {}", arguments.join(" "), said.stderr);
    said.stdout
}

fn chart() -> PathBuf {
    root().join("charts/alongside")
}

fn one_at_a_time(story: impl FnOnce()) {
    // A test that failed before has left nothing behind that matters to the next.
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    story();
}

/// Creates a Migration as soon as the API server serves them.
fn create_migration(name: &str) {
    let yaml = format!(
        "{{apiVersion: alongside.dev/v1alpha1, kind: Migration, metadata: {{name: {name}}}, \
         spec: {{phases: [{{name: ask, approval: Required}}]}}}}"
    );
    let object: Migration = serde_saphyr::from_str(&yaml).unwrap();
    CLUSTER.run(async || {
        let migrations: Api<Migration> = Api::namespaced(CLUSTER.client(), "default");
        within(Duration::from_secs(30), "a Migration can be created", async || {
            migrations.create(&PostParams::default(), &object).await
        })
        .await;
    });
}

fn migrations() -> Vec<String> {
    let names =
        CLUSTER.kubectl(&["get", "migrations", "--namespace=default", "--output=jsonpath={.items[*].metadata.name}"]);
    names.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_new_release_is_taken_whole_by_the_api_server_and_uninstalled_without_its_crd() {
    one_at_a_time(|| {
        let release = Release::install(&chart(), &["--dry-run=server"]);
        drop(release);
        let _release = Release::install(&chart(), &["--set=providers[0].name=default,providers[0].url=http://p:9090"]);
        create_migration("outlives");
        let said = helm(&["uninstall", "alongside", "--namespace=alongside", "--wait"]);
        assert!(said.contains("migrations.alongside.dev"), "helm says what it keeps: {said}");
        assert_eq!(migrations(), ["outlives"]);
        assert_eq!(
            CLUSTER.kubectl(&[
                "get",
                "deployments,roles,flowschemas,validatingadmissionpolicies",
                "--all-namespaces",
                "--selector=app.kubernetes.io/name=alongside",
                "--output=name"
            ]),
            ""
        );

        let _again = Release::install(&chart(), &[]);
        assert_eq!(migrations(), ["outlives"], "a new release takes over what the old one left");
    });
}

#[test]
fn an_upgrade_upgrades_the_crd_and_keeps_every_migration() {
    one_at_a_time(|| {
        let old = older_chart();
        let _release = Release::install(&old, &[]);
        create_migration("lives-on");
        assert!(!known_fields().contains(&"deletionPolicy".to_owned()));
        helm(&["upgrade", "alongside", chart().to_str().unwrap(), "--namespace=alongside"]);
        assert!(known_fields().contains(&"deletionPolicy".to_owned()));
        assert_eq!(migrations(), ["lives-on"]);
        std::fs::remove_dir_all(old).unwrap();
    });
}

/// This chart with a CRD that lacks a field.
fn older_chart() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("alongside-chart-{}", std::process::id()));
    let copied = std::process::Command::new("cp").arg("-r").arg(chart()).arg(&folder).status().unwrap();
    assert!(copied.success());
    let template = folder.join("templates/crd.yaml");
    let text = std::fs::read_to_string(&template).unwrap();
    let older = text.replacen("                deletionPolicy:", "                anything:", 1);
    assert_ne!(older, text);
    std::fs::write(&template, older).unwrap();
    folder
}

fn known_fields() -> Vec<String> {
    let crd = CLUSTER.kubectl(&["get", "crd", "migrations.alongside.dev", "--output=json"]);
    let crd: Value = serde_json::from_str(&crd).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_key_that_requests_are_signed_with_is_made_once_and_kept_by_upgrades() {
    one_at_a_time(|| {
        let _release = Release::install(&chart(), &[]);
        let key = || {
            let wanted = [
                "get",
                "secret",
                "alongside-signing-key",
                "--namespace=alongside",
                "--output=jsonpath={.data.key\\.pem}",
            ];
            let said = CLUSTER.say("kubectl", &wanted, "");
            assert!(said.success, "{}", said.stderr);
            said.stdout
        };
        let made = key();
        let decoded = CLUSTER.say("base64", &["--decode"], &made).stdout;
        assert!(Signer::from_pem(decoded.as_bytes()).is_ok(), "the operator can use what Helm has made");
        let path = chart();
        helm(&["upgrade", "alongside", path.to_str().unwrap(), "--namespace=alongside", "--set=replicas=3"]);
        assert_eq!(key(), made);
    });
}

#[test]
fn the_pods_are_admitted_under_the_restricted_standard() {
    one_at_a_time(|| {
        CLUSTER.kubectl(&["create", "namespace", "restricted"]);
        CLUSTER.kubectl(&["label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted"]);
        let rendered = render("{providers: [{name: default, url: 'http://p', bearerTokenSecret: {name: s, key: k}}]}");
        let mut pod = rendered.pod().clone();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["name"] = "operator".into();
        pod["spec"]["serviceAccountName"] = "default".into();
        let create = ["create", "--namespace=restricted", "--dry-run=server", "--filename=-"];
        let admitted = CLUSTER.say("kubectl", &create, &pod.to_string());
        assert!(admitted.success && !admitted.stderr.contains("Warning"), "{}", admitted.stderr);

        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
        let refused = CLUSTER.say("kubectl", &create, &pod.to_string());
        assert!(refused.stderr.contains("violates PodSecurity"), "the namespace restricts nothing: {}", refused.stderr);
    });
}

#[test]
fn the_operator_may_do_all_of_the_table_and_read_no_secret() {
    one_at_a_time(|| {
        let _release = Release::install(&chart(), &[]);
        // `resource/name`, and a subresource after a colon.
        let may = |verb: &str, resource: &str, namespace: &str| {
            let (resource, sub) = resource.split_once(':').unwrap_or((resource, ""));
            let sub = format!("--subresource={sub}");
            let (namespace, user) = (format!("--namespace={namespace}"), format!("--as={OPERATOR}"));
            CLUSTER.say("kubectl", &["auth", "can-i", verb, resource, &sub, &namespace, &user], "").stdout.trim()
                == "yes"
        };
        // One verb of each right is enough: that all are rendered is another test's.
        let granted = access::OPERATOR.iter().map(|access| {
            let (resource, verb) = (access.resources[0], access.verbs[access.verbs.len() - 1]);
            let group = if access.group.is_empty() { String::new() } else { format!(".{}", access.group) };
            match resource.split_once('/') {
                Some((resource, sub)) => (verb, format!("{resource}{group}:{sub}")),
                None => (verb, format!("{resource}{group}")),
            }
        });
        let granted: Vec<_> = granted.collect();
        CLUSTER.run(async || {
            // Roles and the CRD are both taken up some time after they are written.
            within(Duration::from_secs(30), "the operator may do all of the table", async || {
                match granted.iter().find(|(verb, resource)| !may(verb, resource, "default")) {
                    Some((verb, resource)) => Err(format!("{verb} {resource}")),
                    None => Ok(()),
                }
            })
            .await;
        });
        assert!(may("update", "leases.coordination.k8s.io/alongside", "alongside"));
        for (verb, resource) in [
            ("get", "secrets"),
            ("list", "secrets"),
            ("get", "pods:log"),
            ("create", "pods:exec"),
            ("update", "migrations.alongside.dev"),
            ("delete", "migrations.alongside.dev"),
            ("approve", "migrations.alongside.dev"),
            ("create", "pods"),
            ("delete", "services"),
            ("update", "leases.coordination.k8s.io/other"),
        ] {
            assert!(!may(verb, resource, "default") && !may(verb, resource, "alongside"), "{verb} {resource}");
        }
    });
}

#[test]
fn the_operators_requests_have_a_share_of_the_api_server_of_their_own() {
    one_at_a_time(|| {
        let _release = Release::install(&chart(), &[]);
        let uid = CLUSTER.kubectl(&["get", "flowschema", "alongside", "--output=jsonpath={.metadata.uid}"]);
        CLUSTER.run(async || {
            let client = CLUSTER.client_as(OPERATOR, &["system:serviceaccounts", "system:authenticated"]);
            within(Duration::from_secs(30), "the flow schema takes the operator's requests", async || {
                let request = http::Request::get("/apis/alongside.dev/v1alpha1/migrations?limit=1").body(Vec::new());
                let answer =
                    client.send(request.unwrap().map(kube::client::Body::from)).await.map_err(|e| e.to_string())?;
                let by = answer.headers().get("x-kubernetes-pf-flowschema-uid").cloned();
                if by.as_ref().is_some_and(|by| by.as_bytes() == uid.as_bytes()) {
                    Ok(())
                } else {
                    Err(format!("{by:?}"))
                }
            })
            .await;
        });
    });
}

#[test]
fn a_release_for_one_namespace_gives_rights_in_no_other() {
    one_at_a_time(|| {
        CLUSTER.kubectl(&["create", "namespace", "shop"]);
        let _release = Release::install(&chart(), &["--set=namespaces={shop}"]);
        let client = || CLUSTER.client_as(OPERATOR, &["system:serviceaccounts", "system:authenticated"]);
        CLUSTER.run(async || {
            for (namespace, allowed) in [("shop", true), ("default", false), ("alongside", false)] {
                let migrations: Api<Migration> = Api::namespaced(client(), namespace);
                within(Duration::from_secs(30), &format!("in {namespace} it is as it should be"), async || {
                    let listed = migrations.list(&ListParams::default()).await;
                    if listed.is_ok() == allowed { Ok(()) } else { Err(format!("{:?}", listed.map(drop))) }
                })
                .await;
            }
            let objects: Api<DynamicObject> = Api::all_with(client(), &kube::api::ApiResource::erase::<Migration>(&()));
            objects.list(&ListParams::default()).await.expect_err("not the whole cluster");
        });
    });
}

#[test]
fn the_notes_name_what_is_there() {
    one_at_a_time(|| {
        let chart = chart();
        let arguments = ["install", "alongside", chart.to_str().unwrap(), "--namespace=alongside", "--dry-run=client"];
        let notes = helm(&arguments).split("NOTES:").nth(1).expect("there are notes").to_owned();
        for named in ["deployment/alongside", "--clusterrole=alongside-approver", "kubectl -n alongside"] {
            assert!(notes.contains(named), "{named}: {notes}");
        }
        assert!(notes.contains("Guards have nothing to ask yet"), "{notes}");
        assert!(!notes.contains("NOT enforced"), "{notes}");
        let unguarded = helm(&[&arguments[..], &["--set=admissionPolicies.enabled=false"]].concat());
        assert!(unguarded.contains("Who may approve is NOT enforced"), "{unguarded}");
    });
}
