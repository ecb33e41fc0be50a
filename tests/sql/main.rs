//! The `sql` worker against a real PostgreSQL: what must hold of schema changes.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod connections;
mod history;
mod indexes;
mod locks;
mod preflight;
mod session;
