//! How a row becomes one number that two servers agree on, and what of two tables can be compared at all.
//!
//! A row is hashed as one run of bytes: `record_send` writes each column's binary form with its length and its type, NULL
//! apart from everything else, and PostgreSQL's 64-bit hash goes over the whole. The hashes of a range are *added up*, and
//! stand beside the number of its rows.
//!
//! The ways that look simpler let differences pass, each shown by a test:
//! - `hash_record_extended` over the columns is linear (`31 * h + hash(column)`): two rows that have swapped a value add up
//!   to the same sum. It folds `bigint` and timestamps to 32 bits, so that `1` and `4294967296` are one, and jsonb's hash
//!   doesn't tell two elements of an array that stand 32 places apart.
//! - XOR instead of a sum: a row that is there twice vanishes.
//! - Text joined together: NULL, '' and 'NULL' become one, and so do ('a,b', 'c') and ('a', 'b,c').
//!
//! What it doesn't protect against: somebody who looks for two rows with the same hash. It is no cryptographic hash; the
//! seed differs from run to run, so that two that happen to collide do so once.

use std::fmt::Write as _;

use super::{
    catalog::{Column, Pattern, Table},
    ident::{Ident, QualifiedName},
    session::{QueryError, Session},
};

/// What a compared table goes by in our statements.
pub(super) const ALIAS: &str = "it";

/// How rows become numbers. In the order in which they are tried: the first on which both servers agree is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Binary forms where the type allows, PostgreSQL's own hash.
    Binary,
    /// Text forms throughout, PostgreSQL's own hash: where the servers' majors write some type in another binary form.
    Text,
    /// Text forms and SHA-256: where the servers' own hashes differ, as between byte orders.
    Sha256,
}

impl Method {
    /// All of them, the fastest first.
    pub const ALL: [Self; 3] = [Self::Binary, Self::Text, Self::Sha256];

    /// As evidence names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Text => "text",
            Self::Sha256 => "text, sha256",
        }
    }

    /// The digest of these expressions, as SQL of type bigint. `seed` is SQL, too.
    pub fn digest(self, expressions: &[String], seed: &str) -> String {
        let row = format!("pg_catalog.record_send(ROW({}))", expressions.join(", "));
        match self {
            // Of an array with one element, since that exists in all versions: 31 plus the element's hash, all 64 bits.
            Self::Binary | Self::Text => format!("pg_catalog.hash_array_extended(ARRAY[{row}], {seed})"),
            Self::Sha256 => format!(
                "('x' || pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256({row} || pg_catalog.int8send({seed})), 1, \
                 8), 'hex'))::bit(64)::bigint"
            ),
        }
    }

    /// A known row of all kinds of values, digested on a server. Two servers that answer alike hash alike.
    pub async fn known_vector(self, session: &Session) -> Result<i64, QueryError> {
        let expressions: Vec<String> = include_str!("sql/known_vector.sql")
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("--"))
            .map(|value| match self {
                Self::Binary => value.to_owned(),
                Self::Text | Self::Sha256 => format!("({value})::text"),
            })
            .collect();
        session.value(&format!("SELECT {}", self.digest(&expressions, "$1::bigint")), &[&1_i64]).await
    }
}

/// By whose word two values that are written differently may be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// `numeric`.
    Numeric,
    /// `real` and `double precision`.
    Float,
    /// `interval`.
    Interval,
    /// `jsonb`.
    Jsonb,
    /// Any other type that has an `=`.
    Other,
    /// A type without `=`: equal is what is written alike.
    None,
}

impl ValueKind {
    fn of(type_name: &str) -> Self {
        // Arrays, ranges and multiranges follow what is in them.
        match type_name.trim_end_matches("[]") {
            "numeric" | "numrange" | "nummultirange" => Self::Numeric,
            "real" | "double precision" => Self::Float,
            "interval" => Self::Interval,
            "jsonb" => Self::Jsonb,
            // `point` has `~=` only, and `=` of the other shapes compares areas.
            "json" | "xml" | "point" | "box" | "circle" | "lseg" | "path" | "polygon" | "line" => Self::None,
            _ => Self::Other,
        }
    }
}

/// A column that is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedColumn {
    /// Its name.
    pub name: String,
    /// By whose word values are equal that are written differently.
    pub kind: ValueKind,
    /// Its type on the old side, as SQL.
    pub type_name: String,
    /// Its full type on the new side, as SQL: what a repair writes.
    pub target_type: String,
    /// The new side computes it.
    pub generated: bool,
    form: Form,
}

/// In which form a column's value goes into the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As it is.
    Binary,
    /// A number without its trailing zeros.
    Trimmed,
    /// A number of any type, as a number without trailing zeros.
    AsNumeric,
    /// As text under the pinned settings.
    Text,
}

