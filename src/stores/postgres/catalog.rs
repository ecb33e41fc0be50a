//! What the catalogue says of tables: which ones a pattern means, their columns, and what tells their rows apart.
//!
//! Names follow SQL: an unquoted one is lower-cased, a quoted one is taken as it is. A partitioned table is one table; its
//! partitions come with it. Dropped columns don't exist.

use std::{collections::BTreeMap, fmt};

use super::{
    ident::QualifiedName,
    session::{QueryError, Session},
};

/// A name or pattern as users write it: `orders`, `shop.*`, `"Shop"."Order lines"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    text: String,
    /// Quoted text has no wildcards.
    literal: bool,
}

/// A pattern that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name: {why}")]
pub struct PatternError {
    /// As it was written.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Pattern {
    /// Reads a name of one to `most` parts.
    pub fn parse(text: &str, most: usize) -> Result<Self, PatternError> {
        let refuse = |why| PatternError { text: text.to_owned(), why };
        let mut parts = Vec::new();
        let mut rest = text.chars().peekable();
        loop {
            let literal = rest.next_if_eq(&'"').is_some();
            let mut part = String::new();
            if literal {
                loop {
                    match rest.next() {
                        None => return Err(refuse("a quote is not closed")),
                        Some('"') if rest.next_if_eq(&'"').is_none() => break,
                        Some(char) => part.push(char),
                    }
                }
            } else {
                while let Some(char) = rest.next_if(|char| !matches!(char, '.' | '"')) {
                    part.extend(char.to_lowercase());
                }
            }
            if part.is_empty() {
                return Err(refuse("a part of it is empty"));
            }
            parts.push(Part { text: part, literal });
            match rest.next() {
                None => break,
                Some('.') => {}
                Some(_) => return Err(refuse("a quoted part is followed by something other than a dot")),
            }
        }
        if parts.len() > most {
            return Err(refuse("it has too many parts; quote a part that has a dot in it"));
        }
        Ok(Self { parts })
    }

    /// Whether it can mean one thing only.
    pub fn is_exact(&self) -> bool {
        self.parts.iter().all(Part::is_exact)
    }

    /// How many parts it has.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// A pattern has at least one part.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether these names match it, the last one its last part; a part that is missing in front matches anything.
    pub fn matches(&self, names: &[&str]) -> bool {
        self.parts.len() <= names.len()
            && self.parts.iter().rev().zip(names.iter().rev()).all(|(part, name)| part.matches(name))
    }
}

impl Part {
    fn is_exact(&self) -> bool {
        self.literal || !self.text.contains('*')
    }

    fn matches(&self, name: &str) -> bool {
        if self.is_exact() {
            return self.text == name;
        }
        let mut pieces = self.text.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let mut last = "";
        for piece in pieces {
            // The piece before this one had its first place; only the last one is bound to the end.
            match rest.find(last) {
                Some(at) => rest = &rest[at + last.len()..],
                None => return false,
            }
            last = piece;
        }
        rest.ends_with(last)
    }
}

/// Something that a pattern may mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its oid.
    pub oid: u32,
    /// Its name.
    pub name: QualifiedName,
    /// What it is.
    pub kind: RelationKind,
    /// Rows as the server last estimated them; negative where it never has.
    pub estimate: i64,
    /// Of a partition: the table that it is a part of in the end.
    root: Option<u32>,
    /// Place of its schema in the role's search path.
    place: Option<i32>,
}

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// A table.
    Table,
    /// A partitioned table with all its partitions.
    Partitioned,
    /// A table that isn't in the write-ahead log, and so in no replication.
    Unlogged,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A table elsewhere.
    ForeignTable,
}

impl RelationKind {
    /// Why rows of it aren't compared, if they aren't.
    pub fn objection(self) -> Option<&'static str> {
        match self {
            Self::Table | Self::Partitioned => None,
            Self::Unlogged => Some("an unlogged table, which replication leaves out"),
            Self::View => Some("a view; compare the tables beneath it"),
            Self::MaterializedView => Some("a materialized view; refresh it on the new store"),
            Self::ForeignTable => Some("a foreign table, whose rows are in another store"),
        }
    }
}

