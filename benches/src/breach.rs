//! From the moment in which a query would show the breach to the moment in which a watch tells that the Service selects
//! the old side again. Both are measured in the same way, at the same time, on the same cluster.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    alongside, argo,
    figures::{Report, Spread},
    kubernetes::{Followed, Kubernetes},
    node,
    process::Process,
    source::Source,
    wait::{LONG, fraction, until},
};

/// What to measure.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Of guards, analyses and scrapes.
    pub interval: Duration,
    /// Other guarded objects of each kind.
    pub beside: usize,
    /// Rollbacks of each kind.
    pub rollbacks: usize,
    /// Objects that are prepared together.
    pub batch: usize,
}

impl Plan {
    /// Long enough after a flip for polls to know the rhythm of samples: three of them and a bit.
    fn settle(&self) -> Duration {
        self.interval * 3 + Duration::from_millis(300)
    }

    /// At any point of an interval, so that breaches keep step with nobody's polls.
    fn anywhen(&self) -> Duration {
        Duration::from_millis(50) + self.interval.mul_f64(fraction())
    }

    fn rounds(&self) -> usize {
        self.rollbacks.div_ceil(self.batch)
    }
}

/// One rollback.
struct Sample {
    visible: Instant,
    told: Option<Instant>,
    patched: Instant,
}

/// Measures both, or Alongside alone.
pub async fn measure(
    kubernetes: &Kubernetes,
    operator: &Path,
    argo_program: Option<&Path>,
    prometheus: Option<&Path>,
    out: &Path,
    plan: Plan,
) -> Report {
    node::start(kubernetes).await;
    alongside::pods(kubernetes).await;
    let source = Source::start(plan.interval, prometheus, out).await;
    let migrations = kubernetes.follow(alongside::VERSION, alongside::KIND);
    let operator = alongside::start(operator, Some(&source), out, 0);
    alongside::ready(0, true).await;
    let controller = argo_program.map(|program| argo::start(program, out));
    prepare_others(kubernetes, &source, &migrations, controller.is_some(), plan).await;
    tokio::time::sleep(plan.settle()).await;

    let (queries, began) = (source.queries(), Instant::now());
    let (ours, theirs) = (operator.processor_time(), controller.as_ref().map(Process::processor_time));
    let argo_rollbacks = async {
        match &controller {
            Some(_) => of_argo(kubernetes, &source, plan).await,
            None => Vec::new(),
        }
    };
    // Whoever is done first stays up, so that the other isn't measured on a machine that has become quieter.
    let (of_alongside, of_argo) = tokio::join!(of_alongside(kubernetes, &source, &migrations, plan), argo_rollbacks);

    let took = began.elapsed().as_secs_f64();
    let rate = (source.queries() - queries) as f64 / took;
    let kind = if prometheus.is_some() { "Prometheus" } else { "the controlled source" };
    let mut report = Report::new(format!(
        "Breach visible to Service patched: interval and scrape {:?} of {kind}, beside {} others of each kind",
        plan.interval, plan.beside
    ));
    say(&mut report, "Alongside", &of_alongside);
    if controller.is_some() {
        say(&mut report, "Argo Rollouts", &of_argo);
    }
    let cpu = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() / took * 100.0;
    let ours = cpu(operator.processor_time(), ours);
    let theirs = controller.as_ref().zip(theirs).map(|(process, before)| cpu(process.processor_time(), before));
    let memory = (operator.memory().0, controller.as_ref().map(|process| process.memory().0));
    report.add(
        "load",
        format!(
            "in {took:.0} s: {rate:.0} queries/s; CPU of a core: Alongside {ours:.1} %, Argo {theirs:.1?} %; KiB: {memory:?}"
        ),
        json!({"seconds": took, "queriesPerSecond": rate, "cpuAlongside": ours, "cpuArgo": theirs,
            "memory": [memory.0, memory.1]}),
    );
    report
}

fn say(report: &mut Report, who: &str, samples: &[Sample]) {
    let whole = Spread::of(samples.iter().map(|sample| sample.patched.saturating_duration_since(sample.visible)));
    report.add(who, whole.line(who), whole.data());
    let seen = samples.iter().filter_map(|sample| Some(sample.told?.saturating_duration_since(sample.visible)));
    let acted = samples.iter().filter_map(|sample| Some(sample.patched.saturating_duration_since(sample.told?)));
    for (part, spread) in [("visible to asked", Spread::of(seen)), ("answered to patched", Spread::of(acted))] {
        report.add(&format!("{who}: {part}"), spread.line(&format!("  {part}")), spread.data());
    }
}

