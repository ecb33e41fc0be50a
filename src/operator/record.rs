//! Writes decisions down. Only what has been recorded may be performed; lane 1 has a door of its own.

use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::events::{Event, EventType},
};

use super::{
    context::Context,
    fault::{self, Moment},
};
use crate::{
    api::{Migration, MigrationStatus},
    engine::{Decision, Note, effect::Effect},
};

/// Why a decision could not be written down.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Somebody else has written since: the decision was made on a view that is old by now.
    #[error("the Migration has changed since it was read")]
    Outdated,
    /// It is gone.
    #[error("the Migration does not exist any more")]
    Gone,
    /// The API server did not answer well. Whether it was written is unknown; the next look tells.
    #[error("the status could not be written")]
    Api(#[source] Box<kube::Error>),
}

/// Effects whose intent is in status. Nothing but [`record`] makes one.
pub struct Recorded {
    effects: Vec<Effect>,
}

impl Recorded {
    /// The effects.
    pub fn effects(self) -> Vec<Effect> {
        self.effects
    }
}

/// Writes a decision's status, if it has changed. If it hasn't, what is asked for again goes out only if the Migration is
/// still as it was when the decision was made: another leader may have gone on from there.
///
/// # Errors
/// None of the effects may be performed then.
pub async fn record(migration: &Migration, decision: &Decision, ctx: &Context) -> Result<Recorded, RecordError> {
    let before = migration.status.as_ref();
    if before == Some(&decision.status) {
        tell_once(migration, &decision.notes, ctx);
        if decision.after.iter().any(Effect::changes_the_cluster) {
            is_unchanged(migration, ctx).await?;
        }
    } else {
        fault::point(fault::RECORD, Moment::Before).await;
        write(migration, decision.status.clone(), ctx).await?;
        fault::point(fault::RECORD, Moment::After).await;
        tell(migration, decision.notes.clone(), ctx);
    }
    Ok(Recorded { effects: decision.after.clone() })
}

async fn is_unchanged(migration: &Migration, ctx: &Context) -> Result<(), RecordError> {
    let api: Api<Migration> = Api::namespaced(ctx.client.clone(), &migration.namespace().unwrap_or_default());
    let live = api.get_metadata_opt(&migration.name_any()).await.map_err(|error| RecordError::Api(Box::new(error)))?;
    let live = live.filter(|live| live.uid() == migration.uid()).ok_or(RecordError::Gone)?;
    if live.resource_version() == migration.resource_version() { Ok(()) } else { Err(RecordError::Outdated) }
}

async fn write(migration: &Migration, status: MigrationStatus, ctx: &Context) -> Result<(), RecordError> {
    let api: Api<Migration> = Api::namespaced(ctx.client.clone(), &migration.namespace().unwrap_or_default());
    let name = migration.name_any();
    let uid = migration.uid().unwrap_or_default();
    // The server ignores everything but status here; the version and the UID make it a compare-and-swap.
    let body = Migration {
        metadata: ObjectMeta {
            name: migration.metadata.name.clone(),
            namespace: migration.metadata.namespace.clone(),
            uid: migration.metadata.uid.clone(),
            resource_version: migration.metadata.resource_version.clone(),
            ..ObjectMeta::default()
        },
        spec: migration.spec.clone(),
        status: Some(status),
    };
    ctx.metrics.status_writes.inc();
    match api.replace_status(&name, &PostParams::default(), &body).await {
        Ok(written) => {
            ctx.memories.with_known(&uid, |memory| memory.written = written.resource_version());
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 409 => Err(RecordError::Outdated),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(RecordError::Gone),
        Err(error) => Err(RecordError::Api(Box::new(error))),
    }
}

/// Tells what leaves no trace in status, such as a status that only a newer release may touch: once, and again when it
/// reads otherwise.
fn tell_once(migration: &Migration, notes: &[Note], ctx: &Context) {
    let news = notes.iter().map(|note| note.why.as_str()).collect::<Vec<_>>().join("; ");
    let uid = migration.uid().unwrap_or_default();
    let told = ctx.memories.with(&uid, |memory| std::mem::replace(&mut memory.told, news.clone()) == news);
    if !told {
        tell(migration, notes.to_vec(), ctx);
    }
}

/// Publishes what happened as Events, beside the reconcile: an Event that can't be written holds nothing up.
pub fn tell(migration: &Migration, notes: Vec<Note>, ctx: &Context) {
    if notes.is_empty() {
        return;
    }
    let reference = kube::Resource::object_ref(migration, &());
    let recorder = ctx.recorder.clone();
    let (name, namespace) = (migration.name_any(), migration.namespace().unwrap_or_default());
    let phase = migration.status.as_ref().and_then(|status| status.phase.clone());
    tokio::spawn(async move {
        for note in notes {
            if note.alarm {
                tracing::warn!(migration = name, namespace, phase, what = note.what, "{}", note.why);
            } else {
                tracing::info!(migration = name, namespace, phase, what = note.what, "{}", note.why);
            }
            let event = Event {
                type_: if note.alarm { EventType::Warning } else { EventType::Normal },
                reason: note.what.to_owned(),
                note: Some(note.why),
                action: note.what.to_owned(),
                secondary: None,
            };
            if let Err(error) = recorder.publish(&event, &reference).await {
                tracing::debug!(migration = name, namespace, %error, "an Event could not be written");
            }
        }
    });
}
