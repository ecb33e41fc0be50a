//! PostgreSQL 13 and later: [`Postgres`] is the door, [`Session`] what it opens to.

pub mod assignments;
pub mod chunk_statements;
pub mod chunks;
pub mod connect;
pub mod history;
pub mod ident;
pub mod index;
pub mod keys;
pub mod lint;
pub mod redact;
pub mod script;
pub mod server;
pub mod session;
pub mod sync;
mod tls;
pub mod touched;
pub mod uri;

pub use connect::{ConnectError, Postgres};
pub use session::{QueryError, Session};
