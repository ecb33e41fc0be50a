//! PostgreSQL 13 and later: [`Postgres`] is the door, [`Session`] what it opens to.

pub mod assignments;
pub mod barrier;
pub mod catalog;
pub mod checksum;
pub mod chunk_statements;
pub mod chunks;
pub mod conductor;
pub mod connect;
pub mod duplicates;
pub mod expectation;
pub mod gate;
pub mod heartbeat;
pub mod history;
pub mod ident;
pub mod index;
pub mod keys;
pub mod lint;
pub mod movable;
pub mod pgbouncer;
pub mod reading;
pub mod redact;
pub mod repair;
pub mod replication;
pub mod script;
pub mod sequence;
pub mod server;
pub mod session;
pub mod slot;
pub mod snapshot_copy;
pub mod sync;
mod tls;
pub mod touched;
pub mod uri;

pub use connect::{ConnectError, Postgres};
pub use session::{QueryError, Session};
