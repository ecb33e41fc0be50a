//! Many Migrations at once, from their creation through a switch and a short bake to their success.

use std::{path::Path, time::Instant};

use serde_json::json;

use crate::{
    alongside,
    figures::Report,
    kubernetes::Kubernetes,
    node,
    wait::{LONG, until},
};

/// Measures it.
pub async fn measure(kubernetes: &Kubernetes, program: &Path, out: &Path, count: usize) -> Report {
    node::start(kubernetes).await;
    alongside::pods(kubernetes).await;
    let names: Vec<_> = (0..count).map(|number| format!("go-{number}")).collect();
    kubernetes.create_all(names.iter().map(|name| alongside::service(name))).await;
    let objects = names.iter().map(|name| {
        let phases = json!([alongside::switch(name), {"name": "bake", "bake": {"for": "1s"}}]);
        alongside::migration(name, &phases, &json!([]))
    });
    kubernetes.create_all(objects).await;
    let migrations = kubernetes.follow(alongside::VERSION, alongside::KIND);
    // They are all there before the operator is, and so begin together.
    let before = kubernetes.requests().await;
    let operator = alongside::start(program, None, out, 0);
    alongside::ready(0, true).await;
    let began = Instant::now();
    until(LONG, "all have succeeded", async || (migrations.count("state", "Succeeded") >= count).then_some(())).await;
    let took = began.elapsed();
    let requests = kubernetes.requests().await.since(&before);
    let used = operator.processor_time();
    let all: u64 = requests.iter().map(|(.., number)| number).sum();
    let mut report = Report::new(format!("{count} Migrations advancing at once"));
    report.add(
        "took",
        format!(
            "took {took:.1?} from leading to the last success; operator's CPU {used:?}, most memory {} KiB; {:.1} requests a Migration, {:.0} a second, of everyone's",
            operator.memory().1,
            all as f64 / count as f64,
            all as f64 / took.as_secs_f64()
        ),
        json!({"seconds": took.as_secs_f64(), "cpuSeconds": used.as_secs_f64(), "requests": requests}),
    );
    for (verb, resource, number) in &requests {
        report.add(&format!("{verb} {resource}"), format!("  {verb} {resource}: {number}"), json!(number));
    }
    report
}
