//! Phases: how far each is, what works for it, and what comes.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::ResourceExt as _;

use super::{
    super::{
        super::{
            look::{Tone, align},
            words::{grouped, labels, short, sign_of, word_of},
        },
        gauge::{bar, curve},
    },
    Page, Seen,
};
use crate::{
    api::{JobRef, Migration, MigrationStatus, Phase, PhaseState, PhaseStatus, Span, Time, WorkStatus},
    engine::plan::{self, Action},
};

/// Values that a curve needs to say something.
const LEAST_CURVE: usize = 2;

/// Shows all phases of the plan, or of the spec where nothing has begun.
pub fn show(page: &mut Page, seen: &Seen, migration: &Migration, status: &MigrationStatus, now: Time) {
    page.title("PHASES");
    let spec = &migration.spec.phases;
    let pending: Vec<PhaseStatus> = spec
        .iter()
        .filter(|phase| status.phases.iter().all(|known| known.name != phase.name))
        .map(|phase| PhaseStatus {
            name: phase.name.clone(),
            kind: plan::action(phase).kind().to_owned(),
            ..PhaseStatus::default()
        })
        .collect();
    let phases: Vec<_> = status.phases.iter().chain(&pending).collect();
    let of = |phase: &PhaseStatus| spec.iter().find(|known| known.name == phase.name);
    let look = page.look;
    let rows: Vec<Vec<String>> = phases
        .iter()
        .map(|phase| {
            let (sign, tone) = sign_of(phase.state);
            let present = status.phase.as_deref() == Some(&phase.name);
            let name = if present { look.paint(Tone::Strong, &phase.name) } else { phase.name.clone() };
            vec![
                look.paint(tone, sign),
                name,
                look.paint(Tone::Faint, &phase.kind),
                look.paint(tone, word_of(phase.state)),
                facts(phase, of(phase), now).join("  "),
            ]
        })
        .collect();
    for (line, phase) in align(&rows).iter().zip(phases) {
        page.line(0, line);
        details(page, seen, phase, of(phase), now);
    }
}

/// What is worth knowing of a phase in its own line.
fn facts(phase: &PhaseStatus, spec: Option<&Phase>, now: Time) -> Vec<String> {
    let mut facts = Vec::new();
    match (phase.started_at, phase.finished_at) {
        (Some(began), Some(ended)) => facts.push(format!("took {}", short(ended.since(began)))),
        (Some(began), None) => facts.push(format!("for {}", short(now.since(began)))),
        (None, _) => {}
    }
    facts.extend((phase.tries > 1).then(|| format!("try {}", phase.tries)));
    facts.extend((phase.undo_tries > 1).then(|| format!("undo try {}", phase.undo_tries)));
    facts.extend((phase.cleanup_tries > 1).then(|| format!("clean-up try {}", phase.cleanup_tries)));
    facts.extend(spec.and_then(aim));
    if let Some(spec) = spec.filter(|_| phase.state == PhaseState::Pending) {
        facts.extend(plan::needs_approval(spec).then(|| "asks for approval".to_owned()));
        facts.extend(spec.point_of_no_return.then(|| "point of no return".to_owned()));
    } else if phase.point_of_no_return {
        facts.push("point of no return".to_owned());
    }
    facts
}

/// What an action is about, in a few words.
pub fn aim(phase: &Phase) -> Option<String> {
    match plan::action(phase) {
        Action::Switch(switch) => {
            let services = switch.service_names().join(", ");
            Some(format!("{services}: {} → {}", labels(&switch.from), labels(&switch.to)))
        }
        Action::Backfill(backfill) => Some(format!("table {}", backfill.table)),
        Action::Replicate(replicate) => {
            Some(format!("{} → {}: {}", replicate.from, replicate.to, replicate.tables.join(", ")))
        }
        Action::Bake(bake) => Some(format!("{} of guarded time", short(bake.for_))),
        Action::Observe(observe) => Some(format!("must hold for {}", short(observe.for_))),
        Action::Sql(_) | Action::Job(_) | Action::Verify(_) | Action::Approval => None,
    }
}

fn details(page: &mut Page, seen: &Seen, phase: &PhaseStatus, spec: Option<&Phase>, now: Time) {
    let look = page.look;
    if let Some(work) = &phase.work {
        page.line(3, &work_line(work, phase.state));
        let heard = seen.heard.get(&format!("phase/{}", phase.name)).filter(|heard| heard.len() >= LEAST_CURVE);
        if let Some(heard) = heard {
            page.line(3, &look.paint(Tone::Faint, format!("{}  rows/s, as status heard of them", curve(heard))));
        }
        if let Some(why) = &work.throttled {
            page.line(3, &look.paint(Tone::Warn, format!("held back: {why}")));
        }
    }
    if let Some(line) = baking(phase, spec, now) {
        page.line(3, &line);
    }
    if let Some(why) = &phase.paused {
        page.line(3, &look.paint(Tone::Warn, format!("its worker rests: {why}")));
    }
    if let Some(at) = phase.retry_at.filter(|at| *at > now) {
        page.line(3, &look.paint(Tone::Warn, format!("is tried again in {}", short(at.since(now)))));
    }
    if let Some(message) = &phase.message {
        let tone = if phase.state == PhaseState::Failed { Tone::Bad } else { Tone::Faint };
        page.line(3, &look.paint(tone, message));
    }
    let refs = [
        ("Job", &phase.job),
        ("Job that takes it back", &phase.undo_job),
        ("Job that asks its store", &phase.preflight_job),
        ("Job that clears away", &phase.cleanup_job),
    ];
    for (what, job) in refs {
        let Some(job) = job.as_ref().filter(|job| !job.settled) else { continue };
        show_job(page, seen, what, job);
    }
}

