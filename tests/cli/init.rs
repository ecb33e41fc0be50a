//! `init`: what it writes passes lint, and an API server takes it.

use std::{io::Write as _, process::Stdio};

use crate::bench::{CLUSTER, PLUGIN, folder, offline, plugin};

const SWITCH: [&str; 6] = ["--service", "front", "--from", "version=v1", "--to", "version=v2"];

fn written(args: &[&str]) -> String {
    let said = offline(&[&["init"], args].concat());
    assert_eq!(said.code, 0, "{args:?}: {said:?}");
    said.stdout
}

fn is_taken(text: &str) {
    let file = folder("init").join("migration.yaml");
    std::fs::write(&file, text).expect("a file can be written");
    let path = file.to_str().expect("the path is a text");
    let lint = offline(&["lint", "--strict", "-f", path]);
    assert_eq!(lint.code, 0, "{lint:?}\n{text}");
    let applied = CLUSTER.say("kubectl", &["apply", "--dry-run=server", "-f", path], "");
    assert!(applied.success, "{applied:?}\n{text}");
    let plan = offline(&["plan", "-f", path]);
    assert_eq!(plan.code, 0, "{plan:?}");
}

#[test]
fn a_switch_is_written_from_flags() {
    let text = written(&[&["service-switch"], &SWITCH[..]].concat());
    assert!(text.contains("name: front-switch") && text.contains("a guess"), "{text}");
    is_taken(&text);
    let given =
        ["--bake", "24h", "--errors", "sum(rate(e_total[1m]))", "--total", "sum(rate(t_total[1m]))", "--name", "move"];
    let text = written(&[&["service-switch"], &SWITCH[..], &given[..]].concat());
    assert!(text.contains("name: move") && text.contains("{for: 1d}") && !text.contains("a guess"), "{text}");
    is_taken(&text);
}

#[test]
fn a_schema_change_is_written_from_flags() {
    let up = "ALTER TABLE a ADD COLUMN \"b\" text;";
    is_taken(&written(&["schema-change", "--secret", "db/uri", "--up", up]));
    let more =
        ["--down", "ALTER TABLE a DROP COLUMN b;", "--backfill", "a", "--set", "b=lower(c)", "--where", "b IS NULL"];
    let text = written(&[&["schema-change", "--secret", "db/uri", "--up", up], &more[..], &SWITCH[..]].concat());
    for phase in ["expand", "backfill", "cut-over", "bake"] {
        assert!(text.contains(&format!("- name: {phase}")), "{phase}\n{text}");
    }
    is_taken(&text);
}

#[test]
fn a_database_move_is_written_from_flags() {
    let stores = ["database-move", "--old", "blue/uri", "--new", "green/uri"];
    is_taken(&written(&[&stores[..], &SWITCH[..]].concat()));
    let more = [
        "--tables",
        "shop.*",
        "--pgbouncer",
        "admin/uri",
        "--pgbouncer-database",
        "orders",
        "--on-fence-timeout",
        "prefer-traffic",
    ];
    let text = written(&[&stores[..], &SWITCH[..], &more[..]].concat());
    assert!(text.contains("PreferTraffic") && text.contains("\"shop.*\""), "{text}");
    is_taken(&text);
}

#[test]
fn what_makes_no_migration_is_refused_and_no_file_is_written_over() {
    let same = ["service-switch", "--service", "front", "--from", "v=1", "--to", "v=1"];
    let refused = offline(&[&["init"], &same[..]].concat());
    assert!(refused.code == 2 && refused.stderr.contains("nothing would move"), "{refused:?}");
    let missing = offline(&["init", "service-switch", "--service", "front"]);
    assert!(missing.code == 2 && missing.stderr.contains("write --from"), "{missing:?}");
    let bad = offline(&["init", "schema-change", "--secret", "db", "--up", "SELECT 1"]);
    assert!(bad.code == 2 && bad.stderr.contains("shop-db/uri"), "{bad:?}");
    let file = folder("init").join("there.yaml");
    std::fs::write(&file, "mine").expect("a file can be written");
    let path = file.to_str().expect("the path is a text");
    let over = plugin(&[&["init", "service-switch"], &SWITCH[..], &["--output", path]].concat());
    assert_eq!((over.code, std::fs::read_to_string(&file).ok()), (1, Some("mine".to_owned())), "{over:?}");
}

#[test]
fn on_a_terminal_what_is_missing_is_asked_for() {
    let file = folder("init").join("asked.yaml");
    let command = format!("{PLUGIN} init --output {}", file.display());
    let mut child = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script can be run");
    let answers = b"2\nfront\nnonsense\nversion=v1\nversion=v2\n";
    child.stdin.take().expect("it reads").write_all(answers).expect("it listens");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("write a label and its value"), "an answer without sense is asked for again: {said}");
    is_taken(&std::fs::read_to_string(&file).expect("it is written"));
}
