//! Duplicates that a unique index of the other side would not let in: found before the cut-over, named, and no pass.

use super::{between::Context, evidence::DuplicateSeen, halt::Halt, pool::Pair, table::count};
use crate::stores::postgres::{
    QueryError,
    duplicates::Suspicion,
    reading::{Reading, Side},
};

/// Groups of duplicates that are named, an index.
const GROUPS: i64 = 20;
/// Keys that are named of each.
const KEYS: i32 = 5;

/// Looks at what one index of the other side would not let in.
pub(super) async fn look(
    suspicion: &Suspicion,
    from: &Reading,
    to: &Reading,
    ctx: &Context<'_>,
    pair: &Pair,
) -> Result<Vec<DuplicateSeen>, Halt> {
    let (session, reading, store) = match suspicion.side {
        Side::From => (&pair.from, from, &ctx.from.name),
        Side::To => (&pair.to, to, &ctx.to.name),
    };
    session.run("BEGIN READ ONLY").await?;
    ctx.without_limit(&[session]).await?;
    let rows = match session.rows(&suspicion.groups(reading), &[&GROUPS, &KEYS]).await {
        Ok(rows) => rows,
        // Its expression or predicate means nothing on this side: a function or column that isn't there.
        Err(QueryError::Refused(refusal)) if refusal.sqlstate.starts_with("42") => {
            session.roll_back().await?;
            tracing::warn!(index = suspicion.index.name, %refusal, "this side can't be asked for its duplicates");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error.into()),
    };
    session.roll_back().await?;
    let seen = rows.iter().map(|row| DuplicateSeen {
        index: suspicion.index.name.clone(),
        store: store.clone(),
        values: row.get("values"),
        rows: count(row.get("rows")),
        keys: serde_json::from_str(row.get("keys")).unwrap_or_default(),
    });
    Ok(seen.collect())
}
