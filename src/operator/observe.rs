//! Observes the world for one decision. Talks to the API server, changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Pod},
};
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    context::{Context, now},
    plans::Frozen,
    watches::Watched,
};
use crate::{
    actions::{self, At, job, refuse, switch},
    api::{
        ABORT_ANNOTATION, APPROVE_ANNOTATION, APPROVED_BY_ANNOTATION, CHILD_FINALIZER, FINALIZER, Migration,
        MigrationStatus, PAUSE_ANNOTATION, RETRY_ANNOTATION, ROLLBACK_ANNOTATION, State, TrafficStatus, TrafficStep,
        UID_LABEL,
    },
    engine::{
        self,
        plan::{self, Action},
        world::{Finding, JobView, Lifecycle, Preflight, ServiceView, Sight, Verbs, Weight, World},
    },
    guards::WatchKey,
};

/// How long an answer of preflight stands before it is asked again.
const PREFLIGHT_AGE: Duration = Duration::from_secs(15);

/// How long an answer stands to whether the way back would be taken.
const WAY_BACK_AGE: Duration = Duration::from_mins(1);

/// How closely to look at traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// At the API server: before any step forward.
    Live,
    /// At the caches: lane 1 waits for nothing, and its writes are compare-and-swap.
    Cached,
}

/// The plans that a look may need.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The frozen one, if it could be read.
    pub frozen: Option<&'a Frozen>,
    /// Whether another one is stored in its place.
    pub foreign: bool,
    /// What the spec would freeze to, or why not.
    pub candidate: Result<&'a Frozen, &'a [Finding]>,
}

impl Known<'_> {
    fn plan(&self) -> Option<&Frozen> {
        self.frozen.or(self.candidate.ok())
    }
}

/// Observes everything that a decision looks at.
pub async fn world(migration: &Migration, known: Known<'_>, look: Look, ctx: &Context) -> World {
    let mut world = at_hand(migration, known, ctx);
    let status = migration.status.clone().unwrap_or_default();
    let services = services_of(migration, known);
    match look {
        Look::Cached => {
            let uid = world.uid.clone();
            world.services = services.iter().map(|w| (w.service.clone(), ctx.traffic.cached(&uid, w))).collect();
        }
        Look::Live => {
            let namespace = world.namespace.clone();
            let looks = services
                .iter()
                .map(|watched| async { (watched.service.clone(), ctx.traffic.live(&namespace, watched).await) });
            let services: BTreeMap<String, Sight<ServiceView>> =
                futures::future::join_all(looks).await.into_iter().collect();
            world.services = services;
            let awaited = awaited_jobs(migration);
            let jobs = jobs(migration, &world.uid, &awaited, ctx).await;
            world.jobs_seen = jobs.is_some();
            (world.jobs, world.stuck) = jobs.unwrap_or_default();
            if asks_for_a_plan(&status, known) {
                world.preflight = preflight(migration, known, ctx).await;
            }
            world.way_back_denied = way_back_denied(&status, &world, ctx).await;
            if world.lifecycle == Lifecycle::Deleting && namespace_is_going(migration, ctx).await {
                world.lifecycle = Lifecycle::NamespaceTerminating;
            }
            world.jobs_refused = ctx.memories.with(&world.uid, |memory| {
                memory.jobs_refused.retain(|name, _| awaited.contains(name));
                memory.jobs_refused.values().next().cloned()
            });
        }
    }
    world
}

/// Which ways back would be refused now: rights can be lost and policies can come while the old side is kept.
async fn way_back_denied(status: &MigrationStatus, world: &World, ctx: &Context) -> BTreeMap<String, String> {
    let moved: Vec<_> = status.traffic.iter().filter(|traffic| engine::has_flipped(traffic.step)).collect();
    if moved.is_empty() {
        return BTreeMap::new();
    }
    let known = ctx.memories.with(&world.uid, |memory| {
        let fresh = memory.way_back.as_ref().filter(|(asked, _)| asked.elapsed() < WAY_BACK_AGE);
        fresh.map(|(_, denied)| denied.clone())
    });
    if let Some(denied) = known {
        return denied;
    }
    let mut denied = BTreeMap::new();
    for traffic in moved {
        let why = switch::why_not_back(&ctx.client, &world.namespace, &traffic.service, &traffic.from).await;
        denied.extend(why.map(|why| (traffic.service.clone(), why)));
    }
    ctx.memories.with(&world.uid, |memory| memory.way_back = Some((Instant::now(), denied.clone())));
    denied
}

