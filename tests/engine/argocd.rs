//! What Argo CD is to make of a Migration, for its health script and its actions: the test files beside them under
//! `deploy/argocd` are written from statuses of the engine, so that they can't tell of others.
//!
//! `ALONGSIDE_WRITE=1 cargo test --test engine argocd` writes them; without it a difference is a failure. That the
//! scripts agree with them is asked of Argo CD itself, by the tests in `tests/argocd`.

use std::{collections::BTreeMap, path::PathBuf};

use alongside::api::{APPROVE_ANNOTATION, APPROVED_BY_ANNOTATION, MigrationStatus, RETRY_ANNOTATION, State};
use serde_json::{Value, json};

use crate::{
    fixture::{NAME, NAMESPACE, UID, expand_contract, job_switch_bake},
    holds,
    scene::{Scene, given},
};

/// How a Migration that holds for this reason fares, by Argo CD's words.
const HEALTH: &[(&str, &str)] = &[
    ("Preflight", "Progressing"),
    ("PreflightRefused", "Degraded"),
    ("PreflightWaits", "Progressing"),
    ("StoringPlan", "Progressing"),
    ("PlanLost", "Degraded"),
    ("PlanForeign", "Degraded"),
    ("StatusForeign", "Degraded"),
    ("BegunPhaseEdited", "Degraded"),
    ("StatusBehind", "Degraded"),
    ("JobRefused", "Progressing"),
    ("JobStuck", "Progressing"),
    ("AskingStore", "Progressing"),
    ("StoreRefused", "Degraded"),
    ("Claiming", "Progressing"),
    ("ClaimedByOther", "Degraded"),
    ("Paused", "Suspended"),
    ("Until", "Healthy"),
    ("Approval", "Suspended"),
    ("AgentUnseen", "Progressing"),
    ("AgentGivenUp", "Degraded"),
    ("MovingWrites", "Progressing"),
    ("PausedByGuard", "Suspended"),
    ("GuardSilent", "Progressing"),
    ("PausedByBreach", "Suspended"),
    ("TakingBaseline", "Progressing"),
    ("BaselineRefused", "Degraded"),
    ("ServiceAbsent", "Degraded"),
    ("ForeignSelector", "Degraded"),
    ("ForeignMark", "Degraded"),
    ("NewSideNotServing", "Progressing"),
    ("OldSideGone", "Degraded"),
    ("MovingTraffic", "Progressing"),
    ("WriteDenied", "Degraded"),
    ("ConfirmingTraffic", "Progressing"),
    ("Draining", "Progressing"),
    ("JobRunning", "Progressing"),
    ("StoppingJob", "Progressing"),
    ("RetryLater", "Progressing"),
    ("FailedForGood", "Degraded"),
    ("Observing", "Progressing"),
    ("Baking", "Progressing"),
    ("RollbackNotReady", "Progressing"),
    ("UndoFailed", "Degraded"),
    ("Undoing", "Progressing"),
    ("CleaningUp", "Progressing"),
    ("CleanUpFailed", "Degraded"),
    ("NoWayBack", "Degraded"),
    ("Releasing", "Progressing"),
    // Not holds, but moments that have none, or that have more to them.
    ("Unseen", "Progressing"),
    ("NewSpec", "Progressing"),
    ("BakingUntil", "Healthy"),
    ("RollingBackInABake", "Progressing"),
    ("Succeeded", "Healthy"),
    ("RolledBack", "Degraded"),
];

/// An action, the moment it is taken in, and the annotations that it sets; without a value it takes one away.
type Action<'a> = (&'static str, &'a str, Vec<(&'static str, Option<String>)>);

/// Every moment by its name, as it stands in the API server.
fn moments() -> BTreeMap<&'static str, Value> {
    let mut all: BTreeMap<_, _> = holds::scenes().into_iter().map(|(word, scene)| (word, object(&scene))).collect();
    let mut unseen = given(job_switch_bake());
    unseen.status = MigrationStatus::default();
    let mut unseen = object(&unseen);
    unseen.as_object_mut().expect("an object").remove("status");
    all.insert("Unseen", unseen);

    let mut newer = given(job_switch_bake().until("expand"));
    newer.run_to_hold("Until");
    let mut newer = object(&newer);
    newer["metadata"]["generation"] = json!(2);
    newer["spec"]["until"] = json!("bake");
    all.insert("NewSpec", newer);

    let mut baking = given(expand_contract().until("bake"));
    baking.run_to_hold("Baking");
    all.insert("BakingUntil", object(&baking));

    let mut back = given(job_switch_bake());
    back.run_to("bake").settle().breach();
    back.reconcile();
    all.insert("RollingBackInABake", object(&back));
    back.run_to_state(State::RolledBack);
    all.insert("RolledBack", object(&back));

    let mut done = given(job_switch_bake());
    done.run_to_state(State::Succeeded);
    all.insert("Succeeded", object(&done));
    all
}

