//! Indexes that are built concurrently: what a failed build leaves, and how it is cleared away.
//!
//! A failed `CREATE INDEX CONCURRENTLY` leaves an INVALID index. It serves no query, yet every write maintains it, a
//! unique one goes on refusing duplicates, and `IF NOT EXISTS` takes it for the real thing. So nobody may leave one lying.

use super::{
    ident::QualifiedName,
    session::{QueryError, Session},
};

/// What is there under an index's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// Nothing.
    Absent,
    /// A finished index of the same table.
    Valid,
    /// What a failed build has left.
    Invalid(QualifiedName),
    /// Somebody else is building it right now.
    InProgress(QualifiedName),
    /// Something that isn't an index of this table.
    Taken(QualifiedName),
}

/// Looks at what is there under an index's name. Both names are SQL text as the script spells them.
pub async fn state(session: &Session, index: &str, table: &str) -> Result<IndexState, QueryError> {
    let rows = session.rows(include_str!("sql/index_state.sql"), &[&index, &table]).await?;
    let Some(row) = rows.first() else { return Ok(IndexState::Absent) };
    let name = QualifiedName { schema: row.get("schema"), name: row.get("name") };
    // An index of a partitioned table is INVALID until its last partition has one: that is no leftover.
    let ours = row.get("is_plain_index") && row.get("on_same_table");
    Ok(match (ours, row.get("is_valid"), row.get("in_progress")) {
        (false, _, _) => IndexState::Taken(name),
        (true, true, _) => IndexState::Valid,
        (true, false, true) => IndexState::InProgress(name),
        (true, false, false) => IndexState::Invalid(name),
    })
}

/// INVALID copies that a failed `REINDEX CONCURRENTLY` of this table or index has left.
pub async fn reindex_leftovers(session: &Session, target: &str) -> Result<Vec<QualifiedName>, QueryError> {
    let rows = session.rows(include_str!("sql/reindex_leftovers.sql"), &[&target]).await?;
    Ok(rows.iter().map(|row| QualifiedName { schema: row.get("schema"), name: row.get("name") }).collect())
}

/// Whether a relation of this name, as the script spells it, is there.
pub async fn exists(session: &Session, name: &str) -> Result<bool, QueryError> {
    session.value(include_str!("sql/relation_exists.sql"), &[&name]).await
}

/// Drops an INVALID index without making anyone wait; also while stopping, if that is quick.
pub async fn drop_invalid(session: &Session, index: &QualifiedName) -> Result<(), QueryError> {
    session.graceful(&format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")).await
}
