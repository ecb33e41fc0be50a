//! Lane 1: a breach moves traffic back, on a path of its own. It looks at caches only, sends the Service's patch and the
//! status write side by side, and cancels the ordinary reconcile that may be under way.

use std::{sync::Arc, time::Duration};

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    caches,
    context::{Context, Shared, now},
    effects::{EffectError, Performer},
    observe::{self, Known, Look},
    plans::PlanError,
    record,
};
use crate::{
    actions::switch::PatchError,
    api::Migration,
    engine::{Plans, decide},
    guards::{EventKind, Events},
};

/// Rollbacks that begin at the same time. A breach of something that many share begins many.
const AT_ONCE: usize = 256;
/// How often a refused write is decided anew within the same call, on a live look.
const TRIES: usize = 5;
/// How long one request of lane 1 may go without an answer before it is taken for lost and the Service is looked at
/// again: many times what a loaded API server needs, and short against how long users bear a bad side.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Acts on each breach, and wakes the reconcile for everything else that the board tells. Ends with `stop`, once no
/// write is in flight any more.
pub async fn run(mut events: Events, ctx: Shared, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut acting = JoinSet::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = acting.join_next() => continue,
            event = events.next() => event,
        };
        let migration = ObjectRef::new(&event.key.name).within(&event.key.namespace);
        let breach = match event.kind {
            EventKind::Breach { .. } => true,
            EventKind::Changed => false,
        };
        if breach && ctx.leadership.term().is_some() {
            let Ok(permit) = permits.clone().acquire_owned().await else { break };
            let stop = stop.clone();
            let (ctx, uid) = (ctx.clone(), event.key.uid.clone());
            let migration = migration.clone();
            acting.spawn(async move {
                act(&migration, &uid, &ctx, &stop).await;
                drop(permit);
                drop(ctx.wake.send(migration));
            });
        } else {
            drop(ctx.wake.send(migration));
        }
    }
    while acting.join_next().await.is_some() {}
}

/// Takes one Migration's traffic back, if its decision says so.
async fn act(reference: &ObjectRef<Migration>, uid: &str, ctx: &Context, stop: &CancellationToken) {
    let Some(migration) = ctx.migrations.get(reference).filter(|m| m.uid().as_deref() == Some(uid)) else { return };
    // One that rests has no guard, so this can't be; without its spec nothing can be decided.
    if caches::is_trimmed(&migration) {
        return;
    }
    // What the ordinary reconcile would still do was decided before the breach.
    ctx.memories.with_known(uid, |memory| memory.in_flight.cancel());
    let (frozen, foreign) = match timeout(PATIENCE, ctx.plans.frozen(&migration, &ctx.lane_1)).await {
        Ok(Ok(frozen)) => (frozen, false),
        Ok(Err(PlanError::Foreign { .. })) => (None, true),
        Ok(Err(PlanError::Api { .. })) | Err(_) => return,
    };
    let frozen = frozen.as_deref();
    let known = Known { frozen, foreign, candidate: frozen.ok_or(&[]) };
    let plan = frozen.map(|frozen| &frozen.plan);
    let plans = Plans { frozen: plan, candidate: plan.ok_or(&[]) };
    let performer = Performer { migration: &migration, frozen, candidate: None, ctx };
    let mut look = Look::Cached;
    for _ in 0..TRIES {
        if ctx.leadership.term().is_none() || stop.is_cancelled() {
            return;
        }
        let Ok(world) = timeout(PATIENCE, observe::world(&migration, known, look, ctx)).await else { continue };
        let decision = decide(&plans, &migration.status.clone().unwrap_or_default(), &world, now());
        if decision.at_once.is_empty() {
            return;
        }
        let (moved, recorded) = tokio::join!(
            timeout(PATIENCE, performer.perform_now(&decision.at_once)),
            timeout(PATIENCE, record::record(&migration, &decision, ctx))
        );
        // The mark on the Service is the evidence that the next reconcile finds.
        match recorded {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::info!(migration = migration.name_any(), %error, "the rollback's record follows later");
            }
            Err(late) => {
                tracing::warn!(migration = migration.name_any(), %late, "the rollback's record follows later");
            }
        }
        match moved {
            Ok(Ok(())) => {
                tracing::info!(migration = migration.name_any(), "traffic has been sent back");
                return;
            }
            Ok(Err(EffectError::Switch(PatchError::Refused { service }))) => {
                tracing::info!(migration = migration.name_any(), service, "the Service had changed; looks again");
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    migration = migration.name_any(),
                    error = super::context::chain(&error),
                    "traffic could not be sent back yet"
                );
            }
            // It may have landed all the same: the look says so.
            Err(late) => {
                tracing::warn!(migration = migration.name_any(), %late, "traffic could not be sent back yet");
            }
        }
        look = Look::Live;
    }
}
