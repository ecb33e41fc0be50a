//! The statements that make rows of the new side equal to the old side's, and the table that says what was changed.
//!
//! Values travel as text under pinned settings, which every type of PostgreSQL takes back as it was.

use super::{
    checksum::ComparedColumn,
    ident::Ident,
    reading::{KeyValue, Reading, Statement, Value},
    session::{QueryError, Session},
};

/// A row's columns as text, in the order of [`Reading::columns`].
pub type Contents = Vec<Option<String>>;

/// What is written down of a repaired row.
pub struct Audit<'a> {
    /// UID of the migration.
    pub uid: &'a str,
    /// The phase.
    pub phase: &'a str,
    /// Its attempt.
    pub attempt: i32,
    /// The table, quoted.
    pub table: &'a str,
    /// The columns' names.
    pub columns: &'a [String],
    /// The row's key.
    pub key: &'a KeyValue,
    /// Missing, Extra or Different.
    pub kind: &'a str,
    /// What was there before.
    pub before: Option<&'a Contents>,
    /// What is there now.
    pub after: Option<&'a Contents>,
}

/// Makes the audit's table, unless it is there.
pub async fn make_audit(session: &Session) -> Result<(), QueryError> {
    session.run(include_str!("sql/repair_audit.sql")).await
}

/// Begins a transaction in which neither triggers nor foreign keys fire, as in that of the stream: they have fired where
/// the row was written first. Whoever falls silent in it for `idle_ms` is ended by the server.
pub async fn begin(session: &Session, idle_ms: u128, statement_ms: u128) -> Result<(), QueryError> {
    session
        .run(&format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL session_replication_role = replica; SET LOCAL \
             idle_in_transaction_session_timeout = {idle_ms}; SET LOCAL statement_timeout = {statement_ms}; SET LOCAL \
             lock_timeout = {statement_ms}"
        ))
        .await
}

/// Writes down what is done to a row.
pub async fn write_down(session: &Session, audit: &Audit<'_>) -> Result<(), QueryError> {
    let Audit { uid, phase, attempt, table, columns, key, kind, before, after } = audit;
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
        [uid, phase, attempt, table, columns, key, kind, before, after];
    session.rows(include_str!("sql/write_repair.sql"), &values).await?;
    Ok(())
}

/// Inserts rows.
pub fn insert(reading: &Reading, rows: &[&Contents]) -> Statement {
    let written = written(reading.columns());
    let names: Vec<_> = written.iter().map(|(_, column)| Ident(&column.name).to_string()).collect();
    let (source, values) = source(&written, rows);
    let typed: Vec<_> = written.iter().map(|(at, column)| format!("source.c{at}::{}", column.target_type)).collect();
    let sql = format!(
        "INSERT INTO {} ({})\nOVERRIDING SYSTEM VALUE\nSELECT {}\nFROM {source}",
        reading.table(),
        names.join(", "),
        typed.join(", ")
    );
    Statement { sql, values }
}

/// Updates rows that are there by their key; the key itself is as it is.
pub fn update(reading: &Reading, rows: &[&Contents]) -> Statement {
    let written = written(reading.columns());
    let is_key = |column: &ComparedColumn| reading.keys().iter().any(|key| key.name == column.name);
    let (source, values) = source(&written, rows);
    let (mut set, mut equal) = (Vec::new(), Vec::new());
    for (at, column) in &written {
        let (name, value) = (Ident(&column.name), format!("source.c{at}::{}", column.target_type));
        if is_key(column) {
            equal.push(format!("it.{name} = {value}"));
        } else {
            set.push(format!("{name} = {value}"));
        }
    }
    let sql =
        format!("UPDATE {}\nSET {}\nFROM {source}\nWHERE {}", reading.source(), set.join(", "), equal.join(" AND "));
    Statement { sql, values }
}

/// The columns that can be written, with their place.
fn written(columns: &[ComparedColumn]) -> Vec<(usize, &ComparedColumn)> {
    columns.iter().enumerate().filter(|(_, column)| !column.generated).collect()
}

/// Rows to write, as a table of texts.
fn source(written: &[(usize, &ComparedColumn)], rows: &[&Contents]) -> (String, Vec<Value>) {
    let (mut arrays, mut names, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (at, _) in written {
        values.push(Value::Texts(rows.iter().map(|row| row.get(*at).cloned().flatten()).collect()));
        arrays.push(format!("pg_catalog.unnest(${}::text[])", values.len()));
        names.push(format!("c{at}"));
    }
    (format!("ROWS FROM ({}) AS source ({})", arrays.join(", "), names.join(", ")), values)
}