/// What patterns have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The tables, by name.
    pub tables: Vec<Relation>,
    /// What a pattern takes in that can't be compared, with the reason.
    pub left_out: Vec<(QualifiedName, &'static str)>,
}

/// Why patterns can't be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// One can't be read.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// One means nothing.
    #[error("no table is named {0}")]
    Nothing(String),
    /// One names something that has no rows of its own to compare.
    #[error("{name} is {why}")]
    Unsuitable {
        /// Its name.
        name: QualifiedName,
        /// What it is.
        why: &'static str,
    },
}

/// Who a store is, down to the timeline of its files: one row of `system_identifier`, `database` and `version`.
pub async fn identity(session: &Session) -> Result<Vec<tokio_postgres::Row>, QueryError> {
    session.rows(include_str!("sql/store_identity.sql"), &[]).await
}

/// All that patterns could mean. To be asked before the search path is pinned.
pub async fn relations(session: &Session) -> Result<Vec<Relation>, QueryError> {
    let rows = session.rows(include_str!("sql/relations.sql"), &[]).await?;
    let read = |row: &tokio_postgres::Row| Relation {
        oid: row.get("oid"),
        name: QualifiedName { schema: row.get("schema"), name: row.get("name") },
        kind: match (row.get("kind"), row.get("persistence")) {
            ("v", _) => RelationKind::View,
            ("m", _) => RelationKind::MaterializedView,
            ("f", _) => RelationKind::ForeignTable,
            (_, "u") => RelationKind::Unlogged,
            ("p", _) => RelationKind::Partitioned,
            (_, _) => RelationKind::Table,
        },
        estimate: row.get("estimate"),
        root: row.get("root"),
        place: row.get("place"),
    };
    Ok(rows.iter().map(read).collect())
}

/// Which of the relations the patterns mean. A name without a schema means the first in the search path.
pub fn select(patterns: &[String], relations: &[Relation]) -> Result<Selection, SelectionError> {
    let mut chosen = BTreeMap::new();
    let mut left_out = BTreeMap::new();
    for text in patterns {
        let pattern = Pattern::parse(text, 2)?;
        let matching = relations.iter().filter(|relation| {
            (pattern.len() == 2 || relation.place.is_some())
                && pattern.matches(&[&relation.name.schema, &relation.name.name])
        });
        let mut matching: Vec<_> = matching.collect();
        if pattern.len() == 1 && pattern.is_exact() {
            matching.sort_by_key(|relation| relation.place);
            matching.truncate(1);
        }
        if matching.is_empty() {
            return Err(SelectionError::Nothing(text.clone()));
        }
        for relation in matching {
            match relation.kind.objection() {
                None => _ = chosen.insert(relation.name.clone(), relation),
                Some(why) if pattern.is_exact() => {
                    return Err(SelectionError::Unsuitable { name: relation.name.clone(), why });
                }
                Some(why) => _ = left_out.insert(relation.name.clone(), why),
            }
        }
    }
    let whole: Vec<u32> = chosen.values().map(|relation| relation.oid).collect();
    let tables = chosen.into_values().filter(|relation| relation.root.is_none_or(|root| !whole.contains(&root)));
    Ok(Selection { tables: tables.cloned().collect(), left_out: left_out.into_iter().collect() })
}

/// A table, as far as its rows' contents go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The relation.
    pub relation: Relation,
    /// Its columns, in its own order.
    pub columns: Vec<Column>,
    /// Its unique indexes, the primary key first.
    pub unique: Vec<UniqueIndex>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// No row has NULL there.
    pub not_null: bool,
    /// The server computes it from the others.
    pub generated: bool,
    /// Its type's oid.
    pub type_oid: u32,
    /// Its type, without length or scale, as SQL.
    pub type_name: String,
    /// Its type as declared.
    pub full_type_name: String,
    /// Length or scale, as the server codes it.
    pub modifier: i32,
    /// Whether a value's binary form means the same on every server.
    pub binary: bool,
    /// What its values' order depends on, down to the library's version; none where it is by byte or there is no collation.
    pub collation: Option<String>,
}

