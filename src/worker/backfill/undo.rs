//! The ends of a run: taken back, or finished with. Both are idempotent and verify that nothing is left.

use super::{
    halt::{Halt, Patience},
    lead::{Outside, take_turn},
    task::{Role, Task},
};
use crate::stores::postgres::{
    Postgres, QueryError, Session,
    chunks::{Chunks, RunState},
    sync::Sync,
};

/// Removes the trigger, its function and the chunks, and looks that they are gone. What stays is one row that says that
/// there was a run: values that were filled and are no longer kept in step can't be trusted later.
pub(super) async fn end(task: &Task, outside: &Outside) -> Result<String, Halt> {
    let mut patience = Patience::new(task.retry, &outside.stop);
    loop {
        let why = match try_end(task, outside).await {
            Err(Halt::Lost { why }) => why,
            other => return other,
        };
        if !patience.again(&why).await? {
            return Err(Halt::Lost { why });
        }
    }
}

async fn try_end(task: &Task, outside: &Outside) -> Result<String, Halt> {
    let scope = task.scope();
    let store = Postgres::new(&task.store.uri_file, &task.application_name());
    // A stop cuts a wait for a lock short; nothing here takes long otherwise.
    let session = take_turn(task, &scope, &store, &outside.stop, &outside.stop).await?;
    let chunks = Chunks::new(&session, &scope);
    let sync = Sync::of(&scope.uid, &scope.phase);
    let was = chunks.run().await?;
    let state = match task.role {
        Role::Finish => RunState::Finished,
        Role::Undo | Role::Preflight | Role::Run => RunState::Undone,
    };
    let there = sync.left(&session).await?;
    if was.is_none() && there.is_empty() {
        return Ok("Nothing was there to remove.".to_owned());
    }
    let mut patience = Patience::new(task.retry, &outside.stop);
    loop {
        let refusal = match remove(&session, &chunks, &sync, state).await {
            Ok(()) => break,
            Err(QueryError::Refused(refusal)) => refusal,
            Err(error) => return Err(error.into()),
        };
        session.roll_back().await?;
        if !refusal.may_pass() {
            return Err(QueryError::Refused(refusal).into());
        }
        if !patience.again(&refusal).await? {
            return Err(Halt::failed(format!(
                "The sync trigger could not be removed in {}: {refusal}. It still works.",
                patience.spent()
            )));
        }
    }
    let left = sync.left(&session).await?;
    let chunks_left = chunks.tally().await?.chunks;
    if !left.is_empty() || chunks_left > 0 {
        return Err(Halt::failed(format!("Still there: {}, {chunks_left} chunks.", left.join(", "))));
    }
    Ok(match (there.is_empty(), was.is_some()) {
        (true, _) => "Removed what the store remembered of the chunks; there was no sync trigger.".to_owned(),
        (false, _) => "Removed the sync trigger, its function and the chunks; looked that they are gone.".to_owned(),
    })
}

async fn remove(session: &Session, chunks: &Chunks<'_>, sync: &Sync, state: RunState) -> Result<(), QueryError> {
    session.begin().await?;
    sync.remove(session).await?;
    chunks.delete_chunks().await?;
    chunks.set_state(state).await?;
    session.commit().await
}
