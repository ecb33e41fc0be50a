//! One reconcile: read the plan, look at the world, decide, write it down, do it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{Api, ResourceExt, runtime::controller::Action};

use super::{
    agents, caches,
    context::{Context, Memory, Shared, now},
    effects::{EffectError, Performer},
    lane1,
    observe::{self, Known, Look},
    plans::{self, Frozen, PlanError},
    record::{self, RecordError},
    workers,
};
use crate::{
    actions::switch::PatchError,
    api::{Migration, Span, TrafficStep},
    engine::{Plans, decide, has_flipped, plan, plan::Action as PhaseAction, world::Finding},
    guards::WatchSet,
};

/// How long after a flip guards are asked whenever a sample is due.
const HOT_WINDOW: Span = Span::secs(600);
/// How often a Migration is looked at that waits for a person and for nothing else.
const LOOK_AT_REST: Duration = Duration::from_hours(1);

/// How long one reconcile may take: an API server that takes a request and never answers it would else keep the
/// Migration from ever being looked at again. The longest one, a preflight of 32 phases, asks some hundred questions.
const LONGEST: Duration = Duration::from_mins(1);

/// Why a reconcile ended early. The next one decides anew.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An effect.
    #[error(transparent)]
    Effect(#[from] EffectError),
    /// The Migration itself.
    #[error("the Migration could not be read")]
    Read(#[source] Box<kube::Error>),
    /// A request was not answered.
    #[error("it took longer than {} s", LONGEST.as_secs())]
    Late(#[from] tokio::time::error::Elapsed),
}

/// Reconciles one Migration.
pub async fn reconcile(migration: Arc<Migration>, ctx: Shared) -> Result<Action, ReconcileError> {
    let uid = migration.uid().unwrap_or_default();
    let began = Instant::now();
    let cancelled = ctx.memories.with(&uid, |memory| {
        memory.in_flight = tokio_util::sync::CancellationToken::new();
        memory.in_flight.clone()
    });
    let done = tokio::select! {
        biased;
        // Lane 1 has taken over, and wakes us when it is done.
        () = cancelled.cancelled() => Ok(Action::await_change()),
        done = tokio::time::timeout(LONGEST, step(&migration, &ctx)) => {
            ctx.metrics.reconcile_seconds.observe(began.elapsed().as_secs_f64());
            done.unwrap_or_else(|late| Err(late.into()))
        }
    };
    // It may have gone meanwhile, and been remembered again by this very look.
    if !ctx.holds(&migration) {
        ctx.forget(&uid);
        return Ok(Action::await_change());
    }
    if done.is_ok() {
        ctx.memories.with(&uid, |memory| memory.errors = 0);
    }
    done
}

#[tracing::instrument(name = "reconcile", skip_all, fields(migration = cached.name_any(), namespace = cached.namespace(), phase))]
async fn step(cached: &Arc<Migration>, ctx: &Context) -> Result<Action, ReconcileError> {
    if let Some(wait) = at_rest(cached, ctx) {
        return Ok(Action::requeue(wait));
    }
    let Some(migration) = up_to_date(cached, ctx).await? else { return Ok(gone(cached, ctx)) };
    if let Some(phase) = migration.status.as_ref().and_then(|status| status.phase.as_deref()) {
        tracing::Span::current().record("phase", phase);
    }
    let (frozen, foreign) = match ctx.plans.frozen(&migration, &ctx.client).await {
        Ok(frozen) => (frozen, false),
        // Traffic's way back needs no plan: all that it needs is in status.
        Err(PlanError::Foreign { .. }) => (None, true),
        Err(error @ PlanError::Api { .. }) => return Err(error.into()),
    };
    let candidate = candidate(&migration, frozen.as_ref(), ctx).await;
    let known = Known { frozen: frozen.as_deref(), foreign, candidate: candidate.as_deref().map_err(Vec::as_slice) };
    watch(&migration, known, ctx).await;
    if ctx.leadership.term().is_none() {
        // A standby keeps its caches warm and its guards polled, and writes nothing.
        return Ok(Action::await_change());
    }
    workers::attend(&migration, frozen.as_deref(), ctx);
    agents::attend(&migration, frozen.as_deref(), ctx);
    let world = observe::world(&migration, known, Look::Live, ctx).await;
    let plans = Plans {
        frozen: frozen.as_deref().map(|frozen| &frozen.plan),
        candidate: candidate.as_deref().map(|frozen| &frozen.plan).map_err(Vec::as_slice),
    };
    let decision = decide(&plans, &migration.status.clone().unwrap_or_default(), &world, now());
    let performer =
        Performer { migration: &migration, frozen: frozen.as_deref(), candidate: candidate.as_deref().ok(), ctx };
    let (moved, recorded) = tokio::join!(
        tokio::time::timeout(lane1::PATIENCE, performer.perform_now(&decision.at_once)),
        record::record(&migration, &decision, ctx)
    );
    let done = match recorded {
        Ok(recorded) => performer.perform(recorded).await,
        Err(RecordError::Gone) => return Ok(gone(&migration, ctx)),
        Err(error) => return Err(error.into()),
    };
    match moved?.and(done) {
        // What a decision was made on has changed: look again at once, nothing is wrong.
        Err(EffectError::Switch(refused @ (PatchError::Refused { .. } | PatchError::Gone { .. }))) => {
            tracing::info!(
                migration = migration.name_any(),
                namespace = migration.namespace(),
                "{refused}; nothing was written"
            );
            Ok(Action::requeue(ctx.memories.look_again(&migration.uid().unwrap_or_default())))
        }
        Err(error) => Err(error.into()),
        Ok(()) => {
            ctx.memories.with(&migration.uid().unwrap_or_default(), |memory| memory.refusals = 0);
            Ok(decision.wake.map_or_else(Action::await_change, |wake| Action::requeue(wake.0)))
        }
    }
}

/// Until when to leave a Migration alone that waits for a person and for nothing else. After that long it is looked at
/// once, for whatever nobody has told us of; at another moment for each, or ten thousand would be looked at together.
fn at_rest(cached: &Migration, ctx: &Context) -> Option<Duration> {
    let uid = cached.uid().unwrap_or_default();
    let is_behind = ctx.memories.with(&uid, |memory| is_behind(memory, cached));
    if is_behind || !observe::rests(cached, ctx) {
        ctx.memories.with(&uid, |memory| memory.look_at = None);
        return None;
    }
    let now = Instant::now();
    let left = ctx.memories.with(&uid, |memory| {
        let look_at = *memory.look_at.get_or_insert_with(|| now + first_look_in(&uid));
        let left = look_at.saturating_duration_since(now);
        if left.is_zero() {
            memory.look_at = Some(now + LOOK_AT_REST);
        }
        left
    });
    if left.is_zero() {
        return None;
    }
    ctx.look_away(&uid);
    // It is read again when it is needed: ten thousand plans that rest are better kept where they are stored.
    ctx.plans.forget(&uid);
    Some(left)
}

fn first_look_in(uid: &str) -> Duration {
    let sum = uid.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Duration::from_secs(sum % LOOK_AT_REST.as_secs())
}

/// Whether the cache hasn't got our own last write yet.
fn is_behind(memory: &Memory, cached: &Migration) -> bool {
    let version = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
    version(memory.written.as_deref()) > version(cached.resource_version().as_deref())
}

/// The Migration as it is: from the cache, unless the cache is known to be behind our own last write, or this replica
/// has only just become the leader. `None` if it is gone.
async fn up_to_date(cached: &Arc<Migration>, ctx: &Context) -> Result<Option<Arc<Migration>>, ReconcileError> {
    let uid = cached.uid().unwrap_or_default();
    let term = ctx.leadership.term();
    let trusted = ctx.memories.with(&uid, |memory| {
        let behind = is_behind(memory, cached);
        let new_term = term.is_some() && memory.term != term;
        memory.term = term;
        !behind && !new_term && !caches::is_trimmed(cached)
    });
    if trusted || (observe::has_ended(cached) && cached.metadata.deletion_timestamp.is_none()) {
        return Ok(Some(cached.clone()));
    }
    let api: Api<Migration> = Api::namespaced(ctx.client.clone(), &cached.namespace().unwrap_or_default());
    let live = api.get_opt(&cached.name_any()).await.map_err(|error| ReconcileError::Read(Box::new(error)))?;
    Ok(live.filter(|live| live.uid() == cached.uid()).map(Arc::new))
}

/// What the spec would freeze to. Between boundaries nobody asks, so nothing is read for it.
async fn candidate(
    migration: &Migration,
    frozen: Option<&Arc<Frozen>>,
    ctx: &Context,
) -> Result<Arc<Frozen>, Vec<Finding>> {
    let status = migration.status.clone().unwrap_or_default();
    match frozen {
        Some(frozen) if !observe::boundary(&status) || observe::has_ended(migration) => Ok(frozen.clone()),
        Some(_) | None => plans::candidate(migration, frozen.map(Arc::as_ref), &ctx.client).await.map(Arc::new),
    }
}

/// Tells the board and the watches what to look after.
async fn watch(migration: &Migration, known: Known<'_>, ctx: &Context) {
    let uid = migration.uid().unwrap_or_default();
    if observe::has_ended(migration) {
        ctx.look_away(&uid);
        return;
    }
    ctx.traffic.watch(migration, &observe::services_under_way(migration)).await;
    if let Some(frozen) = known.frozen.or(known.candidate.ok()) {
        ctx.board.watch(observe::watch_key(migration), watch_set(migration, frozen));
    }
}

fn watch_set(migration: &Migration, frozen: &Frozen) -> WatchSet {
    let status = migration.status.clone().unwrap_or_default();
    let index = status.phase.as_deref().and_then(|phase| frozen.plan.index_of(phase)).unwrap_or(0);
    let phase = frozen.plan.phases().get(index);
    let flipped_at =
        status.traffic.iter().filter(|traffic| has_flipped(traffic.step)).filter_map(|t| t.flipped_at).max();
    let announced = status.traffic.iter().any(|traffic| traffic.step == TrafficStep::FlipIntended);
    WatchSet {
        guards: frozen.plan.guards_during(index),
        baselines: status.baselines.clone(),
        hot: announced || flipped_at.is_some_and(|at| now().since(at) < HOT_WINDOW),
        flipped_at,
        want_baselines: flipped_at.is_none()
            && phase
                .is_some_and(|phase| matches!(plan::action(phase), PhaseAction::Switch(_) | PhaseAction::Backfill(_))),
        baseline_guards: frozen.plan.phases().iter().flat_map(|phase| phase.guards.clone()).collect(),
        observation: phase.and_then(|phase| phase.observe.as_deref().cloned()),
        provider: frozen.plan.spec.provider.clone(),
        attempt: status.attempt,
    }
}

/// A Migration that doesn't exist any more.
fn gone(migration: &Migration, ctx: &Context) -> Action {
    ctx.forget(migration.metadata.uid.as_deref().unwrap_or_default());
    Action::await_change()
}

/// What to do after an error: look again, later and later.
#[expect(clippy::needless_pass_by_value, reason = "the controller asks for it like this")]
pub fn on_error(migration: Arc<Migration>, error: &ReconcileError, ctx: Shared) -> Action {
    let uid = migration.uid().unwrap_or_default();
    match error {
        // The cache catches up in a moment.
        ReconcileError::Record(RecordError::Outdated) | ReconcileError::Effect(EffectError::NotLeader) => {
            return Action::requeue(Duration::from_millis(50));
        }
        ReconcileError::Plan(_)
        | ReconcileError::Record(RecordError::Gone | RecordError::Api(_))
        | ReconcileError::Effect(_)
        | ReconcileError::Read(_)
        | ReconcileError::Late(_) => {}
    }
    let delay = ctx.memories.backoff(&uid);
    ctx.metrics.errors.inc();
    tracing::warn!(
        migration = migration.name_any(),
        namespace = migration.namespace(),
        error = super::context::chain(error),
        ?delay,
        "a reconcile failed and is tried again"
    );
    Action::requeue(delay)
}
