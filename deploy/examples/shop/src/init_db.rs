//! `shop init-db`: the table in its first form, and its rows. Idempotent.

use std::time::{Duration, Instant};

use clap::Args;

use crate::database::{DatabaseError, Source};
use crate::times::duration;

/// Serialises several runs: `CREATE TABLE IF NOT EXISTS` fails if another one commits in between.
/// Held to the end of the transaction. The key is the table's name as hexadecimal ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'6974656d73'::bigint)";

/// Makes the table in the form that v1 speaks to. Locks nothing that exists.
const CREATE_ITEMS: &str = "
CREATE TABLE IF NOT EXISTS items (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    stock bigint NOT NULL,
    taken bigint NOT NULL DEFAULT 0
)";

/// Adds the rows that are missing. `$1` how many rows in all, `$2` the stock of each.
const FILL_ITEMS: &str = "
INSERT INTO items (id, name, stock)
SELECT id, 'item ' || id, $2
FROM generate_series(1::bigint, $1) AS id
ON CONFLICT (id) DO NOTHING";

/// What `shop init-db` is told.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    source: Source,
    /// How many items there shall be.
    #[arg(long, default_value_t = 1000)]
    items: i64,
    /// How many pieces there are of each.
    #[arg(long, default_value_t = 1_000_000)]
    stock: i64,
    /// How long to wait for a Postgres that doesn't answer yet.
    #[arg(long, value_parser = duration, default_value = "60s")]
    wait: Duration,
}

/// How long to wait between two attempts to connect.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(250);

/// Makes the table and its rows where they don't exist.
///
/// # Errors
/// The last reason why Postgres could not be reached within the wait, or why a statement failed.
pub async fn run(options: Options) -> Result<(), DatabaseError> {
    let Options { source, items, stock, wait } = options;
    let deadline = Instant::now() + wait;
    let mut client = loop {
        match source.connect().await {
            Ok(client) => break client,
            Err(DatabaseError::Connect(_) | DatabaseError::Timeout) if Instant::now() < deadline => {
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            }
            Err(error) => return Err(error),
        }
    };
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    transaction.batch_execute(CREATE_ITEMS).await?;
    let added = transaction.execute(FILL_ITEMS, &[&items, &stock]).await?;
    transaction.commit().await?;
    tracing::info!(items, added, "the table items is there");
    Ok(())
}
