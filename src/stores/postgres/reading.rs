//! The statements by which one side's rows are read: a range of the key at a time, in the key's own order.
//!
//! Values are bound as text and cast to the key's types, so that one builder serves every type. A range is open below and
//! closed above; neighbours share a bound, so no row is between two of them. Whatever order a side puts its rows into, a
//! chain of ranges from "no lower bound" to "no upper bound" covers each row at least once.

use tokio_postgres::{Row, types::ToSql};

use super::{
    checksum::{ALIAS, ComparedColumn, Comparison, KeyColumn, Method},
    ident::{Ident, QualifiedName},
    session::{QueryError, Session},
};

/// Values of a key's columns, as text under the pinned settings.
pub type KeyValue = Vec<String>;

/// A range of the key: above `after`, up to and with `upto`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// Rows above this key; none is from the first row on.
    pub after: Option<KeyValue>,
    /// Rows up to this key; none is to the last row.
    pub upto: Option<KeyValue>,
}

/// A portion of a table's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Portion {
    /// A range of the key.
    Range(KeyRange),
    /// The rows whose key's digest ends in one of these numbers under this mask.
    Buckets {
        /// One less than a power of two.
        mask: i64,
        /// The numbers.
        buckets: Vec<i64>,
    },
}

/// A statement with what it binds.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Its text.
    pub sql: String,
    /// What it binds, in order.
    pub values: Vec<Value>,
}

/// A bound value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(i64),
    /// Numbers.
    Numbers(Vec<i64>),
    /// A text.
    Text(String),
    /// Texts, or NULL in their place.
    Texts(Vec<Option<String>>),
}

impl Statement {
    /// Runs it.
    pub async fn rows(&self, session: &Session) -> Result<Vec<Row>, QueryError> {
        let values: Vec<&(dyn ToSql + Sync)> = self
            .values
            .iter()
            .map(|value| match value {
                Value::Number(number) => number as &(dyn ToSql + Sync),
                Value::Numbers(numbers) => numbers,
                Value::Text(text) => text,
                Value::Texts(texts) => texts,
            })
            .collect();
        session.rows(&self.sql, &values).await
    }
}

/// What a portion adds up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Rows.
    pub rows: i64,
    /// The sum of their digests. It doesn't fit 64 bits, and nothing is done with it but compare.
    pub digests: String,
}

/// A row as the worker compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digested {
    /// Its key.
    pub key: KeyValue,
    /// Its digest.
    pub digest: i64,
}

/// How one side's rows of one table are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    table: QualifiedName,
    source: String,
    alias: String,
    keys: Vec<KeyColumn>,
    columns: Vec<ComparedColumn>,
    method: Method,
    seed: i64,
}

/// A side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The store that is right.
    From,
    /// The store that must hold the same.
    To,
}

/// The text being built, with its values.
#[derive(Default)]
struct Builder {
    values: Vec<Value>,
}

impl Builder {
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }
}

impl Reading {
    /// How a side's rows are read.
    pub fn new(comparison: &Comparison, side: Side, method: Method, seed: i64) -> Self {
        let (partitioned, keys) = match side {
            Side::From => (comparison.partitioned.0, &comparison.keys.0),
            Side::To => (comparison.partitioned.1, &comparison.keys.1),
        };
        Self {
            table: comparison.name.clone(),
            source: source(&comparison.name, partitioned, ALIAS),
            alias: ALIAS.to_owned(),
            keys: keys.clone(),
            columns: comparison.columns.clone(),
            method,
            seed,
        }
    }

    /// How a table's rows are found, where none of its columns is compared. It goes by its own name, so that an expression
    /// of the user's may say `orders.total` as well as `total`.
    pub fn keys_only(table: QualifiedName, partitioned: bool, keys: Vec<KeyColumn>) -> Self {
        let alias = Ident(&table.name).to_string();
        let source = source(&table, partitioned, &alias);
        Self { table, source, alias, keys, columns: Vec::new(), method: Method::Binary, seed: 0 }
    }

    /// The table.
    pub fn table(&self) -> &QualifiedName {
        &self.table
    }

    /// The table in a FROM clause.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The key after `rows` rows of a range: 1 row, or none where the range has fewer. Reads the index alone where the
    /// server can.
    pub fn walk(&self, range: &KeyRange, rows: i64) -> Statement {
        let mut builder = Builder::default();
        let keys = self.key_texts();
        let place = self.in_range(range, &mut builder);
        let skip = builder.bind(Value::Number(rows.saturating_sub(1).max(0)));
        let order = self.key_names().join(", ");
        let sql = format!(
            "SELECT {keys}\nFROM {}\nWHERE {place}\nORDER BY {order}\nOFFSET {skip}::bigint\nLIMIT 1",
            self.source
        );
        Statement { sql, values: builder.values }
    }

