//! `status`: exit codes for scripts.

use serde_json::json;

use crate::bench::{Going, HASH, Made, namespace, status};

#[test]
fn each_end_has_its_code() {
    let home = namespace("codes");
    let hold = |reason: &str| json!({"state": "Waiting", "hold": {"reason": reason, "since": "2026-01-01T00:00:00Z"}});
    for (name, changes, args, code) in [
        ("succeeded", json!({"state": "Succeeded"}), vec![], 0),
        ("rolled-back", json!({"state": "RolledBack"}), vec![], 3),
        ("taken-back", json!({"state": "RolledBack"}), vec!["--for", "rolled-back"], 0),
        ("stalled", json!({"state": "Stalled"}), vec!["--for", "succeeded"], 4),
        ("asks", hold("Approval"), vec![], 5),
        ("asked", hold("Approval"), vec!["--for", "approval"], 0),
        ("goes-on", json!({}), vec!["--timeout", "200ms"], 6),
        ("now", json!({}), vec!["--no-wait"], 6),
        ("phase", json!({}), vec!["--for", "phase=fill"], 0),
        ("no-phase", json!({}), vec!["--for", "phase=nowhere"], 2),
        ("nonsense", json!({}), vec!["--for", "luck"], 2),
    ] {
        let made = Made::at(&home, name, status(2, "Running", changes));
        let said = made.plugin("status", &args);
        assert_eq!(said.code, code, "{name}: {said:?}");
    }
}

#[test]
fn it_waits_until_it_is_so() {
    let home = namespace("waits");
    let made = Made::at(&home, "front", status(2, "Running", json!({})));
    let going = Going::starts(&["status", "front", "-n", &home, "--timeout", "60s"]);
    going.says("front: Running  2/5  going on");
    made.becomes(status(5, "Pending", json!({"state": "Succeeded", "message": "every phase is done"})));
    going.says("front: Succeeded  5/5  every phase is done");
    assert_eq!(going.ends(), Some(0));
}

#[test]
fn an_approval_that_has_been_given_is_no_wait_for_a_person() {
    let home = namespace("given");
    let hold = json!({"state": "Waiting", "hold": {"reason": "Approval", "since": "2026-01-01T00:00:00Z"}});
    let made = Made::at(&home, "front", status(4, "Pending", hold));
    assert_eq!(made.plugin("status", &[]).code, 5);
    made.annotate(json!({"alongside.dev/approve": format!("contract@{HASH}/1")}));
    assert_eq!(made.plugin("status", &["--timeout", "200ms"]).code, 6);
}
