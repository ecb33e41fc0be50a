//! A live write load: old-shape clients that insert, change names, move keys and delete, each in transactions of several
//! statements.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::task::JoinHandle;

use crate::support::postgres::Database;

/// What a load has done.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Transactions that were acknowledged.
    pub writes: u64,
    /// Transactions that the server refused.
    pub failed: u64,
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts so many clients on the customers. They know the old columns only.
    pub async fn start(database: &Database, clients: u64, seed: u64) -> Self {
        let (stop, writes, failed) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let mut handles = Vec::new();
        for client in 0..clients {
            let session = database.connect().await;
            let (stop, writes, failed) = (Arc::clone(&stop), Arc::clone(&writes), Arc::clone(&failed));
            handles.push(tokio::spawn(async move {
                let mut dice = (seed + 1) * 7919 + client;
                let mut roll = move |bound: u64| {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (dice >> 33) % bound
                };
                let mut next = 1_000_000 * (client + 1);
                while !stop.load(Ordering::Relaxed) {
                    next += 1;
                    let (one, other) = (roll(20_000) + 1, roll(20_000) + 1);
                    let (low, high) = (one.min(other), one.max(other));
                    let sql = match roll(6) {
                        0 => format!("INSERT INTO customers (id, full_name) VALUES ({next}, 'new{next} made{client}')"),
                        1 => format!("DELETE FROM customers WHERE id = {one}"),
                        // To and fro over wherever the backfill is; below the first key, too.
                        2 => format!("UPDATE customers SET id = -{next} WHERE id = {one}"),
                        3 => format!("UPDATE customers SET id = {next} WHERE id = {one}"),
                        4 => format!(
                            "BEGIN; UPDATE customers SET full_name = 'changed{next} by{client}' WHERE id = {low};
                             UPDATE customers SET visits = visits + 1 WHERE id = {high}; COMMIT"
                        ),
                        _ => format!("UPDATE customers SET visits = visits + 1 WHERE id BETWEEN {one} AND {one} + 5"),
                    };
                    match session.batch_execute(&sql).await {
                        Ok(()) => writes.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            eprintln!("{sql}: {error:?}");
                            let _ = session.batch_execute("ROLLBACK").await;
                            failed.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            }));
        }
        Self { stop, writes, failed, clients: handles }
    }

    /// Stops it and says what it has done.
    pub async fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("clients don't panic");
        }
        Written { writes: self.writes.load(Ordering::Relaxed), failed: self.failed.load(Ordering::Relaxed) }
    }
}
