//! `lint`: what an API server refuses is found without one.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use alongside::api::rules;
use serde_json::Value;

use crate::{
    admission_data, admission_guards, admission_moves, admission_phases, admission_whole,
    bench::{folder, offline},
    server::Case,
};

/// What was found in a file: weight, line and message.
type Found = Vec<(String, u64, String)>;

/// The exit code, and findings by file.
fn sarif(paths: &[&str]) -> (i32, BTreeMap<String, Found>) {
    let said = offline(&[&["lint", "--format", "sarif", "-f"], paths].concat());
    let log: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let mut by_file: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for result in log["runs"][0]["results"].as_array().expect("results are a list") {
        let location = &result["locations"][0]["physicalLocation"];
        let file = location["artifactLocation"]["uri"].as_str().expect("each has a file").to_owned();
        let line = location["region"]["startLine"].as_u64().expect("each has a line");
        let text = |value: &Value| value.as_str().expect("it is a text").to_owned();
        by_file.entry(file).or_default().push((text(&result["level"]), line, text(&result["message"]["text"])));
    }
    (said.code, by_file)
}

fn write(folder: &Path, name: &str, spec: &str) {
    let mut text = "apiVersion: alongside.dev/v1alpha1\nkind: Migration\nmetadata:\n  name: it\nspec:\n".to_owned();
    for line in spec.lines() {
        writeln!(text, "  {line}").expect("a String can be written to");
    }
    std::fs::write(folder.join(name), text).expect("a file can be written");
}

/// Words of the schema's rules: where the API server says one, lint does too.
fn rule_words() -> Vec<&'static str> {
    let patterns = rules::PATTERNS.iter().map(|(_, message)| *message);
    patterns.chain(rules::all().into_iter().map(|rule| rule.message)).collect()
}

fn cases() -> impl Iterator<Item = &'static Case> {
    [
        admission_phases::CASES,
        admission_guards::CASES,
        admission_data::CASES,
        admission_moves::CASES,
        admission_whole::CASES,
    ]
    .into_iter()
    .flatten()
}

#[test]
fn what_an_api_server_refuses_lint_finds_and_what_it_accepts_lint_lets_pass() {
    let folder = folder("corpus");
    for case in cases() {
        write(&folder, &format!("{}.bad.yaml", case.sentence), case.wrote);
        write(&folder, &format!("{}.good.yaml", case.sentence), case.writes);
    }
    let (code, found) = sarif(&[folder.to_str().expect("the path is a text")]);
    assert_eq!(code, 8);
    let of = |name: String| {
        let file = folder.join(name).display().to_string();
        found.get(&file).cloned().unwrap_or_default().into_iter().filter(|(level, ..)| level == "error")
    };
    let words = rule_words();
    let mut wrong = Vec::new();
    for case in cases() {
        let bad: Vec<_> = of(format!("{}.bad.yaml", case.sentence)).collect();
        let good: Vec<_> = of(format!("{}.good.yaml", case.sentence)).collect();
        if bad.is_empty() {
            wrong.push(format!("{}: nothing is found, and the API server says {}", case.sentence, case.heard));
        }
        if !good.is_empty() {
            wrong.push(format!("{}: it is right, and lint says {good:?}", case.sentence));
        }
        for said in words.iter().filter(|words| case.heard.contains(**words)) {
            if !bad.iter().any(|(_, _, message)| message.contains(said)) {
                wrong.push(format!("{}: the API server says {said:?}, and lint {bad:?}", case.sentence));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases().count(), wrong.join("\n"));
}

#[test]
fn every_example_is_free_of_errors() {
    let said = offline(&["lint", "-f", "deploy/examples", "deploy/demo/manifests"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("0 errors") && said.stdout.contains("in 5 migrations"), "{said:?}");
}

/// A file with one wrong thing of each kind, and the line of each.
const WRONG: &str = r"apiVersion: v1
kind: ConfigMap
metadata: {name: scripts, namespace: shop}
data:
  0001_index.up.sql: |
    ALTER TABLE items ADD COLUMN a text;
    CREATE INDEX items_a ON items (a);
---
apiVersion: alongside.dev/v1alpha1
kind: Migration
metadata:
  name: wrong
  namespace: shop
spec:
  stores:
    - name: db
      postgres: {secretRef: {name: db, key: uri}}
  guards:
    - name: errors
      max: 0.01
      query: sum(rate(e_total[1m])) / / 2
    - name: nothing
      query: up
  phasse: 3
  phases:
    - name: expand
      sql:
        store: db
        from: {configMap: scripts}
    - name: bake
      bake: {for: soon}
";

fn wrong() -> (PathBuf, String) {
    let folder = folder("wrong");
    let file = folder.join("wrong.yaml");
    std::fs::write(&file, WRONG).expect("a file can be written");
    let path = file.display().to_string();
    (file, path)
}

#[test]
fn each_thing_is_told_with_its_line() {
    let (_, path) = wrong();
    let said = offline(&["lint", "-f", &path]);
    assert_eq!(said.code, 8, "{said:?}");
    for (at, words) in [
        ("7:1: error: spec.phases[0].sql", "[sql/require-concurrent-index-creation]"),
        ("21:7: error: spec.guards[0].query: the query doesn't parse at line 1", "[promql]"),
        ("22:7: error: spec.guards[1]: a guard needs a limit", "[rule]"),
        ("24:3: error: spec.phasse: `phasse` is no field here", "[schema]"),
        ("31:14: error: spec.phases[1].bake.for: write a number and a unit", "[rule]"),
    ] {
        let line = said.stdout.lines().find(|line| line.starts_with(&format!("{path}:{at}")));
        assert!(line.is_some_and(|line| line.ends_with(words)), "{at}\n{}", said.stdout);
    }
    assert!(said.stdout.contains("did you mean `phases`?"), "{}", said.stdout);
    assert!(said.stdout.lines().last().is_some_and(|last| last.ends_with("in 1 migration")), "{}", said.stdout);
}

#[test]
fn github_and_code_scanners_get_the_same_findings() {
    let (_, path) = wrong();
    let github = offline(&["lint", "--format", "github", "-f", &path]);
    let (_, found) = sarif(&[&path]);
    let findings = &found[&path];
    assert_eq!(github.stdout.lines().count(), findings.len(), "{github:?}");
    assert!(github.stdout.contains(&format!("::error file={path},line=24,col=3,title=schema::")), "{github:?}");
    assert!(findings.iter().any(|(level, line, _)| (level.as_str(), *line) == ("error", 24)), "{findings:?}");
}

#[test]
fn standard_input_and_what_is_no_file_are_told_apart() {
    let missing = offline(&["lint", "-f", "/nowhere.yaml"]);
    assert!(missing.code == 1 && missing.stderr.contains("/nowhere.yaml can't be read"), "{missing:?}");
    let none = offline(&["lint", "-f", "deny.toml", "charts/alongside/Chart.yaml"]);
    assert!(none.code != 0 || none.stdout.contains("no Migration"), "{none:?}");
}

#[test]
fn warnings_count_if_asked_for() {
    let example = "deploy/examples/with-alembic.yaml";
    assert_eq!(offline(&["lint", "-f", example]).code, 0);
    assert_eq!(offline(&["lint", "--strict", "-f", example]).code, 8);
}
