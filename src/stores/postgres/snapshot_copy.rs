//! Rows as of one snapshot from one server into another: binary COPY out, binary COPY in, and a journal row in the same
//! transaction.

use std::io::Cursor;

use futures::{SinkExt as _, StreamExt as _, pin_mut};

use super::{
    ident::QualifiedName,
    replication::{Column, Names, Table},
    session::{QueryError, Session},
};

/// Bytes that go to the target in one message. The source sends a message a row, which would cost as much each.
const MESSAGE: usize = 64 * 1024;
/// Pages of a table that are copied as one part: 64 MiB of the usual 8 KiB.
pub const PART_PAGES: i64 = 8_192;

/// A table, or a part of a large one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The table.
    pub table: QualifiedName,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Which part of it, from 0.
    pub number: i32,
    /// The pages, from and up to but without; absent for all there are, also those added since.
    pub pages: Option<(i64, Option<i64>)>,
}

/// Cuts tables into parts. The last part of each has no end, as a snapshot may hold rows past the size that was read.
pub fn parts(tables: &[Table]) -> Vec<Part> {
    let of_table = |table: &Table| {
        let count = (table.pages / PART_PAGES).max(0);
        let part = |number: i64| Part {
            table: table.name.clone(),
            columns: table.columns.clone(),
            number: i32::try_from(number).unwrap_or(i32::MAX),
            pages: (count > 0).then(|| (number * PART_PAGES, (number < count).then_some((number + 1) * PART_PAGES))),
        };
        (0..=count).map(part).collect::<Vec<_>>()
    };
    let mut parts: Vec<_> = tables.iter().flat_map(of_table).collect();
    // Parts of full size first, so that the copiers end at about the same time.
    parts.sort_by_key(|part| part.pages.is_none());
    parts
}

impl Part {
    fn column_list(&self) -> String {
        let quoted = self.columns.iter().map(|column| format!("\"{}\"", column.name.replace('"', "\"\"")));
        quoted.collect::<Vec<_>>().join(", ")
    }

    /// What reads it.
    pub fn out_sql(&self) -> String {
        let place = match self.pages {
            None => String::new(),
            Some((from, None)) => format!(" WHERE ctid >= '({from},0)'::tid"),
            Some((from, Some(to))) => format!(" WHERE ctid >= '({from},0)'::tid AND ctid < '({to},0)'::tid"),
        };
        // ONLY: what inherits from it is a table of its own.
        format!("COPY (SELECT {} FROM ONLY {}{place}) TO STDOUT (FORMAT binary)", self.column_list(), self.table)
    }

    /// What writes it.
    pub fn in_sql(&self) -> String {
        format!("COPY {} ({}) FROM STDIN (FORMAT binary)", self.table, self.column_list())
    }
}

/// Begins a transaction that sees what another does. It changes nothing and never ends by being idle.
pub async fn import(source: &Session, snapshot: &str) -> Result<(), QueryError> {
    let sql = format!(
        "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ \
         READ ONLY; SET TRANSACTION SNAPSHOT {}",
        super::replication::literal(snapshot)
    );
    source.run(&sql).await
}

/// Exports the snapshot of the transaction that is open. It can be imported while that transaction lasts.
pub async fn export(source: &Session) -> Result<String, QueryError> {
    source.value("SELECT pg_catalog.pg_export_snapshot()", &[]).await
}

/// Keeps tables as they are laid out, to the end of the transaction: a rewrite would move rows from one part to another.
pub async fn hold(source: &Session, tables: &[Table]) -> Result<(), QueryError> {
    for table in tables {
        source.run(&format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", table.name)).await?;
    }
    Ok(())
}

/// Why a part wasn't copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Reading it failed.
    #[error("could not read {table}")]
    Read {
        /// The table.
        table: QualifiedName,
        /// Why.
        #[source]
        source: QueryError,
    },
    /// Writing it failed.
    #[error("could not write {table}")]
    Write {
        /// The table.
        table: QualifiedName,
        /// Why.
        #[source]
        source: QueryError,
    },
}

impl CopyError {
    /// What stood in the way.
    pub fn cause(&self) -> &QueryError {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => source,
        }
    }
}

