//! `get`: lists and trees.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::bench::{CLUSTER, Made, namespace, offline, plugin, said, status};

/// A time that lies some seconds back.
fn ago(seconds: i64) -> String {
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
    format!("{at:.3}")
}

fn flipped(namespace: &str) -> Made {
    let status = status(
        3,
        "Running",
        json!({
            "state": "Running", "message": "phase bake has been guarded for part of its time",
            "next": format!("kubectl -n {namespace} annotate --overwrite migration front alongside.dev/rollback='*@c0ffee1234/1'"),
            "hold": {"reason": "Baking", "since": ago(620)},
            "guards": [
                {"name": "error-rate", "verdict": "Pass", "value": "0.0023456", "limit": "max 0.01", "since": ago(7300)},
                {"name": "p99", "verdict": "Breach", "value": "0.4", "limit": "max 0.105 (baseline 0.1 + 5%)", "since": ago(30)},
            ],
            "baselines": [{"guard": "p99", "value": 0.1, "spread": 0.002, "samples": 60, "takenAt": ago(630)}],
            "traffic": [{"service": "front", "uid": "u", "phase": "cut-over", "from": {"version": "v1"}, "to": {"version": "v2"},
                "step": "Drained", "epoch": 2, "flippedAt": ago(625), "oldServing": 3}],
            "conditions": [{"type": "RollbackReady", "status": "True", "reason": "Ready", "message": "traffic can go back at any moment",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }),
    );
    Made::at(namespace, "front", status)
}

#[test]
fn a_list_has_a_line_each_and_says_what_it_waits_for() {
    let home = namespace("list");
    flipped(&home);
    Made::with(&home, "unseen", &crate::bench::spec(), None);
    let said = plugin(&["get", "-n", &home]);
    let lines: Vec<_> = said.stdout.lines().collect();
    assert_eq!((said.code, lines.len()), (0, 3), "{said:?}");
    assert!(lines[0].starts_with("NAME"), "{said:?}");
    assert!(lines[1].starts_with("front   Running  bake   3/5"), "{said:?}");
    assert!(lines[1].ends_with("phase bake has been guarded for part of its time"), "{said:?}");
    assert!(lines[2].starts_with("unseen  Pending  -"), "{said:?}");
}

#[test]
fn all_namespaces_and_more_columns_are_asked_for_as_with_kubectl() {
    let home = namespace("all");
    flipped(&home);
    let said = plugin(&["get", "-A", "-o", "wide"]);
    let line = said.stdout.lines().find(|line| line.starts_with(&home)).expect("it is in the list");
    for cell in ["front", "c0ffee1234", "open", "alongside.dev/rollback"] {
        assert!(line.contains(cell), "{cell} is not in {line}");
    }
}

#[test]
fn objects_come_as_they_are_with_what_this_release_does_not_know() {
    let home = namespace("objects");
    let made = flipped(&home);
    let json = plugin(&["get", "front", "-n", &home, "-o", "json"]);
    let object: Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!(object["kind"], "Migration");
    assert_eq!(object["metadata"]["uid"], json!(made.live().uid()));
    let yaml = plugin(&["get", "-n", &home, "-o", "yaml"]);
    let list: Value = serde_saphyr::from_str(&yaml.stdout).expect("it is YAML");
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&json!("List"), &json!("front")));
}