    /// The highest key: 1 row, or none where there is no row.
    pub fn highest(&self) -> Statement {
        let order: Vec<_> = self.key_names().into_iter().map(|name| format!("{name} DESC")).collect();
        let keys = self.key_texts();
        let sql = format!("SELECT {keys}\nFROM {}\nORDER BY {}\nLIMIT 1", self.source, order.join(", "));
        Statement { sql, values: Vec::new() }
    }

    /// Every `nth` key of a range, in order, one a row.
    pub fn split(&self, range: &KeyRange, nth: i64) -> Statement {
        let mut builder = Builder::default();
        let names = self.key_names().join(", ");
        let place = self.in_range(range, &mut builder);
        let nth = builder.bind(Value::Number(nth.max(1)));
        let sql = format!(
            "SELECT key\nFROM (\n    SELECT {} AS key, pg_catalog.row_number() OVER (ORDER BY {names}) AS place\n    FROM \
             {}\n    WHERE {place}\n) AS numbered\nWHERE place % {nth}::bigint = 0\nORDER BY place",
            self.key_texts(),
            self.source
        );
        Statement { sql, values: builder.values }
    }

    /// What a range adds up to: 1 row.
    pub fn sum(&self, range: &KeyRange) -> Statement {
        let mut builder = Builder::default();
        let digest = self.digest(&mut builder);
        let place = self.in_range(range, &mut builder);
        let sql = format!(
            "SELECT pg_catalog.count(*) AS rows, coalesce(pg_catalog.sum({digest}), 0)::text AS digests\nFROM {}\nWHERE \
             {place}",
            self.source
        );
        Statement { sql, values: builder.values }
    }

    /// What each bucket under `mask` adds up to: a row each for those that aren't empty.
    pub fn bucket_sums(&self, mask: i64) -> Statement {
        let mut builder = Builder::default();
        let digest = self.digest(&mut builder);
        let bucket = self.bucket(mask, &mut builder);
        let sql = format!(
            "SELECT {bucket} AS bucket, pg_catalog.count(*) AS rows, coalesce(pg_catalog.sum({digest}), 0)::text AS \
             digests\nFROM {}\nGROUP BY 1",
            self.source
        );
        Statement { sql, values: builder.values }
    }

    /// Number of rows: 1 row.
    pub fn count(&self) -> Statement {
        Statement { sql: format!("SELECT pg_catalog.count(*) AS rows FROM {}", self.source), values: Vec::new() }
    }

    /// Number of rows of a range: 1 row.
    pub fn count_range(&self, range: &KeyRange) -> Statement {
        self.of_range("pg_catalog.count(*) AS rows", range, "")
    }

    /// What is asked of a range's rows, as SQL, with a further condition.
    pub(super) fn of_range(&self, what: &str, range: &KeyRange, further: &str) -> Statement {
        let mut builder = Builder::default();
        let place = self.in_range(range, &mut builder);
        let sql = format!("SELECT {what}\nFROM {}\nWHERE {place}\n{further}", self.source);
        Statement { sql: sql.trim_end().to_owned(), values: builder.values }
    }

    /// The rows of a portion, each with its digest, in no order.
    pub fn list(&self, portion: &Portion) -> Statement {
        let mut builder = Builder::default();
        let digest = self.digest(&mut builder);
        let place = match portion {
            Portion::Range(range) => self.in_range(range, &mut builder),
            Portion::Buckets { mask, buckets } => {
                let bucket = self.bucket(*mask, &mut builder);
                let buckets = builder.bind(Value::Numbers(buckets.clone()));
                format!("{bucket} = ANY ({buckets}::bigint[])")
            }
        };
        let sql =
            format!("SELECT {} AS key, {digest} AS digest\nFROM {}\nWHERE {place}", self.key_texts(), self.source);
        Statement { sql, values: builder.values }
    }

    /// The rows with these keys, each with its digest, in no order. What isn't there isn't among them.
    pub fn list_keys(&self, keys: &[KeyValue]) -> Statement {
        let mut builder = Builder::default();
        let digest = self.digest(&mut builder);
        let wanted = self.wanted(keys, &mut builder);
        let sql = format!("SELECT {} AS key, {digest} AS digest\nFROM {wanted}", self.key_texts());
        Statement { sql, values: builder.values }
    }

