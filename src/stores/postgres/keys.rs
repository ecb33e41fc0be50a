//! The key by which a table is walked through: unique, not null, in the database's own order.
//!
//! A key's values travel as text and are compared by the server as what they are: this side never orders them, for it
//! knows no collation.

use std::fmt::Write as _;

use super::{
    ident::Ident,
    session::{QueryError, Session},
};

/// Columns that tell the rows of a table apart and put them in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The index that keeps it.
    pub index: String,
    /// Its columns, in the index's order.
    pub columns: Vec<KeyColumn>,
}

/// One column of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name.
    pub name: Ident,
    /// The type it is compared as, without length.
    pub sql_type: String,
}

/// One row's key: each column's value as text, under the session's pinned settings.
pub type KeyValue = Vec<String>;

impl Key {
    /// The columns, each under `alias` where one is given: `"a", "b"`.
    pub fn columns(&self, alias: Option<&str>) -> String {
        let prefix = alias.map(|alias| format!("{alias}.")).unwrap_or_default();
        let names: Vec<_> = self.columns.iter().map(|column| format!("{prefix}{}", column.name)).collect();
        names.join(", ")
    }

    /// The columns as what is compared: `"id"`, or `("a", "b")`.
    pub fn tuple(&self) -> String {
        self.wrap(&self.columns(None))
    }

    /// A bound out of a parameter of type `text[]`: `($1::text[])[1]::bigint`.
    pub fn bound(&self, parameter: &str) -> String {
        let mut values = String::new();
        for (place, column) in (1..).zip(&self.columns) {
            let comma = if place == 1 { "" } else { ", " };
            let _ = write!(values, "{comma}CAST(({parameter}::text[])[{place}] AS {})", column.sql_type);
        }
        self.wrap(&values)
    }

    /// The columns as one value of type `text[]`, to be given back as a bound.
    pub fn as_text(&self, names: &[String]) -> String {
        let texts: Vec<_> = names.iter().map(|name| format!("CAST({name} AS text)")).collect();
        format!("ARRAY[{}]", texts.join(", "))
    }

    /// Whether this column is part of it.
    pub fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name.0 == name)
    }

    fn wrap(&self, list: &str) -> String {
        if self.columns.len() == 1 { list.to_owned() } else { format!("({list})") }
    }
}

/// Finds the key of a table: its primary key, else the shortest other one. `Err` in the answer says what is wrong with
/// each unique index that there is; empty if there is none.
pub async fn find(session: &Session, table: u32) -> Result<Result<Key, Vec<String>>, QueryError> {
    let mut unusable = Vec::new();
    for row in session.rows(include_str!("sql/backfill_keys.sql"), &[&table]).await? {
        let name: String = row.get("name");
        let flag = |column: &str| row.get::<_, bool>(column);
        let why = if !flag("is_valid") {
            "is INVALID"
        } else if flag("is_partial") {
            "covers only a part of the rows"
        } else if flag("has_expression") {
            "is over an expression"
        } else if flag("has_null") {
            "has a column that may be NULL"
        } else if !flag("is_orderly") {
            "isn't in the columns' own order"
        } else {
            let (columns, types): (Vec<String>, Vec<String>) = (row.get("columns"), row.get("types"));
            let columns = columns.into_iter().zip(types);
            let columns = columns.map(|(name, sql_type)| KeyColumn { name: Ident(name), sql_type }).collect();
            return Ok(Ok(Key { index: name, columns }));
        };
        unusable.push(format!("{name} {why}"));
    }
    Ok(Err(unusable))
}
