//! What a server has that can be moved, and whether its settings, its rights and its clients let it: read from the
//! catalogue, changes nothing.

use std::collections::BTreeMap;

use super::{
    ident::QualifiedName,
    session::{QueryError, Session},
};

/// A table that is replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: QualifiedName,
    /// Its number in the catalogue.
    pub oid: u32,
    /// What it is: `r` a table, `p` a partitioned one.
    pub kind: Kind,
    /// Names and types of the columns that are copied, in the table's order. Generated ones aren't.
    pub columns: Vec<Column>,
    /// Whether the role is its owner, or a member of it.
    pub owned: bool,
    /// Whether the server can tell its rows apart in a stream of changes.
    pub has_identity: bool,
    /// Size on disk, in pages of the server's.
    pub pages: i64,
}

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A table with rows of its own.
    Plain,
    /// A partitioned table; its rows are its partitions'.
    Partitioned,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as the server spells it.
    pub type_name: String,
}

/// Reads the tables that the patterns name, in the order of their names. `*` in a pattern stands for any run of
/// characters.
pub async fn tables(session: &Session, patterns: &[String]) -> Result<Vec<Table>, QueryError> {
    let rows = session.rows(include_str!("sql/replicated_tables.sql"), &[&like(patterns)]).await?;
    let read = |row: &tokio_postgres::Row| {
        let (names, types): (Vec<String>, Vec<String>) = (row.get("columns"), row.get("types"));
        Table {
            name: QualifiedName { schema: row.get("schema"), name: row.get("name") },
            oid: row.get("oid"),
            kind: if row.get::<_, bool>("partitioned") { Kind::Partitioned } else { Kind::Plain },
            columns: names.into_iter().zip(types).map(|(name, type_name)| Column { name, type_name }).collect(),
            owned: row.get("owned"),
            has_identity: row.get("has_identity"),
            pages: row.get("pages"),
        }
    };
    Ok(rows.iter().map(read).collect())
}

/// Reads what the patterns name and no stream carries, in words.
pub async fn left_out(session: &Session, patterns: &[String]) -> Result<Vec<String>, QueryError> {
    let rows = session.rows(include_str!("sql/not_replicated.sql"), &[&like(patterns)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What the role may do of what replication needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a right of its own")]
pub struct Rights {
    /// Its name.
    pub role: String,
    /// Make a schema.
    pub may_create: bool,
    /// Make a slot and read from it.
    pub may_replicate: bool,
    /// Make a subscription.
    pub may_subscribe: bool,
    /// Set `session_replication_role`.
    pub may_set_role: bool,
    /// Say where a subscription begins.
    pub may_begin_after: bool,
    /// Read who the server is.
    pub may_identify: bool,
}

/// Reads the settings that replication depends on, in the server's base units, and what is in use of them.
pub async fn settings(session: &Session) -> Result<BTreeMap<String, String>, QueryError> {
    let rows = session.rows(include_str!("sql/replication_settings.sql"), &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Reads what the role may do.
pub async fn rights(session: &Session) -> Result<Rights, QueryError> {
    let rows = session.rows(include_str!("sql/replication_rights.sql"), &[]).await?;
    let row = rows.first().ok_or_else(|| QueryError::Unexpected { why: "the role isn't known".into() })?;
    Ok(Rights {
        role: row.get("role"),
        may_create: row.get("may_create"),
        may_replicate: row.get("may_replicate"),
        may_subscribe: row.get("may_subscribe"),
        may_set_role: row.get("may_set_role"),
        may_begin_after: row.get("may_begin_after"),
        may_identify: row.get("may_identify"),
    })
}

/// A transaction that has written and is open for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongWriter {
    /// Its server process.
    pub pid: i32,
    /// What it calls itself.
    pub application_name: String,
    /// How long it is open.
    pub seconds: i64,
}

/// Reads transactions that have written and are open for `seconds` or longer.
pub async fn long_writers(session: &Session, seconds: f64) -> Result<Vec<LongWriter>, QueryError> {
    let rows = session.rows(include_str!("sql/long_writers.sql"), &[&seconds]).await?;
    let read = |row: &tokio_postgres::Row| LongWriter {
        pid: row.get("pid"),
        application_name: row.get("application_name"),
        seconds: row.get("seconds"),
    };
    Ok(rows.iter().map(read).collect())
}

/// Patterns as LIKE understands them, with a backslash as the escape.
pub(super) fn like(patterns: &[String]) -> Vec<String> {
    let escaped = patterns.iter().map(|pattern| pattern.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
    escaped.map(|pattern| pattern.replace('*', "%")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_it_says() {
        assert_eq!(like(&["public.*".into(), "a_b.c%d".into()]), ["public.%", "a\\_b.c\\%d"]);
    }
}