async fn prepare_others(kubernetes: &Kubernetes, source: &Source, migrations: &Followed, with_argo: bool, plan: Plan) {
    let names: Vec<_> = (0..plan.beside).map(|number| format!("other-{number}")).collect();
    for name in &names {
        source.healthy(name);
    }
    kubernetes.create_all(names.iter().map(|name| alongside::service(name))).await;
    let objects = names.iter().map(|name| {
        let [_, migration] = alongside::guarded(name, plan.interval);
        migration
    });
    kubernetes.create_all(objects).await;
    for name in &names {
        alongside::bakes(migrations, name).await;
    }
    if with_argo {
        argo::template(kubernetes, source, plan.interval).await;
        let runs = names.iter().map(|name| argo::analysis(&format!("argo-{name}"), source, plan.interval));
        kubernetes.create_all(runs).await;
    }
}

async fn of_alongside(kubernetes: &Kubernetes, source: &Source, migrations: &Followed, plan: Plan) -> Vec<Sample> {
    let mut samples = Vec::new();
    for round in 0..plan.rounds() {
        // What begins right after the last rollback would keep step with the samples that it came with.
        tokio::time::sleep(plan.anywhen()).await;
        let ids: Vec<_> = (0..plan.batch).map(|number| format!("a-{round}-{number}")).collect();
        for id in &ids {
            source.healthy(id);
            kubernetes.create_all(alongside::guarded(id, plan.interval)).await;
        }
        for id in &ids {
            alongside::bakes(migrations, id).await;
        }
        tokio::time::sleep(plan.settle()).await;
        for id in &ids {
            tokio::time::sleep(plan.anywhen()).await;
            let visible = source.breach(id).await;
            let patched = selects(kubernetes, id, "version", "v1").await;
            samples.push(Sample { visible, told: source.told(id), patched });
        }
    }
    samples
}

async fn of_argo(kubernetes: &Kubernetes, source: &Source, plan: Plan) -> Vec<Sample> {
    let rollouts = kubernetes.follow(argo::VERSION, "Rollout");
    let ids: Vec<_> = (0..plan.batch).map(|number| format!("r-{number}")).collect();
    for id in &ids {
        source.healthy(id);
        kubernetes.create_all(argo::guarded(id)).await;
    }
    let mut stable = Vec::new();
    for id in &ids {
        let healthy = async || (rollouts.field(id, "phase").as_deref() == Some("Healthy")).then_some(());
        until(LONG, "the Rollout is healthy", healthy).await;
        let hash = until(LONG, "the Service selects a revision", async || selected(kubernetes, id)).await;
        stable.push(hash);
    }
    let mut samples = Vec::new();
    let mut last_runs = vec![None; ids.len()];
    for round in 1..=plan.rounds() {
        for id in &ids {
            // As above: each analysis begins at a time of its own.
            tokio::time::sleep(plan.anywhen()).await;
            source.healthy(id);
            argo::roll_out(kubernetes, id, round).await;
        }
        for ((id, stable), last_run) in ids.iter().zip(&stable).zip(&mut last_runs) {
            until(LONG, "the new revision is promoted", async || {
                selected(kubernetes, id).filter(|hash| hash != stable).map(drop)
            })
            .await;
            let run = until(LONG, "the analysis runs", async || {
                let status = rollouts.status(id)?;
                let run = &status["blueGreen"]["postPromotionAnalysisRunStatus"];
                let name = run["name"].as_str().map(ToOwned::to_owned);
                (run["status"] == "Running" && name != *last_run).then_some(name)
            })
            .await;
            *last_run = run;
        }
        tokio::time::sleep(plan.settle()).await;
        for (id, stable) in ids.iter().zip(&stable) {
            tokio::time::sleep(plan.anywhen()).await;
            let visible = source.breach(id).await;
            let patched = selects(kubernetes, id, argo::SELECTED_BY, stable).await;
            samples.push(Sample { visible, told: source.told(id), patched });
        }
    }
    samples
}

fn selected(kubernetes: &Kubernetes, service: &str) -> Option<String> {
    kubernetes.selector(service).and_then(|(selector, _)| selector.get(argo::SELECTED_BY).cloned())
}

/// Waits until a Service selects by this, and returns when the watch told so.
pub async fn selects(kubernetes: &Kubernetes, service: &str, key: &str, value: &str) -> Instant {
    until(LONG, "the Service selects the old side again", async || {
        let (selector, at) = kubernetes.selector(service)?;
        (selector.get(key).map(String::as_str) == Some(value)).then_some(at)
    })
    .await
}
