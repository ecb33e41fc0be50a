//! PostgreSQL 13 and later: [`Postgres`] is the door, [`Session`] what it opens to.

pub mod conductor;
pub mod connect;
pub mod gate;
pub mod heartbeat;
pub mod history;
pub mod ident;
pub mod index;
pub mod lint;
pub mod movable;
pub mod pgbouncer;
pub mod redact;
pub mod replication;
pub mod script;
pub mod sequence;
pub mod server;
pub mod session;
pub mod slot;
pub mod snapshot_copy;
mod tls;
pub mod touched;
pub mod uri;

pub use connect::{ConnectError, Postgres};
pub use session::{QueryError, Session};