/// A unique index.
#[expect(clippy::struct_excessive_bools, reason = "they are the catalogue's own, and each is asked by its name")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueIndex {
    /// Its name.
    pub name: String,
    /// It is the primary key.
    pub primary: bool,
    /// It holds for all rows.
    pub valid: bool,
    /// Its columns tell rows apart at every moment, provided that none can be NULL.
    usable: bool,
    /// NULLs count as equal.
    pub nulls_not_distinct: bool,
    /// The columns, unless an expression is among them.
    pub columns: Option<Vec<String>>,
    /// Columns and expressions as SQL.
    pub parts: Vec<String>,
    /// The rows that it is about, as SQL.
    pub predicate: Option<String>,
}

#[cfg(test)]
impl UniqueIndex {
    /// A valid index that can serve as a key.
    pub(super) fn for_test(parts: Vec<String>, predicate: Option<String>) -> Self {
        Self {
            name: "index".to_owned(),
            primary: false,
            valid: true,
            usable: predicate.is_none(),
            nulls_not_distinct: false,
            columns: Some(parts.clone()),
            parts,
            predicate,
        }
    }
}

impl Table {
    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The sets of columns that tell its rows apart, the primary key first.
    pub fn keys(&self) -> impl Iterator<Item = &[String]> {
        self.unique
            .iter()
            .filter(|index| index.usable)
            .filter_map(|index| index.columns.as_deref())
            .filter(|columns| columns.iter().all(|name| self.column(name).is_some_and(|column| column.not_null)))
    }

    /// Why it has no key, in words that follow its name.
    pub fn why_no_key(&self) -> String {
        let Some(index) = self.unique.first() else {
            return "has no primary key and no unique index".to_owned();
        };
        let why = if !index.usable && index.predicate.is_some() {
            "is partial"
        } else if !index.usable && index.valid {
            "is deferrable"
        } else if !index.usable {
            "is invalid"
        } else if index.columns.is_none() {
            "is on an expression"
        } else {
            "is on columns that can be NULL"
        };
        format!("has no primary key, and its unique index {} {why}", index.name)
    }
}

