//! The health script and the actions, each moment asked of Argo CD's own command.

use std::{fmt::Write as _, path::PathBuf, process::Command};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{
    argo::{built, component},
    support::cluster::Said,
};

fn folder() -> PathBuf {
    component().join("resource_customizations/alongside.dev/Migration")
}

fn read(path: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(path)).expect("the file is there");
    serde_saphyr::from_str(&text).expect("the file is YAML")
}

fn asks(what: &str, input: &str, more: &[&str]) -> Said {
    let mut command = Command::new(built().join("bin/argocd"));
    command.args(["admin", "settings", "resource-overrides", what, input]).args(more);
    command.arg("--argocd-cm-path").arg(component().join("argocd-cm.yaml")).current_dir(folder());
    command.output().expect("argocd can be run").into()
}

fn entries(tests: &Value) -> &[Value] {
    tests.as_array().expect("a list of tests")
}

fn text<'a>(test: &'a Value, field: &str) -> &'a str {
    test[field].as_str().expect("the field is text")
}

/// The health of each moment is what the test file says.
pub fn every_moment_has_the_health_that_is_written_down() -> Result<(), Failed> {
    let tests = read("health_test.yaml");
    let mut wrong = String::new();
    for test in entries(&tests["tests"]) {
        let said = asks("health", text(test, "inputPath"), &[]);
        let wanted = &test["healthStatus"];
        let wanted = format!("STATUS: {}\nMESSAGE: {}\n", text(wanted, "status"), text(wanted, "message"));
        if said.stdout != wanted {
            let _ = write!(wrong, "{}: {wanted}not\n{}{}", text(test, "inputPath"), said.stdout, said.stderr);
        }
    }
    told(wrong, entries(&tests["tests"]).len(), 45)
}

/// The actions that each moment offers are those that the test file names.
pub fn every_moment_offers_the_actions_that_are_written_down() -> Result<(), Failed> {
    let tests = read("actions/action_test.yaml");
    let mut wrong = String::new();
    for test in entries(&tests["discoveryTests"]) {
        let said = asks("list-actions", text(test, "inputPath").trim_start_matches("../"), &[]);
        let mut wanted: Vec<_> = entries(&test["result"])
            .iter()
            .map(|action| format!("{} {}", text(action, "name"), action["disabled"]))
            .collect();
        wanted.sort();
        let seen: Vec<_> =
            said.stdout.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        if seen != wanted {
            let _ = writeln!(wrong, "{}: {wanted:?}, not {seen:?} {}", text(test, "inputPath"), said.stderr);
        }
    }
    told(wrong, entries(&tests["discoveryTests"]).len(), 45)
}

/// An action changes what the test file says, and nothing else.
pub fn every_action_changes_the_annotations_that_are_written_down() -> Result<(), Failed> {
    let tests = read("actions/action_test.yaml");
    let mut wrong = String::new();
    for test in entries(&tests["actionTests"]) {
        let input = text(test, "inputPath").trim_start_matches("../").to_owned();
        let said = asks("run-action", &input, &[text(test, "action")]);
        let wanted = read(&format!("actions/{}", text(test, "expectedOutputPath")));
        let (before, wanted) = (annotations(&read(&input)), annotations(&wanted));
        // It prints what `diff` prints: lines added and taken away, of annotations only.
        let lines = |sign: &str| -> Vec<String> {
            let lines = said.stdout.lines().filter_map(|line| line.strip_prefix(sign));
            lines
                .map(|line| line.trim().to_owned())
                .filter(|line| line != "annotations:" && line != "annotations: {}")
                .collect()
        };
        let added: Vec<_> = wanted.iter().filter(|line| !before.contains(line)).cloned().collect();
        let removed: Vec<_> = before.iter().filter(|line| !wanted.contains(line)).cloned().collect();
        let plain = |lines: Vec<String>| lines.into_iter().map(|line| line.replace('\'', "")).collect::<Vec<_>>();
        if (plain(lines("> ")), plain(lines("< "))) != (added.clone(), removed.clone()) {
            let _ = write!(wrong, "{input}: adds {added:?}, removes {removed:?}, not\n{}{}", said.stdout, said.stderr);
        }
    }
    told(wrong, entries(&tests["actionTests"]).len(), 10)
}

fn annotations(object: &Value) -> Vec<String> {
    let annotations = object["metadata"]["annotations"].as_object();
    let lines = annotations.into_iter().flatten();
    lines.map(|(key, value)| format!("{key}: {}", value.as_str().expect("annotations are text"))).collect()
}

fn told(wrong: String, asked: usize, least: usize) -> Result<(), Failed> {
    assert!(asked >= least, "only {asked} were asked");
    if wrong.is_empty() { Ok(()) } else { Err(wrong.into()) }
}
