//! `plan`: what would happen, and what taking it back means.

use crate::bench::{CLUSTER, Made, namespace, offline, spec};

#[test]
fn an_example_is_told_phase_by_phase_without_a_cluster() {
    let said = offline(&["plan", "-f", "deploy/examples/service-switch.yaml"]);
    assert_eq!(said.code, 0, "{said:?}");
    for shown in [
        "inventory-v2 in shop: 4 phases",
        "runs the scripts of ConfigMap inventory-v2-expand against store inventory",
        "7 0007_add_sku",
        "moves traffic of Service inventory from version=v1 to version=v2",
        "POST :8080/drain",
        "traffic moves back at once, and the new side is drained",
        "way back  the schema change stays: sql.onRollback is Keep",
        "keeps the old side alive for 30m of guarded time",
        "error-rate (max 0.01); p99-latency (baseline + 5%)",
        "required, as it can't be taken back: by who may `approve`",
        "8 0008_drop_code (no down script)",
    ] {
        assert!(said.stdout.contains(shown), "{shown:?} is not in\n{}", said.stdout);
    }
    let lines: Vec<_> = said.stdout.lines().collect();
    let of = |words: &str| lines.iter().position(|line| line.contains(words)).expect("it is there");
    assert!(of("point of no return") < of(" 4  contract") && of(" 3  bake") < of("point of no return"), "{lines:#?}");
    assert!(lines[of(" 4  contract")..].iter().any(|line| line.trim() == "way back  none"), "{lines:#?}");
}

#[test]
fn every_example_has_a_plan() {
    for example in ["database-move", "expand-contract", "service-switch", "with-alembic"] {
        let said = offline(&["plan", "-f", &format!("deploy/examples/{example}.yaml")]);
        assert!(said.code == 0 && said.stdout.contains("way back"), "{example}: {said:?}");
    }
}

#[test]
fn one_in_the_cluster_says_how_far_it_is_and_whether_you_may_approve() {
    let home = namespace("plan");
    let made = Made::with(&home, "front", &spec(), Some(crate::bench::status(1, "Running", serde_json::json!({}))));
    let said = made.plugin("plan", &[]);
    assert!(
        said.stdout.contains("expand  sql  (done)") && said.stdout.contains("fill  backfill  (at work)"),
        "{said:?}"
    );
    assert!(said.stdout.contains("; you may\n"), "{said:?}");
    CLUSTER.kubectl(&["-n", &home, "create", "rolebinding", "look", "--clusterrole=view", "--user=vic"]);
    CLUSTER.apply(&format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: read, namespace: {home}}}, rules: [\
         {{apiGroups: [alongside.dev], resources: [migrations], verbs: [get]}}]}}"
    ));
    CLUSTER.kubectl(&["-n", &home, "create", "rolebinding", "read", "--role=read", "--user=vic"]);
    let looks = ["--as", "vic", "--as-group", "system:authenticated"];
    crate::bench::eventually("the role is in force", || made.plugin("plan", &looks).code == 0);
    let other = made.plugin("plan", &looks);
    assert!(other.stdout.contains("; you may not"), "{other:?}");
}

#[test]
fn what_can_not_be_planned_is_refused_with_what_to_do() {
    let none = offline(&["plan", "-f", "charts/alongside/Chart.yaml"]);
    assert!(none.code == 7 && none.stderr.contains("no Migration"), "{none:?}");
    let neither = offline(&["plan"]);
    assert_eq!(neither.code, 2, "{neither:?}");
}