/// Whether the next step is the begin of a phase, where a changed spec is taken over.
pub fn boundary(status: &MigrationStatus) -> bool {
    use crate::api::PhaseState;
    let next = status.phases.iter().find(|phase| phase.state != PhaseState::Done);
    next.is_none_or(|phase| phase.state == PhaseState::Pending)
}

/// Whether a plan is about to be taken over, the first or a changed one. What waits under its plan is asked nothing:
/// preflight's questions are requests that the API server counts as writes, even though they change nothing.
fn asks_for_a_plan(status: &MigrationStatus, known: Known<'_>) -> bool {
    match (&status.plan, known.candidate) {
        (None, _) => true,
        (Some(plan), Ok(candidate)) => boundary(status) && plan.hash != candidate.plan.hash,
        (Some(_), Err(_)) => false,
    }
}

/// What needs no request: the object itself, the board, the drains.
fn at_hand(migration: &Migration, known: Known<'_>, ctx: &Context) -> World {
    let uid = migration.uid().unwrap_or_default();
    let board = ctx.board.look(&uid, now());
    World {
        name: migration.name_any(),
        namespace: migration.namespace().unwrap_or_default(),
        generation: migration.metadata.generation.unwrap_or(0),
        until: migration.spec.until.clone(),
        deletion_policy: migration.spec.deletion_policy,
        finalizer: migration.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
        lifecycle: lifecycle(migration),
        verbs: verbs(migration),
        adopt: migration.spec.adopt.clone(),
        plan_stored: known.frozen.is_some(),
        plan_foreign: known.foreign,
        guards: board.guards,
        guarded_since: board.guarded_since,
        baselines: board.baselines,
        observation: board.observation,
        drains: ctx.drains.look(&uid),
        work: ctx.workers.look(&uid).into_iter().chain(ctx.agents.work(&uid)).collect(),
        agents: ctx.agents.look(&uid),
        denied: ctx.memories.with(&uid, |memory| memory.denied.clone()),
        uid,
        ..World::default()
    }
}

fn lifecycle(migration: &Migration) -> Lifecycle {
    match migration.metadata.deletion_timestamp {
        Some(_) => Lifecycle::Deleting,
        None => Lifecycle::Alive,
    }
}

/// What people have asked for by annotation.
fn verbs(migration: &Migration) -> Verbs {
    let read = |name: &str| migration.annotations().get(name).cloned();
    Verbs {
        approve: read(APPROVE_ANNOTATION),
        approved_by: read(APPROVED_BY_ANNOTATION),
        pause: read(PAUSE_ANNOTATION),
        abort: read(ABORT_ANNOTATION),
        rollback: read(ROLLBACK_ANNOTATION),
        retry: read(RETRY_ANNOTATION),
    }
}

/// Whether it needs no look, by what the caches hold: the cache of Migrations isn't behind what it takes for granted, for
/// whoever goes on changes the Migration first.
pub fn rests(migration: &Migration, ctx: &Context) -> bool {
    // Whatever else may be wrong with it, a Job that we still hold wants to be looked at.
    let uid = migration.uid();
    let is_held = |job: &Job| {
        job.labels().get(UID_LABEL) == uid.as_ref() && job.finalizers().iter().any(|name| name == CHILD_FINALIZER)
    };
    may_rest(migration) && ctx.readiness.has_reached("jobs") && ctx.jobs.find(is_held).is_none()
}

