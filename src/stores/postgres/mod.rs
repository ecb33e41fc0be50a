//! PostgreSQL 13 and later: [`Postgres`] is the door, [`Session`] what it opens to.

pub mod connect;
pub mod history;
pub mod ident;
pub mod index;
pub mod lint;
pub mod redact;
pub mod script;
pub mod server;
pub mod session;
mod tls;
pub mod touched;
pub mod uri;

pub use connect::{ConnectError, Postgres};
pub use session::{QueryError, Session};