    /// The rows with these keys, each with its columns' contents to compare one by one: the text of those that
    /// `as_text` says so of, and the digest of the others.
    pub fn contents(&self, keys: &[KeyValue], as_text: impl Fn(&ComparedColumn) -> bool) -> Statement {
        let mut builder = Builder::default();
        let seed = builder.bind(Value::Number(self.seed));
        let seed = format!("{seed}::bigint");
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| {
                let expression = column.expression(self.method);
                if as_text(column) {
                    format!("({expression})::text")
                } else {
                    // Deliberately also of NULL, whose digest is its own: an array of texts tells NULL by itself.
                    format!(
                        "CASE WHEN {expression} IS NOT NULL THEN {}::text END",
                        self.method.digest(std::slice::from_ref(&expression), &seed)
                    )
                }
            })
            .collect();
        let wanted = self.wanted(keys, &mut builder);
        let sql = format!(
            "SELECT {} AS key, ARRAY[{}]::text[] AS columns, {seed} AS seed\nFROM {wanted}",
            self.key_texts(),
            columns.join(", ")
        );
        Statement { sql, values: builder.values }
    }

    /// The columns that are compared.
    pub fn columns(&self) -> &[ComparedColumn] {
        &self.columns
    }

    /// The columns of the key.
    pub fn keys(&self) -> &[KeyColumn] {
        &self.keys
    }

    /// The rows with these keys, each with all its compared columns as text: what a repair writes. Rows are locked where
    /// `lock` says so.
    pub fn whole(&self, keys: &[KeyValue], lock: bool) -> Statement {
        let mut builder = Builder::default();
        let digest = self.digest(&mut builder);
        let columns: Vec<_> =
            self.columns.iter().map(|column| format!("{ALIAS}.{}::text", Ident(&column.name))).collect();
        let wanted = self.wanted(keys, &mut builder);
        let lock = if lock { "\nFOR UPDATE OF it" } else { "" };
        let sql = format!(
            "SELECT {} AS key, {digest} AS digest, ARRAY[{}]::text[] AS columns\nFROM {wanted}{lock}",
            self.key_texts(),
            columns.join(", ")
        );
        Statement { sql, values: builder.values }
    }

    /// Removes the rows with these keys.
    pub fn delete(&self, keys: &[KeyValue]) -> Statement {
        let mut builder = Builder::default();
        let (from, equal) = self.wanted_keys(keys, &mut builder);
        let sql = format!("DELETE FROM {}\nUSING {from}\nWHERE {equal}", self.source);
        Statement { sql, values: builder.values }
    }

    fn digest(&self, builder: &mut Builder) -> String {
        let seed = builder.bind(Value::Number(self.seed));
        let expressions: Vec<_> = self.columns.iter().map(|column| column.expression(self.method)).collect();
        self.method.digest(&expressions, &format!("{seed}::bigint"))
    }

    fn bucket(&self, mask: i64, builder: &mut Builder) -> String {
        let keys: Vec<_> = self.keys.iter().map(|key| key.text(&self.alias)).collect();
        let mask = builder.bind(Value::Number(mask));
        // Under a seed of its own: the rows' digests must not follow from their buckets.
        format!("({} & {mask}::bigint)", self.method.digest(&keys, "0::bigint"))
    }

    /// The key's columns as one array of texts.
    pub fn key_texts(&self) -> String {
        let texts: Vec<_> = self.keys.iter().map(|key| key.text(&self.alias)).collect();
        format!("ARRAY[{}]", texts.join(", "))
    }

    /// The key's columns as they are.
    pub fn key_names(&self) -> Vec<String> {
        self.keys.iter().map(|key| format!("{}.{}", self.alias, Ident(&key.name))).collect()
    }

    fn in_range(&self, range: &KeyRange, builder: &mut Builder) -> String {
        let names = self.key_names().join(", ");
        let mut bound = |operator: &str, value: &Option<KeyValue>| {
            let value = value.as_ref()?;
            let values: Vec<_> = value
                .iter()
                .zip(&self.keys)
                .map(|(value, key)| format!("{}::text::{}", builder.bind(Value::Text(value.clone())), key.type_name))
                .collect();
            Some(format!("({names}) {operator} ({})", values.join(", ")))
        };
        let bounds: Vec<_> = [bound(">", &range.after), bound("<=", &range.upto)].into_iter().flatten().collect();
        if bounds.is_empty() { "true".to_owned() } else { bounds.join(" AND ") }
    }

    /// The table joined with keys to look for.
    fn wanted(&self, keys: &[KeyValue], builder: &mut Builder) -> String {
        let (keys, equal) = self.wanted_keys(keys, builder);
        format!("{keys}\nJOIN {} ON {equal}", self.source)
    }

    /// Keys to look for as rows, and how they are joined with the table's.
    fn wanted_keys(&self, keys: &[KeyValue], builder: &mut Builder) -> (String, String) {
        let (mut arrays, mut names, mut equal) = (Vec::new(), Vec::new(), Vec::new());
        for (at, key) in self.keys.iter().enumerate() {
            let values = keys.iter().map(|value| value.get(at).cloned()).collect();
            arrays.push(format!("pg_catalog.unnest({}::text[])", builder.bind(Value::Texts(values))));
            names.push(format!("k{at}"));
            equal.push(format!("{}.{} = wanted.k{at}::{}", self.alias, Ident(&key.name), key.type_name));
        }
        let rows = format!("ROWS FROM ({}) AS wanted ({})", arrays.join(", "), names.join(", "));
        (rows, equal.join(" AND "))
    }
}

/// The table in a FROM clause. Tables that inherit from it are tables of their own; a partition is a part of it.
fn source(table: &QualifiedName, partitioned: bool, alias: &str) -> String {
    if partitioned { format!("{table} AS {alias}") } else { format!("ONLY {table} AS {alias}") }
}
