//! `report`: what happened, for those who were not there.

use serde_json::{Value, json};

use crate::bench::{CLUSTER, Made, folder, namespace, status};

fn taken_back(home: &str) -> Made {
    let mut state = status(
        3,
        "Undone",
        json!({
            "state": "RolledBack", "message": "rolled back: guard p99 is breached: 0.4 against max 0.105",
            "guards": [{"name": "p99", "verdict": "Breach", "value": "0.4", "limit": "max 0.105", "since": "2026-01-01T00:20:00Z"}],
            "baselines": [{"guard": "p99", "value": 0.1, "spread": 0.002, "samples": 60, "takenAt": "2026-01-01T00:10:00Z"}],
            "traffic": [{"service": "front", "uid": "u", "phase": "cut-over", "from": {"version": "v1"}, "to": {"version": "v2"},
                "step": "BackDrained", "epoch": 3, "flippedAt": "2026-01-01T00:10:00Z", "backAt": "2026-01-01T00:20:00.250Z"}],
            "rollback": {"reason": "Breach", "message": "guard p99 is breached: 0.4 against max 0.105",
                "sampleAt": "2026-01-01T00:20:00Z", "seenAt": "2026-01-01T00:20:00.210Z",
                "newConnectionsRestored": "2026-01-01T00:20:00.250Z", "done": "2026-01-01T00:21:00Z"},
            "history": [
                {"at": "2026-01-01T00:00:00Z", "by": "anna@example.com", "what": "Approved", "phase": "expand", "why": "phase expand was approved"},
                {"at": "2026-01-01T00:21:00Z", "by": "operator", "what": "RolledBack", "why": "<script>alert('x')</script> | so"},
            ],
        }),
    );
    state["phases"][0]["startedAt"] = json!("2026-01-01T00:00:00Z");
    state["phases"][0]["finishedAt"] = json!("2026-01-01T00:05:00Z");
    let made = Made::at(home, "front", state);
    let uid = made.live().metadata.uid.expect("it has a UID");
    let evidence = json!({
        "finding": "Differs", "message": "2 of 10 rows differ", "phase": "prove",
        "began": "2026-01-01T00:06:00Z", "ended": "2026-01-01T00:07:00Z",
        "tables": [{"name": "public.a", "complete": true, "rowsFrom": 10_000, "differing": {"missing": 1, "extra": 0, "different": 1}}],
        "expectations": [{"expression": "b IS NOT NULL", "holds": 7, "fails": 1, "isNull": 2, "raises": 0}],
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"evidence.json": evidence.to_string()},
        "metadata": {"name": "front-prove-evidence", "namespace": home, "labels": {"alongside.dev/migration-uid": uid}},
    });
    CLUSTER.apply(&map.to_string());
    made
}

#[test]
fn the_facts_are_the_same_in_every_form() {
    let home = namespace("report");
    let made = taken_back(&home);
    let facts: Value = serde_json::from_str(&made.plugin("report", &["--format", "json"]).stdout).expect("it is JSON");
    assert_eq!(facts["state"], "RolledBack");
    assert_eq!(facts["took"], "21m");
    assert_eq!(facts["phases"][0]["took"], "5m");
    assert_eq!(facts["approvals"][0]["by"], "anna@example.com");
    assert_eq!(facts["guards"][0]["before"]["value"], 0.1);
    assert_eq!(
        facts["evidence"][0]["tables"][1],
        json!({"name": "b IS NOT NULL", "rows": 10, "differing": 3, "complete": true})
    );
    let markdown = made.plugin("report", &[]).stdout;
    let html = made.plugin("report", &["--format", "html"]).stdout;
    for shown in [
        "RolledBack",
        "anna@example.com",
        "0.1 ± 0.002 (60 samples)",
        "guard p99 is breached: 0.4 against max 0.105",
        "250ms",
        "2 of 10 rows differ",
        "10,000",
        "front-prove-evidence",
    ] {
        assert!(markdown.contains(shown), "{shown:?} is not in\n{markdown}");
        assert!(html.contains(shown), "{shown:?} is not in the page");
    }
    assert!(markdown.contains("&lt;script>alert('x')&lt;/script> \\| so"), "{markdown}");
}

#[test]
fn the_page_needs_nothing_else_and_lets_nobody_write_into_it() {
    let home = namespace("page");
    let made = taken_back(&home);
    let file = folder("report").join("front.html");
    let said = made.plugin("report", &["--to", file.to_str().expect("the path is a text")]);
    assert_eq!(said.code, 0, "{said:?}");
    let page = std::fs::read_to_string(&file).expect("it is written");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for never in ["<script", "http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(never), "{never}");
    }
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
    assert_eq!(page.matches("<svg").count(), 2, "times of the phases, and a guard before and after");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(page.contains("<rect class=\"bad\""), "the rollback and the breach are marked");
}

#[test]
fn one_that_has_not_begun_has_a_report_too() {
    let home = namespace("unbegun");
    let made = Made::with(&home, "front", &crate::bench::spec(), None);
    for form in ["markdown", "html", "json"] {
        assert_eq!(made.plugin("report", &["--format", form]).code, 0, "{form}");
    }
}