/// What the catalogue says of these tables. To be asked once the search path is pinned, so that all types are named in
/// full. A table that is gone meanwhile is left out.
pub async fn tables(session: &Session, relations: &[Relation]) -> Result<Vec<Table>, QueryError> {
    let oids: Vec<u32> = relations.iter().map(|relation| relation.oid).collect();
    let mut columns: BTreeMap<u32, Vec<Column>> = BTreeMap::new();
    for row in session.rows(include_str!("sql/columns.sql"), &[&oids]).await? {
        columns.entry(row.get("table")).or_default().push(Column {
            name: row.get("name"),
            not_null: row.get("not_null"),
            generated: row.get("generated"),
            type_oid: row.get("type"),
            type_name: row.get("type_name"),
            full_type_name: row.get("full_type_name"),
            modifier: row.get("modifier"),
            binary: row.get("binary"),
            collation: row.get("collation"),
        });
    }
    let mut unique: BTreeMap<u32, Vec<UniqueIndex>> = BTreeMap::new();
    for row in session.rows(include_str!("sql/unique_indexes.sql"), &[&oids]).await? {
        unique.entry(row.get("table")).or_default().push(UniqueIndex {
            name: row.get("name"),
            primary: row.get("primary"),
            valid: row.get("valid"),
            usable: row.get("usable"),
            nulls_not_distinct: row.get("nulls_not_distinct"),
            columns: row.get("columns"),
            parts: row.get("parts"),
            predicate: row.get("predicate"),
        });
    }
    let whole = relations.iter().filter_map(|relation| {
        let columns = columns.remove(&relation.oid)?;
        let unique = unique.remove(&relation.oid).unwrap_or_default();
        Some(Table { relation: relation.clone(), columns, unique })
    });
    Ok(whole.collect())
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(oid: u32, schema: &str, name: &str, kind: RelationKind) -> Relation {
        let place = (schema == "shop").then_some(1).or((schema == "public").then_some(2));
        let name = QualifiedName { schema: schema.into(), name: name.into() };
        Relation { oid, name, kind, estimate: -1, root: None, place }
    }

    fn names(patterns: &[&str], relations: &[Relation]) -> Result<Vec<String>, String> {
        let patterns: Vec<_> = patterns.iter().map(|text| (*text).to_owned()).collect();
        let selection = select(&patterns, relations).map_err(|error| error.to_string())?;
        Ok(selection.tables.iter().map(|relation| relation.name.name.clone()).collect())
    }

    #[test]
    fn a_pattern_follows_sql_in_what_it_lower_cases() {
        let matches = |pattern: &str, name: &str| Pattern::parse(pattern, 3).unwrap().matches(&["shop", name]);
        assert!(matches("shop.orders", "orders") && matches("SHOP.Orders", "orders") && matches("orders", "orders"));
        assert!(matches("\"shop\".\"Order.lines\"", "Order.lines") && !matches("Orders", "Orders"));
        assert!(matches("shop.*", "anything") && matches("s*p.o*r*s", "orders") && !matches("o*x*s", "orders"));
        assert!(matches("*ders", "orders") && matches("or*", "orders") && !matches("or*ders", "oders"));
        assert!(!matches("\"*\"", "orders") && matches("\"*\"", "*") && matches("\"say \"\"hi\"\"\"", "say \"hi\""));
        assert!(!matches("public.*", "orders") && matches("a*a", "aa") && !matches("a*a", "a"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "a.", ".a", "a..b", "\"a", "\"a\"b", "a.b.c.d"] {
            assert!(Pattern::parse(text, 3).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_leaves_out_what_a_name_is_refused_for() {
        let all = [
            relation(1, "public", "orders", RelationKind::Table),
            relation(2, "public", "report", RelationKind::View),
            relation(3, "public", "cache", RelationKind::Unlogged),
        ];
        let selection = select(&["public.*".to_owned()], &all).unwrap();
        assert_eq!(selection.tables.len(), 1);
        let reasons: Vec<_> = selection.left_out.iter().map(|(name, why)| format!("{}: {why}", name.name)).collect();
        assert_eq!(
            reasons,
            ["cache: an unlogged table, which replication leaves out", "report: a view; compare the tables beneath it"]
        );
        assert!(names(&["public.report"], &all).unwrap_err().contains("is a view"));
        assert!(names(&["public.order"], &all).unwrap_err().contains("no table is named public.order"));
    }

    #[test]
    fn a_name_without_schema_is_the_first_in_the_search_path() {
        let all = [
            relation(1, "public", "orders", RelationKind::Table),
            relation(2, "shop", "orders", RelationKind::Table),
            relation(3, "archive", "orders", RelationKind::Table),
        ];
        let selection = select(&["orders".to_owned()], &all).unwrap();
        assert_eq!(selection.tables.iter().map(|relation| relation.oid).collect::<Vec<_>>(), [2]);
        assert_eq!(select(&["*.orders".to_owned()], &all).unwrap().tables.len(), 3);
    }

    #[test]
    fn a_partition_comes_with_its_table_unless_it_is_asked_for_alone() {
        let mut part = relation(2, "archive", "events_2025", RelationKind::Table);
        part.root = Some(1);
        let all = [relation(1, "public", "events", RelationKind::Partitioned), part];
        assert_eq!(names(&["*.*"], &all).unwrap(), ["events"]);
        assert_eq!(names(&["archive.*"], &all).unwrap(), ["events_2025"]);
    }
}
