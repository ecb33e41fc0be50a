//! The `backfill` worker against a real PostgreSQL: what must hold of rows while everybody else writes them.

#[path = "../support/mod.rs"]
mod support;

mod basics;
mod bench;
mod crashes;
mod keys;
mod load;
mod pace;
mod refusals;
mod sync;
mod traps;
