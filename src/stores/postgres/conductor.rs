//! Who conducts: the newest process that has said so in the store. A successor ends its predecessor's sessions, so that
//! nothing the predecessor has yet to say is heard.

use std::time::Duration;

use super::{
    replication::{Identity, Names},
    session::{QueryError, Session},
};

/// How often ended sessions are looked for, and how often at most.
const POLL: Duration = Duration::from_millis(10);
const POLLS: u32 = 1_000;

const CLAIM: &str = "
INSERT INTO {schema}.conductor AS conductor (generation, system_identifier, timeline) VALUES (1, $1, $2)
ON CONFLICT (single) DO UPDATE SET generation = conductor.generation + 1
RETURNING generation, system_identifier, timeline";

const COPY_DONE: &str = "SELECT done FROM {schema}.copy";

const CURRENT: &str = "SELECT generation FROM {schema}.conductor";

/// What a store knew of itself when a conductor came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The number of this conductor; a session of one with a lower number is not to be used.
    pub generation: i64,
    /// The server that the first conductor met.
    pub system_identifier: String,
    /// Its timeline then.
    pub timeline: i32,
}

/// Becomes the conductor: from here on no predecessor's new session is admitted; then ends the sessions that are open.
/// `own` is the name that this conductor's own sessions show.
pub async fn take_over(session: &Session, names: &Names, identity: &Identity, own: &str) -> Result<Claim, QueryError> {
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&identity.system_identifier, &identity.timeline];
    let rows = session.rows(&names.fill(CLAIM), &values).await?;
    let row = rows.first().ok_or_else(|| QueryError::Unexpected { why: "no claim was written".into() })?;
    let claim = Claim { generation: row.get(0), system_identifier: row.get(1), timeline: row.get(2) };
    let pattern = format!("{}%", names.conductor());
    for _ in 0..POLLS {
        let ended = session.rows(include_str!("sql/end_predecessors.sql"), &[&pattern, &own]).await?;
        if ended.is_empty() {
            return Ok(claim);
        }
        tokio::time::sleep(POLL).await;
    }
    Err(QueryError::Unexpected { why: "the predecessor's sessions don't end".into() })
}

/// Whether the first copy was begun in this store, and if so whether it was done. Nothing where no conductor has been.
pub async fn copy_done(session: &Session, names: &Names) -> Result<Option<bool>, QueryError> {
    match session.rows(&names.fill(COPY_DONE), &[]).await {
        Ok(rows) => Ok(rows.first().map(|row| row.get(0))),
        // 3F000, 42P01: our schema or table isn't there.
        Err(QueryError::Refused(refusal)) if matches!(refusal.sqlstate.as_str(), "3F000" | "42P01") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether any conductor has been at this store.
pub async fn has_been(session: &Session, names: &Names) -> Result<bool, QueryError> {
    match current(session, names).await {
        Ok(_) => Ok(true),
        Err(QueryError::Refused(refusal)) if matches!(refusal.sqlstate.as_str(), "3F000" | "42P01") => Ok(false),
        // The table is there and has no row.
        Err(QueryError::Unexpected { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The number of the conductor of now.
pub async fn current(session: &Session, names: &Names) -> Result<i64, QueryError> {
    session.value(&names.fill(CURRENT), &[]).await
}
