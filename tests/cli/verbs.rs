//! The verbs: what they write, and what they refuse to.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bench::{CLUSTER, HASH, Made, PLUGIN, namespace, status};

fn waiting(home: &str, name: &str) -> Made {
    let state = json!({
        "state": "Waiting", "message": "phase contract waits for approval",
        "hold": {"reason": "Approval", "since": "2026-01-01T00:00:00Z"},
    });
    Made::at(home, name, status(4, "Pending", state))
}

fn others(made: &Made) -> Value {
    let mut live = serde_json::to_value(made.live()).expect("it is plain data");
    for volatile in ["annotations", "managedFields", "resourceVersion"] {
        live["metadata"].as_object_mut().expect("metadata is fields").remove(volatile);
    }
    live
}

#[test]
fn an_approval_is_bound_and_names_its_giver_and_changes_nothing_else() {
    let home = namespace("approve");
    let made = waiting(&home, "front");
    let before = others(&made);
    let said = made.plugin("approve", &["--as", "anna", "--as-group", "system:masters"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(made.annotation("alongside.dev/approve"), Some(format!("contract@{HASH}/1")));
    assert_eq!(made.annotation("alongside.dev/approved-by"), Some("anna".to_owned()));
    assert_eq!(others(&made), before);
    assert!(said.stdout.contains("phase contract is approved by anna"), "{said:?}");
    assert!(said.stdout.contains("begins as soon as every guard passes"), "{said:?}");
    let again = made.plugin("approve", &[]);
    assert!(again.code == 7 && again.stderr.contains("approved already"), "{again:?}");
}

#[test]
fn each_other_verb_writes_its_annotation() {
    let home = namespace("verbs");
    let retry = format!("*@{HASH}/1");
    let next = format!("kubectl annotate --overwrite migration x alongside.dev/retry='{retry}'");
    for (verb, annotation, changes) in [
        ("pause", "pause", json!({})),
        ("abort", "abort", json!({})),
        ("rollback", "rollback", json!({})),
        ("retry", "retry", json!({"state": "RolledBack", "next": next})),
    ] {
        let made = Made::at(&home, verb, status(3, "Running", changes));
        let said = made.plugin(verb, &["--yes"]);
        assert_eq!(said.code, 0, "{verb}: {said:?}");
        assert_eq!(made.annotation(&format!("alongside.dev/{annotation}")), Some(retry.clone()), "{verb}");
    }
    let paused = Made { namespace: home, name: "pause".to_owned() };
    assert_eq!(paused.plugin("resume", &[]).code, 0);
    assert_eq!(paused.annotation("alongside.dev/pause"), None);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_written() {
    let home = namespace("refused");
    let ended = Made::at(&home, "ended", status(5, "Pending", json!({"state": "Succeeded"})));
    let going = Made::at(&home, "going", status(1, "Running", json!({})));
    for (made, verb, args, why) in [
        (&ended, "abort", vec![], "it has succeeded"),
        (&ended, "retry", vec![], "nothing to try again"),
        (&going, "approve", vec![], "phase fill has begun"),
        (&going, "approve", vec!["--phase", "contract"], "not the one that waits"),
        (&going, "resume", vec![], "nobody has paused it"),
        (&going, "retry", vec![], "nothing has failed"),
    ] {
        let version = made.live().metadata.resource_version;
        let said = made.plugin(verb, &args);
        assert!(said.code == 7 && said.stderr.contains(why), "{verb}: {said:?}");
        assert_eq!(made.live().metadata.resource_version, version, "{verb}");
    }
}

#[test]
fn a_dry_run_asks_the_server_and_writes_nothing() {
    let home = namespace("dry");
    let made = waiting(&home, "front");
    for dry_run in ["--dry-run=server", "--dry-run"] {
        let said = made.plugin("approve", &[dry_run]);
        assert!(said.code == 0 && said.stdout.contains("nothing was written"), "{said:?}");
    }
    assert_eq!(made.annotation("alongside.dev/approve"), None);
    let denied = made.plugin("pause", &["--dry-run", "--as", "nobody"]);
    assert_eq!(denied.code, 1, "{denied:?}");
}

#[test]
fn on_a_terminal_it_asks_first() {
    let home = namespace("confirm");
    let made = Made::at(&home, "front", status(3, "Running", json!({})));
    let answer = |answer: &str| {
        let command = format!("{PLUGIN} abort front -n {home}");
        let mut child = CLUSTER
            .command("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script can be run");
        child.stdin.take().expect("it reads").write_all(answer.as_bytes()).expect("it listens");
        let output = child.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = answer("n\n");
    assert_eq!((code, made.annotation("alongside.dev/abort")), (Some(7), None), "{said}");
    assert!(said.contains("phase expand: its undo runs"), "it says what goes back: {said}");
    let (code, said) = answer("y\n");
    assert_eq!((code, made.annotation("alongside.dev/abort").is_some()), (Some(0), true), "{said}");
}