/// Whether a Migration needs no look, by all that it says itself.
pub fn may_rest(migration: &Migration) -> bool {
    let generation = migration.metadata.generation.unwrap_or(0);
    let status = migration.status.as_ref();
    status.is_some_and(|status| engine::rests(status, generation, lifecycle(migration), &verbs(migration)))
}

/// Every Service that status or plan speaks of.
pub fn services_of(migration: &Migration, known: Known<'_>) -> Vec<Watched> {
    let status = migration.status.as_ref();
    let mut services: Vec<Watched> = status.iter().flat_map(|status| &status.traffic).map(Watched::from).collect();
    for phase in known.plan().into_iter().flat_map(|frozen| frozen.plan.phases()) {
        let Action::Switch(switch) = plan::action(phase) else { continue };
        for service in switch.service_names() {
            if services.iter().all(|watched| watched.service != service) {
                let (from, to) = (switch.from.clone(), switch.to.clone());
                services.push(Watched { service: service.to_owned(), from, to });
            }
        }
    }
    services
}

/// The Services of which every change must be heard at once: those whose traffic has moved, or is next to.
///
/// A Migration that waits for a person with its Services where they were needs none: the step that follows looks for
/// itself. Three watches each, of ten thousand that wait, would be more connections than the API server bears.
pub fn services_under_way(migration: &Migration) -> Vec<Watched> {
    let Some(status) = &migration.status else { return Vec::new() };
    let waits = status.state == State::Waiting;
    let is_next = |traffic: &TrafficStatus| !waits && status.phase.as_ref() == Some(&traffic.phase);
    let under_way = status.traffic.iter().filter(|traffic| match traffic.step {
        TrafficStep::FlipIntended
        | TrafficStep::Flipped
        | TrafficStep::Confirmed
        | TrafficStep::Drained
        | TrafficStep::BackIntended
        | TrafficStep::Back
        | TrafficStep::BackDrained => true,
        TrafficStep::Unclaimed
        | TrafficStep::ClaimIntended
        | TrafficStep::Claimed
        | TrafficStep::ReleaseIntended
        | TrafficStep::Released => is_next(traffic),
    });
    under_way.map(Watched::from).collect()
}

/// The Migration's Jobs, with what their pods reported once they have ended, and why those that should run by now don't.
/// `None` if not all of the Jobs and reports could be seen.
///
/// A Job that status waits for and the cache doesn't hold is asked for live: a new leader's cache may be behind what its
/// predecessor saw, and a Job taken for vanished would be run again.
async fn jobs(
    migration: &Migration,
    uid: &str,
    awaited: &BTreeSet<String>,
    ctx: &Context,
) -> Option<(BTreeMap<String, JobView>, BTreeMap<String, String>)> {
    // A cache that has not been filled yet shows nothing, and that must not look like Jobs that are gone.
    if !ctx.readiness.has_reached("jobs") {
        return None;
    }
    let namespace = migration.namespace().unwrap_or_default();
    let mine = |job: &Job| {
        job.labels().get(UID_LABEL).map(String::as_str) == Some(uid) && job.namespace().as_deref() == Some(&namespace)
    };
    let mut jobs: BTreeMap<String, Arc<Job>> =
        ctx.jobs.state_filter(mine).into_iter().map(|job| (job.name_any(), job)).collect();
    let live: Api<Job> = Api::namespaced(ctx.client.clone(), &namespace);
    for name in awaited {
        if jobs.contains_key(name) {
            continue;
        }
        match live.get_opt(name).await {
            Ok(Some(job)) => drop(jobs.insert(name.clone(), Arc::new(job))),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(job = name, %error, "a Job could not be read");
                return None;
            }
        }
    }
    let pods: Api<Pod> = Api::namespaced(ctx.client.clone(), &namespace);
    let (mut views, mut stuck) = (BTreeMap::new(), BTreeMap::new());
    for (name, job) in jobs {
        let ended = job::has_ended(&job) || job.metadata.deletion_timestamp.is_some();
        let awaited = awaited.contains(&name);
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
        let reported = if ended && awaited { pods.list(&of_job).await.ok()?.items } else { Vec::new() };
        if !ended && awaited && job::has_yet_to_run(&job) {
            let seen = pods.list(&of_job).await.map(|pods| pods.items).unwrap_or_default();
            stuck.extend(job::stuck(&seen).map(|why| (name.clone(), why)));
        }
        let view = job::view(&job, uid, &reported);
        views.insert(name, view);
    }
    Some((views, stuck))
}