fn object(scene: &Scene) -> Value {
    let verbs = &scene.world.verbs;
    let set = [
        ("approve", &verbs.approve),
        ("approved-by", &verbs.approved_by),
        ("pause", &verbs.pause),
        ("abort", &verbs.abort),
        ("rollback", &verbs.rollback),
        ("retry", &verbs.retry),
    ];
    let annotations: BTreeMap<_, _> =
        set.into_iter().filter_map(|(verb, value)| Some((format!("alongside.dev/{verb}"), value.clone()?))).collect();
    let mut metadata =
        json!({ "name": NAME, "namespace": NAMESPACE, "uid": UID, "generation": scene.world.generation });
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    json!({
        "apiVersion": "alongside.dev/v1alpha1",
        "kind": "Migration",
        "metadata": metadata,
        "spec": scene.migration.spec,
        "status": scene.status,
    })
}

/// What Argo CD is to show.
fn message(name: &str, object: &Value) -> String {
    let text = |field: &str| object["status"][field].as_str().unwrap_or_default();
    match name {
        "Unseen" => "Waiting for the operator to see it".to_owned(),
        "NewSpec" => "Waiting for the operator to see the new spec".to_owned(),
        _ if ["Stalled", "RolledBack", "Succeeded"].contains(&text("state")) => text("message").to_owned(),
        _ => format!("{} phases: {}", text("progress"), text("message")),
    }
}

fn actions<'a>(moments: &BTreeMap<&'a str, Value>) -> Vec<Action<'a>> {
    let status = |name: &str| &moments[name]["status"];
    let bound = |name: &str, phase: &str| {
        let hash = status(name)["plan"]["hash"].as_str().expect("a plan is frozen");
        format!("{phase}@{hash}/{}", status(name)["attempt"])
    };
    let advised = |name: &str| {
        let next = status(name)["next"].as_str().expect("something is advised");
        let (_, rest) = next.split_once(&format!("{RETRY_ANNOTATION}='")).expect("a retry is advised");
        rest.trim_end_matches('\'').to_owned()
    };
    let verb = |verb: &'static str| match verb {
        "pause" => "alongside.dev/pause",
        "abort" => "alongside.dev/abort",
        _ => "alongside.dev/rollback",
    };
    let server = "system:serviceaccount:argocd:argocd-server".to_owned();
    let mut all = vec![
        (
            "approve",
            "Approval",
            vec![(APPROVE_ANNOTATION, Some(bound("Approval", "widen"))), (APPROVED_BY_ANNOTATION, Some(server))],
        ),
        ("pause", "JobRunning", vec![(verb("pause"), Some(bound("JobRunning", "*")))]),
        ("resume", "Paused", vec![(verb("pause"), None)]),
        ("abort", "JobRunning", vec![(verb("abort"), Some(bound("JobRunning", "*")))]),
        ("rollback", "Baking", vec![(verb("rollback"), Some(bound("Baking", "*")))]),
    ];
    for failed in moments.iter().filter(|(_, object)| advises_a_retry(object)).map(|(name, _)| *name) {
        all.push(("retry", failed, vec![(RETRY_ANNOTATION, Some(advised(failed)))]));
    }
    all
}

/// Which actions can be taken in a moment. A retry can be where the engine advises one.
fn open(object: &Value) -> Vec<&'static str> {
    let status = &object["status"];
    let ended = ["Succeeded", "RolledBack"].contains(&status["state"].as_str().unwrap_or_default());
    let under_way = !status["plan"].is_null() && !ended && status["rollback"].is_null();
    let paused = !object["metadata"]["annotations"]["alongside.dev/pause"].is_null();
    let back = under_way && !is_past_no_return(object);
    let all = [
        ("approve", under_way && status["hold"]["reason"] == "Approval"),
        ("pause", under_way && !paused),
        ("resume", paused),
        ("abort", back),
        ("rollback", back),
        ("retry", advises_a_retry(object)),
    ];
    all.into_iter().filter(|(_, open)| *open).map(|(action, _)| action).collect()
}

