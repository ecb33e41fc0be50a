//! `get -w`: what changes is seen, without asking again and again.

use serde_json::json;

use crate::bench::{CLUSTER, Going, Made, PLUGIN, namespace, status};

#[test]
fn a_change_is_a_line_in_a_pipe() {
    let home = namespace("lines");
    let made = Made::at(&home, "front", status(1, "Running", json!({"message": "filling"})));
    let going = Going::starts(&["get", "front", "-n", &home, "-w"]);
    going.says("filling");
    made.becomes(status(
        2,
        "Pending",
        json!({"state": "Waiting", "message": "guard p99 says nothing", "guards": [
            {"name": "p99", "verdict": "NoData", "limit": "max 1", "since": "2026-01-01T00:00:00Z"}]}),
    ));
    going.says("guard p99: NoData, - against max 1");
    let line = going.says("guard p99 says nothing");
    assert!(line.contains("Waiting      cut-over  2/5"), "{line}");
    CLUSTER.kubectl(&["-n", &home, "delete", "migration", "front"]);
    going.says("migration front is gone");
    assert_eq!(going.ends(), Some(0));
}

#[test]
fn a_list_goes_on_with_a_row_a_change() {
    let home = namespace("rows");
    let first = Made::at(&home, "first", status(1, "Running", json!({})));
    let going = Going::starts(&["get", "-n", &home, "-w"]);
    going.says("NAME");
    going.says("first");
    Made::at(&home, "second", status(0, "Running", json!({"message": "it begins"})));
    going.says("it begins");
    first.becomes(status(5, "Pending", json!({"state": "Succeeded", "message": "every phase is done"})));
    assert!(going.says("every phase is done").starts_with("first"));
}

#[test]
fn objects_are_followed_as_documents() {
    let home = namespace("documents");
    let made = Made::at(&home, "front", status(1, "Running", json!({})));
    let going = Going::starts(&["get", "front", "-n", &home, "-w", "-o", "yaml"]);
    going.says("---");
    made.becomes(status(1, "Running", json!({"message": "another word"})));
    going.says("another word");
}

#[test]
fn on_a_terminal_the_picture_is_drawn_anew_and_stays_at_the_end() {
    let home = namespace("screen");
    let made = Made::at(&home, "front", status(1, "Running", json!({"message": "filling"})));
    let command = format!("TERM=xterm COLUMNS=100 {PLUGIN} get front -n {home} -w");
    let going = Going::of(CLUSTER.command("script").args(["-qfec", &command, "/dev/null"]));
    going.says("\x1b[?1049h");
    going.says("filling");
    let guard = |value: &str| json!({"name": "p99", "verdict": "Pass", "value": value, "limit": "max 1", "since": "2026-01-01T00:00:00Z"});
    made.becomes(status(1, "Running", json!({"guards": [guard("0.2")]})));
    made.becomes(status(1, "Running", json!({"guards": [guard("0.9")]})));
    // What was heard of a guard becomes a curve.
    going.says("▁█");
    CLUSTER.kubectl(&["-n", &home, "delete", "migration", "front"]);
    going.says("\x1b[?1049l");
    going.says("migration front is gone");
}