fn work_line(work: &WorkStatus, state: PhaseState) -> String {
    let mut facts = Vec::new();
    if let Some(total) = work.total.filter(|total| *total > 0) {
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let share = work.done as f64 / total as f64;
        // An estimate may be too low or too high: what still works isn't done, and what is done is.
        let share = if state == PhaseState::Done { 1.0 } else { share.min(0.999) };
        facts.push(format!("{} {:>2.0} %", bar(share), (share * 100.0).floor()));
        facts.push(format!("{} of about {} rows", grouped(work.done), grouped(total)));
    } else if work.done > 0 {
        facts.push(format!("{} rows", grouped(work.done)));
    }
    facts.extend((work.rate > 0).then(|| format!("{} rows/s", grouped(work.rate))));
    facts.extend(work.eta.map(|eta| format!("{} left", short(eta))));
    facts.extend(work.lag.map(|lag| format!("{} behind", short(lag))));
    facts.extend((!work.stage.is_empty()).then(|| work.stage.clone()));
    facts.join("  ")
}

/// How far a bake is. Status has a figure at every checkpoint only, so what is shown is the least that is sure.
fn baking(phase: &PhaseStatus, spec: Option<&Phase>, now: Time) -> Option<String> {
    if phase.state != PhaseState::Running {
        return None;
    }
    let wanted = spec?.bake.as_ref()?.for_;
    let baked = phase.baked.unwrap_or_default();
    let share = baked.0.as_secs_f64() / wanted.0.as_secs_f64().max(0.001);
    let left = Span(wanted.0.saturating_sub(baked.0));
    let written = phase.baked_at.or(phase.started_at).map(|at| format!(" {} ago", short(now.since(at))));
    Some(format!(
        "{} {:>2.0} %  {} of {} baked, {} left, as written down{}",
        bar(share),
        (share * 100.0).floor(),
        short(baked),
        short(wanted),
        short(left),
        written.unwrap_or_default(),
    ))
}

fn show_job(page: &mut Page, seen: &Seen, what: &str, known: &JobRef) {
    let look = page.look;
    let job = seen.jobs.iter().find(|job| job.name_any() == known.name);
    let state = match job {
        Some(job) => job_word(job),
        None if known.uid.is_none() => "announced".to_owned(),
        None => "not there".to_owned(),
    };
    page.line(2, &look.paint(Tone::Faint, format!("└ {what} {}  {state}", known.name)));
    let Some(uid) = job.and_then(kube::ResourceExt::uid) else { return };
    let owned = |pod: &&Pod| pod.owner_references().iter().any(|owner| owner.uid == uid);
    let mut pods: Vec<_> = seen.pods.iter().filter(owned).collect();
    pods.sort_by_key(|pod| pod.name_any());
    for pod in pods {
        page.line(3, &look.paint(Tone::Faint, format!("└ pod {}  {}", pod.name_any(), pod_word(pod))));
    }
}

fn job_word(job: &Job) -> String {
    let Some(status) = &job.status else { return "made".to_owned() };
    let ended = status.conditions.iter().flatten().find(|condition| condition.status == "True");
    if let Some(condition) = ended.filter(|condition| ["Complete", "Failed"].contains(&condition.type_.as_str())) {
        return condition.type_.to_lowercase();
    }
    let counts = [("active", status.active), ("succeeded", status.succeeded), ("failed", status.failed)];
    let shown: Vec<_> = counts
        .iter()
        .filter_map(|(word, count)| count.filter(|count| *count > 0).map(|count| format!("{count} {word}")))
        .collect();
    if shown.is_empty() { "no pod yet".to_owned() } else { shown.join(", ") }
}

fn pod_word(pod: &Pod) -> String {
    let Some(status) = &pod.status else { return "made".to_owned() };
    let containers = status.container_statuses.iter().flatten();
    let waits = containers.clone().find_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let restarts: i32 = containers.map(|container| container.restart_count).sum();
    let phase = waits.or_else(|| status.phase.clone()).unwrap_or_default();
    if restarts > 0 { format!("{phase}  {restarts} restarts") } else { phase }
}