#[test]
fn a_tree_shows_phases_guards_and_the_way_back_by_hand() {
    let home = namespace("tree");
    let made = flipped(&home);
    let said = made.plugin("get", &[]);
    assert_eq!(said.code, 0, "{said:?}");
    let by_hand =
        format!(r#"by hand: kubectl -n {home} patch service front -p '{{"spec":{{"selector":{{"version":"v1"}}}}}}'"#);
    for shown in [
        "front  Running  3/5 phases done  attempt 1  plan c0ffee1234",
        "next: kubectl -n",
        "✔  expand    sql       done",
        "▶  bake      bake      at work  1h of guarded time",
        "○  contract  sql       to do    asks for approval  point of no return",
        "✔  error-rate  Pass    0.002346  max 0.01                       for 2h1m",
        "✘  p99         Breach  0.4       max 0.105 (baseline 0.1 + 5%)",
        "before 0.1 ± 0.002 (60 samples)",
        "open: traffic can go back at any moment",
        "Service front: on the new side; the old side had 3 serving pods at the flip",
        &by_hand,
    ] {
        assert!(said.stdout.contains(shown), "{shown:?} is not in\n{}", said.stdout);
    }
    assert!(!said.stdout.contains('\x1b'), "no colour in a pipe");
}

#[test]
fn the_command_by_hand_takes_traffic_back() {
    let home = namespace("hand");
    let made = flipped(&home);
    CLUSTER.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: front, namespace: {home}}}, \
         spec: {{selector: {{app: front, version: v2}}, ports: [{{port: 80}}]}}}}"
    ));
    let shown = made.plugin("get", &[]).stdout;
    let command = shown.lines().find_map(|line| line.trim().strip_prefix("by hand: ")).expect("it is shown");
    let ran = CLUSTER.say("sh", &["-c", command], "");
    assert!(ran.success, "{ran:?}");
    let selector = CLUSTER.kubectl(&["-n", &home, "get", "service", "front", "-o", "jsonpath={.spec.selector}"]);
    assert_eq!(selector, r#"{"app":"front","version":"v1"}"#);
}

#[test]
fn work_has_a_bar_a_pace_and_the_time_left_with_its_job_and_pods() {
    let home = namespace("work");
    let mut state = status(1, "Running", json!({"message": "filling"}));
    state["phases"][1]["work"] = json!({
        "stage": "sweeping", "done": 1_200_000, "total": 3_000_000, "rate": 8_400, "eta": "214s",
        "throttled": "guard p99 0.09 >= 0.08", "at": ago(1),
    });
    state["phases"][1]["startedAt"] = json!(ago(3720));
    state["phases"][1]["job"] = json!({"name": "front-fill-1", "uid": "x"});
    let made = Made::at(&home, "front", state.clone());
    let uid = made.live().uid().expect("it has a UID");
    let job = CLUSTER.run(async || {
        let labels = json!({"alongside.dev/migration-uid": uid});
        let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "registry.example/c"}]});
        let jobs: Api<Job> = Api::namespaced(CLUSTER.client(), &home);
        // Suspended, so that the controller makes no pod beside the test's.
        let job = json!({"metadata": {"name": "front-fill-1", "labels": labels}, "spec": {"suspend": true, "template": {"spec": pod}}});
        let job = jobs.create(&PostParams::default(), &serde_json::from_value(job).unwrap()).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(CLUSTER.client(), &home);
        let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "front-fill-1", "uid": job.uid()}]);
        let pod = json!({"metadata": {"name": "front-fill-1-abcde", "labels": labels, "ownerReferences": owner}, "spec": pod});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let status = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "c", "image": "c", "imageID": "",
            "ready": true, "restartCount": 2}]}});
        pods.patch_status("front-fill-1-abcde", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        job
    });
    state["phases"][1]["job"]["uid"] = json!(job.uid());
    made.becomes(state);
    let said = made.plugin("get", &[]);
    for shown in [
        "▶  fill      backfill  at work  for 1h2m  table a",
        "████████░░░░░░░░░░░░ 40 %  1,200,000 of about 3,000,000 rows  8,400 rows/s  3m34s left  sweeping",
        "held back: guard p99 0.09 >= 0.08",
        "└ Job front-fill-1",
        "└ pod front-fill-1-abcde  Running  2 restarts",
    ] {
        assert!(said.stdout.contains(shown), "{shown:?} is not in\n{}", said.stdout);
    }
}

