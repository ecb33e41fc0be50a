//! A row that is written on one side and shows on the other once everything committed before it does.
//!
//! It sits in a published table: changes are applied in the order of their commits, so a heartbeat that shows is proof
//! of all that went before. A slot's `confirmed_flush_lsn` proves the same a few hundred milliseconds later.

use super::{
    replication::{Names, Stream},
    session::{QueryError, Session},
};

/// Name of the heartbeat's table, in the schema of what is ours.
pub const TABLE: &str = "heartbeat";

const BEAT: &str = "
INSERT INTO {schema}.heartbeat AS heartbeat (side, beat, at) VALUES ($1, 1, clock_timestamp())
ON CONFLICT (side) DO UPDATE SET beat = heartbeat.beat + 1, at = clock_timestamp()
RETURNING beat";

const SHOWN: &str = "SELECT beat FROM {schema}.heartbeat WHERE side = $1";

/// The age in milliseconds, on the source's own clock, of a heartbeat of which the other side shows the time.
const AGE: &str = "
SELECT (extract(epoch FROM clock_timestamp() - $1::text::timestamptz) * 1000)::bigint";

const SHOWN_AT: &str = "SELECT at::text FROM {schema}.heartbeat WHERE side = $1";

fn side(stream: Stream) -> &'static str {
    match stream {
        Stream::Forward => "old",
        Stream::Reverse => "new",
    }
}

/// Writes the next heartbeat of a stream on the store that it leads away from, and returns its number.
pub async fn beat(source: &Session, names: &Names, stream: Stream) -> Result<i64, QueryError> {
    source.value(&names.fill(BEAT), &[&side(stream)]).await
}

/// The last heartbeat of a stream that shows; 0 before the first.
pub async fn shown(target: &Session, names: &Names, stream: Stream) -> Result<i64, QueryError> {
    let rows = target.rows(&names.fill(SHOWN), &[&side(stream)]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// How old, in milliseconds, the last heartbeat is that shows on the target, by the source's clock alone; absent before
/// the first. An upper bound of the lag, by up to the time between two heartbeats.
pub async fn age(source: &Session, target: &Session, names: &Names, stream: Stream) -> Result<Option<i64>, QueryError> {
    let rows = target.rows(&names.fill(SHOWN_AT), &[&side(stream)]).await?;
    match rows.first() {
        None => Ok(None),
        Some(row) => {
            let at: String = row.get(0);
            source.value(AGE, &[&at]).await.map(Some)
        }
    }
}
