//! What Migrations cost that wait for an approval, with everything still before them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    alongside,
    figures::Report,
    kubernetes::Kubernetes,
    node,
    process::{self, metric},
    wait::until,
};

/// How long they are watched.
const MINUTE: Duration = Duration::from_mins(1);
/// What writes.
const WRITES: [&str; 5] = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];

/// Measures it.
pub async fn measure(kubernetes: &Kubernetes, program: &Path, out: &Path, count: usize) -> Report {
    node::start(kubernetes).await;
    alongside::pods(kubernetes).await;
    let names: Vec<_> = (0..count).map(|number| format!("idle-{number}")).collect();
    // A Migration claims its Service when it begins, so that each needs one of its own.
    kubernetes.create_all(names.iter().map(|name| alongside::service(name))).await;
    let mut operator = alongside::start(program, None, out, 0);
    alongside::ready(0, true).await;
    let (empty, _) = operator.memory();
    let migrations = kubernetes.follow(alongside::VERSION, alongside::KIND);
    let began = Instant::now();
    let objects = names.iter().map(|name| {
        let phases = json!([
            {"name": "agreed", "approval": "Required"},
            alongside::switch(name),
            {"name": "bake", "bake": {"for": "24h"}, "guards": [alongside::guard(name, Duration::from_secs(5))]},
        ]);
        alongside::migration(name, &phases, &json!([]))
    });
    kubernetes.create_all(objects).await;
    let created = began.elapsed();
    until(Duration::from_mins(30), "all wait", async || (migrations.count("state", "Waiting") >= count).then_some(()))
        .await;
    let waiting = began.elapsed();
    // What follows the last change has gone by then, Events too.
    tokio::time::sleep(Duration::from_secs(20)).await;

    let mut report = Report::new(format!("{count} Migrations that wait"));
    let settled = watched(kubernetes, &operator, &mut report, "after they came one by one").await;
    report.add(
        "prepared",
        format!(
            "empty {empty} KiB; created in {created:.0?}, all wait after {waiting:.0?}; open descriptors {}",
            operator.descriptors()
        ),
        json!({"emptyKiB": empty, "createdSeconds": created.as_secs_f64(), "waitingSeconds": waiting.as_secs_f64(),
            "settledKiB": settled}),
    );
    operator.kill();
    operator = alongside::start(program, None, out, 0);
    alongside::ready(0, true).await;
    tokio::time::sleep(Duration::from_secs(45)).await;
    watched(kubernetes, &operator, &mut report, "after a restart of the operator").await;
    report
}

async fn watched(kubernetes: &Kubernetes, operator: &process::Process, report: &mut Report, when: &str) -> u64 {
    let before = (kubernetes.requests().await, written().await, operator.processor_time());
    tokio::time::sleep(MINUTE).await;
    let used = operator.processor_time().saturating_sub(before.2);
    let statuses = written().await - before.1;
    let requests = kubernetes.requests().await.since(&before.0);
    let writes: Vec<_> = requests.iter().filter(|(verb, ..)| WRITES.contains(&verb.as_str())).collect();
    let (now, most) = operator.memory();
    report.add(
        when,
        format!(
            "{when}: resident {:.1} MiB (most {:.1}); CPU {used:?} a minute; status writes {statuses}; all writes that the API server had, of anyone: {writes:?}; other requests: {:?}",
            now as f64 / 1024.0,
            most as f64 / 1024.0,
            requests.iter().filter(|(verb, ..)| !WRITES.contains(&verb.as_str())).collect::<Vec<_>>()
        ),
        json!({"residentKiB": now, "mostKiB": most, "cpuMillis": used.as_millis(), "statusWrites": statuses,
            "requests": requests}),
    );
    now
}

async fn written() -> f64 {
    let text = process::get(alongside::PORT, "/metrics").await.expect("the operator's metrics can be read");
    metric(&text, "alongside_status_writes_total", |_| true)
}
