//! Expressions of the user's that must be true of each row.
//!
//! They are run as written, between line breaks, so that a comment at the end of one ends with it. The extended protocol
//! lets no second statement in, and the session's transactions are read-only.

use super::{
    reading::{KeyRange, Reading, Statement, Value},
    session::{QueryError, Session},
};

/// What an expression is of a range's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows of which it is true.
    pub holds: i64,
    /// Rows of which it is false.
    pub fails: i64,
    /// Rows of which it is NULL.
    pub is_null: i64,
}

/// Keeps the session from writing, and from rows being hidden from it. What else an expression depends on is as the role
/// has it.
pub async fn pin(session: &Session) -> Result<(), QueryError> {
    session.rows(include_str!("sql/pin_expectation.sql"), &[]).await?;
    Ok(())
}

/// Whether the server understands an expression as true, false or NULL of a row. Reads no row.
pub async fn check(session: &Session, reading: &Reading, expression: &str) -> Result<(), QueryError> {
    let sql = format!(
        "SELECT pg_catalog.count(*) FILTER (WHERE (\n{expression}\n) IS TRUE)\nFROM {}\nWHERE false",
        reading.source()
    );
    session.rows(&sql, &[]).await?;
    Ok(())
}

/// Counts what each expression is of a range's rows: 1 row, three numbers an expression.
pub fn tally(reading: &Reading, expressions: &[&str], range: &KeyRange) -> Statement {
    let counts: Vec<_> = expressions
        .iter()
        .flat_map(|expression| {
            ["TRUE", "FALSE", "NULL"]
                .map(|value| format!("pg_catalog.count(*) FILTER (WHERE (\n{expression}\n) IS {value})"))
        })
        .collect();
    reading.of_range(&counts.join(",\n"), range, "")
}

/// Reads what [`tally`] answers.
pub fn read_tallies(row: &tokio_postgres::Row) -> Vec<Tally> {
    let at = |index: usize| row.get::<_, i64>(index);
    (0..row.len() / 3)
        .map(|number| Tally { holds: at(number * 3), fails: at(number * 3 + 1), is_null: at(number * 3 + 2) })
        .collect()
}

/// Keys of the first rows of a range of which an expression isn't true.
pub fn offenders(reading: &Reading, expression: &str, range: &KeyRange, most: i64) -> Statement {
    let mut statement = reading.of_range(
        &format!("{} AS key", reading.key_texts()),
        range,
        &format!("AND (\n{expression}\n) IS NOT TRUE"),
    );
    statement.values.push(Value::Number(most));
    let order = reading.key_names().join(", ");
    statement.sql = format!("{}\nORDER BY {order}\nLIMIT ${}::bigint", statement.sql, statement.values.len());
    statement
}
