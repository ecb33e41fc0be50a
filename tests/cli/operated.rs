//! One story through the real operator: steered by the plugin alone, from preflight over a rollback to the end.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Stdio},
};

use serde_json::json;

use crate::bench::{CLUSTER, Made, folder, namespace};

/// An operator that looks after one namespace; it is killed when this is dropped.
struct Operator(Child);

impl Operator {
    fn starts(namespace: &str) -> Self {
        let folder: PathBuf = folder("operator");
        let providers = folder.join("providers.yaml");
        std::fs::write(&providers, "[]").expect("a file can be written");
        let log = std::fs::File::create(folder.join("log")).expect("a file can be made");
        // Nobody else takes it between here and the start but by bad luck.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port is free").port();
        let child = CLUSTER
            .command(env!("CARGO_BIN_EXE_alongside"))
            .arg("operator")
            .args(["--log-format=text", "--identity=one", "--image=registry.example/alongside"])
            .arg(format!("--namespace-scope={namespace}"))
            .arg(format!("--lease-namespace={namespace}"))
            .arg(format!("--http=127.0.0.1:{port}"))
            .arg(format!("--providers={}", providers.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log)
            .spawn()
            .expect("the operator can be started");
        Self(child)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_migration_is_steered_by_the_plugin_from_its_beginning_over_a_rollback_to_its_end() {
    let home = namespace("operated");
    let _operator = Operator::starts(&home);
    let spec = json!({"phases": [{"name": "first", "approval": "Required"}, {"name": "last", "approval": "Required"}]});
    let made = Made::with(&home, "story", &spec, None);
    let comes_to = |goal: &str, code: i32| {
        let said = made.plugin("status", &["--timeout", "30s", "--for", goal]);
        assert_eq!(said.code, code, "{goal}: {said:?}");
        said.stdout
    };
    let does = |verb: &str| {
        let said = made.plugin(verb, &["--yes"]);
        assert_eq!(said.code, 0, "{verb}: {said:?}");
    };
    comes_to("approval", 0);
    comes_to("settled", 5);
    does("approve");
    comes_to("phase=first", 0);
    comes_to("approval", 0);
    does("pause");
    crate::bench::eventually("it is paused", || made.plugin("get", &[]).stdout.contains("paused by annotation"));
    assert_eq!(made.plugin("pause", &[]).code, 7);
    does("resume");
    comes_to("approval", 0);
    does("abort");
    comes_to("rolled-back", 0);
    comes_to("settled", 3);
    assert_eq!(made.plugin("abort", &[]).code, 7);
    does("retry");
    comes_to("approval", 0);
    let tree = made.plugin("get", &[]).stdout;
    assert!(tree.contains("attempt 2"), "{tree}");
    does("approve");
    comes_to("phase=first", 0);
    comes_to("approval", 0);
    does("approve");
    comes_to("succeeded", 0);
    let refused = made.plugin("rollback", &[]);
    assert!(refused.code == 7 && refused.stderr.contains("it has succeeded"), "{refused:?}");
    let report = made.live().status.expect("it has a status").history;
    let approved: Vec<_> = report.iter().filter(|entry| entry.what == "Approved").map(|entry| &entry.by).collect();
    assert_eq!(approved.len(), 3, "{report:?}");
    assert!(approved.iter().all(|by| !by.is_empty() && *by != "someone who may patch"), "{approved:?}");
}