/// Copies one part, and notes it in the journal in the same transaction. `source` has imported the snapshot. Returns the
/// number of rows. `tell` hears of bytes as they pass.
pub async fn copy(
    source: &Session,
    target: &Session,
    names: &Names,
    snapshot: &str,
    part: &Part,
    mut tell: impl FnMut(u64),
) -> Result<u64, CopyError> {
    let reading = |source| CopyError::Read { table: part.table.clone(), source };
    let writing = |source| CopyError::Write { table: part.table.clone(), source };
    // Triggers and foreign keys had their say on the source.
    let begin = "SET idle_in_transaction_session_timeout = 0; BEGIN; SET LOCAL session_replication_role = replica; SET \
                 LOCAL statement_timeout = 0";
    target.run(begin).await.map_err(writing)?;
    let answer = async {
        let rows = source.client().copy_out(&part.out_sql()).await.map_err(|error| reading(source.explain(&error)))?;
        let sink = target.client().copy_in::<_, Cursor<Vec<u8>>>(&part.in_sql()).await;
        let sink = sink.map_err(|error| writing(target.explain(&error)))?;
        pin_mut!(rows, sink);
        let mut message = Vec::with_capacity(MESSAGE + MESSAGE / 4);
        while let Some(row) = rows.next().await {
            let row = row.map_err(|error| reading(source.explain(&error)))?;
            tell(row.len() as u64);
            message.extend_from_slice(&row);
            if message.len() >= MESSAGE {
                let full = std::mem::replace(&mut message, Vec::with_capacity(MESSAGE + MESSAGE / 4));
                sink.send(Cursor::new(full)).await.map_err(|error| writing(target.explain(&error)))?;
            }
        }
        if !message.is_empty() {
            sink.send(Cursor::new(message)).await.map_err(|error| writing(target.explain(&error)))?;
        }
        let copied = sink.finish().await.map_err(|error| writing(target.explain(&error)))?;
        let note =
            names.fill("INSERT INTO {schema}.copied (snapshot, relation, part, copied_rows) VALUES ($1, $2, $3, $4)");
        let count = i64::try_from(copied).unwrap_or(i64::MAX);
        target.rows(&note, &[&snapshot, &part.table.to_string(), &part.number, &count]).await.map_err(writing)?;
        target.commit().await.map_err(writing)?;
        Ok(copied)
    }
    .await;
    if answer.is_err() {
        // Without an answer the session's end rolls back.
        let _ = target.roll_back().await;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::postgres::replication::Kind;

    fn table(pages: i64) -> Table {
        Table {
            name: QualifiedName { schema: "public".into(), name: "Order \"x\"".into() },
            oid: 1,
            kind: Kind::Plain,
            columns: vec![
                Column { name: "id".into(), type_name: "bigint".into() },
                Column { name: "a\"b".into(), type_name: "text".into() },
            ],
            owned: true,
            has_identity: true,
            pages,
        }
    }

    #[test]
    fn a_small_table_is_one_part_without_bounds() {
        let parts = parts(&[table(10)]);
        assert_eq!(parts.len(), 1);
        assert_eq!(
            parts[0].out_sql(),
            "COPY (SELECT \"id\", \"a\"\"b\" FROM ONLY \"public\".\"Order \"\"x\"\"\") TO STDOUT (FORMAT binary)"
        );
        assert_eq!(
            parts[0].in_sql(),
            "COPY \"public\".\"Order \"\"x\"\"\" (\"id\", \"a\"\"b\") FROM STDIN (FORMAT binary)"
        );
    }

    #[test]
    fn parts_of_a_large_table_meet_without_gap_and_the_last_has_no_end() {
        let parts = parts(&[table(PART_PAGES * 2 + 5)]);
        let pages: Vec<_> = parts.iter().map(|part| part.pages.unwrap()).collect();
        let step = PART_PAGES;
        assert_eq!(pages, [(0, Some(step)), (step, Some(2 * step)), (2 * step, None)]);
        assert!(parts[1].out_sql().contains("WHERE ctid >= '(8192,0)'::tid AND ctid < '(16384,0)'::tid"));
        assert!(parts[2].out_sql().contains("WHERE ctid >= '(16384,0)'::tid)"));
    }
}