fn advises_a_retry(object: &Value) -> bool {
    object["status"]["next"].as_str().is_some_and(|next| next.contains(RETRY_ANNOTATION))
}

fn is_past_no_return(object: &Value) -> bool {
    let phases = object["status"]["phases"].as_array().map_or(&[][..], Vec::as_slice);
    phases.iter().any(|phase| phase["pointOfNoReturn"] == true)
}

/// Each test file, by its path.
fn files() -> BTreeMap<String, String> {
    let moments = moments();
    let mut files = BTreeMap::new();
    let mut tests = Vec::new();
    for (name, status) in HEALTH {
        let object = &moments[name];
        let path = format!("testdata/{}.yaml", kebab(name));
        files.insert(path.clone(), yaml(object));
        tests.push(json!({
            "healthStatus": { "status": status, "message": message(name, object) },
            "inputPath": path,
        }));
    }
    files.insert("health_test.yaml".to_owned(), yaml(&json!({ "tests": tests })));

    let discovered = moments.iter().map(|(name, object)| {
        let phase = object["status"]["phase"].as_str().unwrap_or_default();
        let open = open(object);
        let result = ["approve", "pause", "resume", "abort", "rollback", "retry"].map(|action| {
            let mut shown = json!({ "name": action, "disabled": !open.contains(&action), "iconClass": icon(action) });
            match action {
                "approve" if object["status"]["hold"]["reason"] == "Approval" => {
                    shown["displayName"] = json!(format!("Approve {phase}"));
                }
                "approve" => shown["displayName"] = json!("Approve"),
                "rollback" => shown["displayName"] = json!("Roll back"),
                _ => {}
            }
            shown
        });
        json!({ "inputPath": format!("../testdata/{}.yaml", kebab(name)), "result": result })
    });
    let discovered: Vec<_> = discovered.collect();
    let run: Vec<_> = actions(&moments)
        .into_iter()
        .map(|(action, name, annotations)| {
            let mut after = moments[name].clone();
            for (annotation, value) in annotations {
                after["metadata"]["annotations"][annotation] = json!(value);
                if value.is_none() {
                    after["metadata"]["annotations"].as_object_mut().expect("an object").remove(annotation);
                }
            }
            let path = format!("testdata/{}-{action}.yaml", kebab(name));
            files.insert(format!("actions/{path}"), yaml(&after));
            let input = format!("../testdata/{}.yaml", kebab(name));
            json!({ "action": action, "inputPath": input, "expectedOutputPath": path })
        })
        .collect();
    let tests = json!({ "discoveryTests": discovered, "actionTests": run });
    files.insert("actions/action_test.yaml".to_owned(), yaml(&tests));
    files
}

fn icon(action: &str) -> &'static str {
    match action {
        "approve" => "fa fa-fw fa-check",
        "pause" => "fa fa-fw fa-pause",
        "resume" => "fa fa-fw fa-play",
        "abort" => "fa fa-fw fa-stop",
        "rollback" => "fa fa-fw fa-undo",
        _ => "fa fa-fw fa-redo",
    }
}

fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("plain data can be written")
}

fn kebab(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

#[test]
fn the_test_files_for_argo_cd_tell_of_statuses_that_the_engine_writes() {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/argocd/resource_customizations/alongside.dev/Migration");
    let mut differing = Vec::new();
    for (path, text) in files() {
        let file = folder.join(&path);
        if std::env::var_os("ALONGSIDE_WRITE").is_some() {
            std::fs::create_dir_all(file.parent().expect("a file is in a folder")).expect("a folder can be made");
            std::fs::write(&file, text).expect("the file can be written");
        } else if std::fs::read_to_string(&file).ok() != Some(text) {
            differing.push(path);
        }
    }
    assert_eq!(differing, Vec::<String>::new(), "write them anew: ALONGSIDE_WRITE=1 cargo test --test engine argocd");
}

#[test]
fn argo_cds_health_is_written_down_for_every_hold() {
    for (word, _) in holds::scenes() {
        assert!(HEALTH.iter().any(|(known, _)| *known == word), "{word} has no health");
    }
}