impl ComparedColumn {
    /// The column's value as it goes into the digest, as SQL.
    pub fn expression(&self, method: Method) -> String {
        let name = Ident(&self.name);
        let plain = match self.form {
            Form::Binary => format!("{ALIAS}.{name}"),
            Form::Trimmed => format!("pg_catalog.trim_scale({ALIAS}.{name})"),
            Form::AsNumeric => format!("pg_catalog.trim_scale({ALIAS}.{name}::numeric)"),
            Form::Text => return format!("{ALIAS}.{name}::text"),
        };
        match method {
            Method::Binary => plain,
            Method::Text | Method::Sha256 => format!("{plain}::text"),
        }
    }
}

impl ComparedColumn {
    /// Asks the type's own `=` about pairs of values. `$1` and `$2` their texts; a row a pair, in their order.
    pub fn equality(&self) -> String {
        let type_name = &self.type_name;
        format!(
            "SELECT pair.a::{type_name} = pair.b::{type_name}\nFROM ROWS FROM (pg_catalog.unnest($1::text[]), \
             pg_catalog.unnest($2::text[])) WITH ORDINALITY AS pair (a, b, place)\nORDER BY pair.place"
        )
    }
}

/// A column of the key by which rows are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// Its type on this side, as SQL.
    pub type_name: String,
    /// Written as text, a number without its trailing zeros.
    numeric: bool,
}

impl KeyColumn {
    /// Its value as text, the same on both sides, as SQL.
    pub(super) fn text(&self, alias: &str) -> String {
        let name = Ident(&self.name);
        if self.numeric {
            format!("pg_catalog.trim_scale({alias}.{name})::text")
        } else {
            format!("{alias}.{name}::text")
        }
    }
}

/// How the rows of a table are cut into portions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Portions {
    /// Into ranges of the key, which both sides put into the same order by an index.
    Ranges,
    /// By the key's digest, each side read as a whole.
    Buckets {
        /// Why not into ranges, in words that follow "since".
        because: String,
    },
}

/// What of one table is compared on two sides, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The table on the old side; it has the same name on the new one.
    pub name: QualifiedName,
    /// Whether the old side's table, and the new one's, is partitioned.
    pub partitioned: (bool, bool),
    /// The key on the old side and the new.
    pub keys: (Vec<KeyColumn>, Vec<KeyColumn>),
    /// The columns, in the old side's order; those of the key are among them.
    pub columns: Vec<ComparedColumn>,
    /// Columns of the new side alone, which are not compared.
    pub only_new: Vec<String>,
    /// Columns that the spec says not to compare.
    pub ignored: Vec<String>,
    /// How its rows are cut into portions.
    pub portions: Portions,
    /// Rows, as the old side estimates them; negative where it never has.
    pub estimate: i64,
}

/// Why two tables can't be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomparable {
    /// Nothing tells its rows apart.
    #[error(
        "{name} {why}, so nothing tells its rows apart; add a primary key, or a unique index on columns that are NOT NULL"
    )]
    NoKey {
        /// The table.
        name: QualifiedName,
        /// Why.
        why: String,
    },
    /// What the old side holds has no place on the new one.
    #[error("{name} has no column {column} on the new side; add it there, or list it under `ignore`")]
    ColumnGone {
        /// The table.
        name: QualifiedName,
        /// The column.
        column: String,
    },
    /// The key would be ignored.
    #[error("{name}: the column {column} is listed under `ignore`, but it belongs to the key")]
    KeyIgnored {
        /// The table.
        name: QualifiedName,
        /// The column.
        column: String,
    },
}

/// Types whose values both sides put into the same order, whatever their version and settings.
const ORDERED_ALIKE: &[&str] = &[
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "oid",
    "boolean",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "uuid",
    "bytea",
    "text",
    "character varying",
    "character",
    "name",
    "inet",
    "macaddr",
    "macaddr8",
    "\"char\"",
];

