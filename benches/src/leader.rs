//! The leader dies, by SIGKILL, in the moment in which a breach becomes visible. A standby takes traffic back.

use std::{path::Path, time::Duration};

use crate::{
    alongside,
    breach::selects,
    figures::{Report, Spread},
    kubernetes::Kubernetes,
    node,
    source::Source,
    wait::fraction,
};

/// Of guards and scrapes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Measures it so many times, the two operators taking turns.
pub async fn measure(kubernetes: &Kubernetes, program: &Path, out: &Path, rollbacks: usize) -> Report {
    node::start(kubernetes).await;
    alongside::pods(kubernetes).await;
    let source = Source::start(INTERVAL, None, out).await;
    let migrations = kubernetes.follow(alongside::VERSION, alongside::KIND);
    let mut leader = (0, alongside::start(program, Some(&source), out, 0));
    alongside::ready(0, true).await;
    let mut standby = (1, alongside::start(program, Some(&source), out, 1));
    alongside::ready(1, false).await;
    let mut times = Vec::new();
    let mut too_late = 0;
    for round in 0..rollbacks {
        let id = format!("l-{round}");
        source.healthy(&id);
        kubernetes.create_all(alongside::guarded(&id, INTERVAL)).await;
        alongside::bakes(&migrations, &id).await;
        tokio::time::sleep(INTERVAL.mul_f64(4.0 + fraction())).await;
        let visible = source.breach(&id).await;
        let told = source.told(&id).is_some();
        leader.1.kill();
        // If it was faster than its death, this wasn't the case in question.
        let patched = selects(kubernetes, &id, "version", "v1").await;
        if told {
            too_late += 1;
        } else {
            times.push(patched.duration_since(visible));
        }
        alongside::ready(standby.0, true).await;
        let number = leader.0;
        leader = standby;
        standby = (number, alongside::start(program, Some(&source), out, number));
        alongside::ready(number, false).await;
    }
    let mut report = Report::new("Leader killed in the moment of the breach".to_owned());
    let spread = Spread::of(times);
    report.add("Alongside", spread.line("breach visible to Service patched by the standby"), spread.data());
    report.add("left out", format!("left out, as the leader had asked before it died: {too_late}"), too_late.into());
    report
}