#[test]
fn a_rollback_is_shown_lane_by_lane() {
    let home = namespace("lanes");
    let rollback = json!({
        "reason": "Breach", "message": "guard p99 is breached: 0.4 against max 0.105",
        "sampleAt": "2026-01-01T00:00:00.000Z", "seenAt": "2026-01-01T00:00:00.210Z",
        "newConnectionsRestored": "2026-01-01T00:00:00.250Z", "drained": "2026-01-01T00:00:12.000Z", "drainCutShort": true,
    });
    let state = status(3, "Running", json!({"state": "RollingBack", "message": "rolling back", "rollback": rollback}));
    let said = Made::at(&home, "front", state).plugin("get", &[]);
    for shown in [
        "guard p99 is breached: 0.4 against max 0.105",
        "seen by the operator                     after 210ms",
        "lane 1: new connections on the old side  after 250ms",
        "lane 1b: the new side drained            after 12s",
        "lane 2: no Job runs                      not yet",
        "the drain's deadline ended it",
    ] {
        assert!(said.stdout.contains(shown), "{shown:?} is not in\n{}", said.stdout);
    }
}

#[test]
fn who_may_not_see_jobs_and_pods_sees_the_rest() {
    let home = namespace("viewer");
    let made = flipped(&home);
    CLUSTER.apply(&format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: look, namespace: {home}}}, rules: [\
         {{apiGroups: [alongside.dev], resources: [migrations], verbs: [get, list, watch]}}]}}"
    ));
    CLUSTER.kubectl(&["-n", &home, "create", "rolebinding", "look", "--role=look", "--user=vera"]);
    crate::bench::eventually("the role is in force", || made.plugin("get", &["--as", "vera"]).code == 0);
    let said = made.plugin("get", &["--as", "vera"]);
    assert!(said.stdout.contains("error-rate"), "{said:?}");
    assert!(said.stdout.contains(r#"pods can't be shown: pods is forbidden: User "vera""#), "{said:?}");
}

#[test]
fn errors_say_what_to_do() {
    let home = namespace("errors");
    for (args, code, wrong, advice) in [
        (
            vec!["get", "nobody", "-n", &home],
            1,
            "there is no migration nobody in namespace",
            "kubectl alongside get -A",
        ),
        (vec!["get", "-n", &home, "--as", "nobody"], 1, "migrations can't be listed", "kubectl auth whoami"),
        (vec!["get", "--context", "elsewhere"], 1, "no cluster to talk to", "kubectl config get-contexts"),
        (vec!["get", "x", "-A"], 2, "-A is all namespaces", "get NAME -n NAMESPACE"),
        (vec!["get", "--as-group", "g"], 2, "say more about a user", "--as"),
        (vec!["get", "--request-timeout", "soon"], 2, "no length of time", "30s"),
    ] {
        let said = plugin(&args);
        assert_eq!(said.code, code, "{args:?}: {said:?}");
        assert!(said.stderr.contains(wrong) && said.stderr.contains(advice), "{args:?}: {said:?}");
        assert_eq!(said.stdout, "", "{args:?}");
    }
    let without = offline(&["get"]);
    assert!(without.code == 1 && without.stderr.contains("--kubeconfig or KUBECONFIG"), "{without:?}");
}

#[test]
fn colour_is_for_those_who_look() {
    let home = namespace("colour");
    flipped(&home);
    let args = ["get", "-n", &home];
    let coloured = |more: &[&str]| plugin(&[&args[..], more].concat()).stdout.contains('\x1b');
    assert!(!coloured(&[]) && coloured(&["--color", "always"]));
    let on_terminal = |environment: &str| {
        let shown = format!("{environment} {} get -n {home}", crate::bench::PLUGIN);
        said(CLUSTER.command("script").args(["-qec", &shown, "/dev/null"])).stdout.contains("\x1b[3")
    };
    assert!(on_terminal("TERM=xterm"), "a terminal has colours");
    assert!(!on_terminal("NO_COLOR=1 TERM=xterm") && !on_terminal("TERM=dumb"));
}