/// What of two tables can be compared. `ignore` are patterns of columns that the spec leaves out; `trim` says that numbers
/// which differ in trailing zeros alone are equal.
pub fn plan(from: &Table, to: &Table, ignore: &[Pattern], trim: bool) -> Result<Comparison, Incomparable> {
    let name = &from.relation.name;
    let is_ignored = |column: &str| ignore.iter().any(|pattern| pattern.matches(&[&name.schema, &name.name, column]));
    let (mut columns, mut ignored) = (Vec::new(), Vec::new());
    for column in &from.columns {
        if is_ignored(&column.name) {
            ignored.push(column.name.clone());
            continue;
        }
        let Some(other) = to.column(&column.name) else {
            return Err(Incomparable::ColumnGone { name: name.clone(), column: column.name.clone() });
        };
        columns.push(compared(column, other, trim));
    }
    let new = to.columns.iter().map(|column| &column.name).filter(|column| from.column(column).is_none());
    let (only_new, ignored_new): (Vec<_>, Vec<_>) = new.cloned().partition(|column| !is_ignored(column));
    ignored.extend(ignored_new);

    let (key, portions) = key(from, to)?;
    if let Some(column) = key.iter().find(|column| ignored.contains(column)) {
        return Err(Incomparable::KeyIgnored { name: name.clone(), column: column.clone() });
    }
    let partitioned = |table: &Table| table.relation.kind == super::catalog::RelationKind::Partitioned;
    Ok(Comparison {
        name: name.clone(),
        partitioned: (partitioned(from), partitioned(to)),
        keys: (key_columns(from, &key), key_columns(to, &key)),
        columns,
        only_new,
        ignored,
        portions,
        estimate: from.relation.estimate,
    })
}

/// The columns of a table's key.
pub fn key_columns(table: &Table, key: &[String]) -> Vec<KeyColumn> {
    let columns = key.iter().filter_map(|name| table.column(name));
    let read = columns.map(|column| KeyColumn {
        name: column.name.clone(),
        type_name: column.type_name.clone(),
        numeric: column.type_name == "numeric",
    });
    read.collect()
}

fn compared(from: &Column, to: &Column, trim: bool) -> ComparedColumn {
    let same_type = from.type_oid == to.type_oid && from.binary && to.binary;
    let same_length = from.modifier == to.modifier;
    let is_number = |column: &Column| {
        matches!(column.type_name.as_str(), "smallint" | "integer" | "bigint" | "numeric") && column.binary
    };
    let form = match from.type_name.as_str() {
        // With one scale for all, two numbers that are equal are written alike.
        "numeric" if same_type && !(same_length && from.modifier >= 0) && trim => Form::Trimmed,
        _ if !same_type && is_number(from) && is_number(to) && trim => Form::AsNumeric,
        // Padded to another length.
        "character" if !same_length => Form::Text,
        _ if same_type => Form::Binary,
        _ => Form::Text,
    };
    ComparedColumn {
        name: from.name.clone(),
        kind: if from.type_name == to.type_name { ValueKind::of(&from.type_name) } else { ValueKind::None },
        type_name: from.type_name.clone(),
        target_type: to.full_type_name.clone(),
        generated: to.generated,
        form,
    }
}

/// The key by which rows are found on both sides, and whether both walk it in the same order.
fn key(from: &Table, to: &Table) -> Result<(Vec<String>, Portions), Incomparable> {
    let on_both: Vec<_> = from.keys().filter(|key| to.keys().any(|other| other == *key)).collect();
    let mut because = None;
    for key in &on_both {
        match order_differs(from, to, key) {
            None => return Ok((key.to_vec(), Portions::Ranges)),
            Some(why) => because = because.or(Some(why)),
        }
    }
    if let Some(key) = on_both.first() {
        let because = because.expect("a key on both sides that is no good for ranges has a reason");
        return Ok((key.to_vec(), Portions::Buckets { because }));
    }
    let has = |table: &Table, key: &[String]| key.iter().all(|name| table.column(name).is_some());
    let one_side = |key: &[String], without: &str| {
        (key.to_vec(), Portions::Buckets { because: format!("the {without} side has no index on its key") })
    };
    if let Some(key) = from.keys().find(|key| has(to, key)) {
        return Ok(one_side(key, "new"));
    }
    if let Some(key) = to.keys().find(|key| has(from, key)) {
        return Ok(one_side(key, "old"));
    }
    Err(Incomparable::NoKey { name: from.relation.name.clone(), why: from.why_no_key() })
}

/// Why the two sides may not put this key into the same order.
fn order_differs(from: &Table, to: &Table, key: &[String]) -> Option<String> {
    key.iter().find_map(|name| {
        let (from, to) = (from.column(name)?, to.column(name)?);
        let mut why = String::new();
        if from.type_oid != to.type_oid {
            let _ = write!(why, "{} is {} on the old side and {} on the new", name, from.type_name, to.type_name);
        } else if !from.binary || !ORDERED_ALIKE.contains(&from.type_name.as_str()) {
            let _ = write!(why, "{} is of type {}, whose order may differ between the sides", name, from.type_name);
        } else if from.collation != to.collation {
            let _ = write!(why, "the sides sort {name} by other collations or other versions of one");
        }
        (!why.is_empty()).then_some(why)
    })
}

/// Sets what the text of a value depends on, for the session: the same on each server. Takes no lock.
pub async fn pin_settings(session: &Session) -> Result<(), QueryError> {
    session.rows(include_str!("sql/pin_settings.sql"), &[]).await?;
    Ok(())
}