/// Names of the Jobs whose outcome status still waits for.
fn awaited_jobs(migration: &Migration) -> BTreeSet<String> {
    let status = migration.status.iter();
    status.flat_map(MigrationStatus::awaited_jobs).map(|job| job.name.clone()).collect()
}

async fn namespace_is_going(migration: &Migration, ctx: &Context) -> bool {
    let api: Api<Namespace> = Api::all(ctx.client.clone());
    match api.get_opt(&migration.namespace().unwrap_or_default()).await {
        Ok(Some(namespace)) => namespace.metadata.deletion_timestamp.is_some(),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Asks the cluster what can be asked before the first effect; an answer stands for a while.
async fn preflight(migration: &Migration, known: Known<'_>, ctx: &Context) -> Preflight {
    let Ok(candidate) = known.candidate else { return Preflight::default() };
    let uid = migration.uid().unwrap_or_default();
    let hash = &candidate.plan.hash;
    let fresh = ctx.memories.with(&uid, |memory| {
        let known = memory.preflight.as_ref();
        known.filter(|(of, at, _)| of == hash && at.elapsed() < PREFLIGHT_AGE).map(|(_, _, found)| found.clone())
    });
    if let Some(found) = fresh {
        return found;
    }
    let status = migration.status.clone().unwrap_or_default();
    let mut findings = ctx.board.preflight(migration);
    for (index, phase) in candidate.plan.phases().iter().enumerate() {
        let begun = status
            .phases
            .iter()
            .any(|known| known.name == phase.name && known.state != crate::api::PhaseState::Pending);
        // A phase that has begun has been asked about before.
        if !begun {
            findings.extend(
                actions::preflight(
                    At { migration, spec: &candidate.plan.spec, index, phase },
                    &ctx.client,
                    &ctx.config.image,
                )
                .await,
            );
        }
    }
    findings.extend(duplicates(candidate));
    findings.sort_by_key(|finding| finding.weight);
    for finding in findings.iter().filter(|finding| finding.weight == Weight::Warn) {
        tracing::warn!(migration = migration.name_any(), path = finding.path, "{}", finding.message);
    }
    let found = Preflight { asked: true, findings };
    ctx.memories.with(&uid, |memory| memory.preflight = Some((hash.clone(), Instant::now(), found.clone())));
    found
}

/// Services that two phases would switch; the schema sees only the plain case.
fn duplicates(candidate: &Frozen) -> Vec<Finding> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for (index, phase) in candidate.plan.phases().iter().enumerate() {
        let Action::Switch(switch) = plan::action(phase) else { continue };
        for service in switch.service_names() {
            if let Some(first) = seen.insert(service.to_owned(), index) {
                let path = format!("spec.phases[{index}].switch");
                findings.push(refuse(path, format!("Service {service} is switched by spec.phases[{first}] already")));
            }
        }
    }
    findings
}

/// The board's key of a Migration.
pub fn watch_key(migration: &Migration) -> WatchKey {
    WatchKey {
        namespace: migration.namespace().unwrap_or_default(),
        name: migration.name_any(),
        uid: migration.uid().unwrap_or_default(),
    }
}

/// Whether a Migration is past everything that needs watching.
pub fn has_ended(migration: &Migration) -> bool {
    let state = migration.status.as_ref().map(|status| status.state).unwrap_or_default();
    match state {
        State::Succeeded | State::RolledBack => true,
        State::Pending | State::Preflight | State::Running | State::Waiting | State::RollingBack | State::Stalled => {
            false
        }
    }
}
