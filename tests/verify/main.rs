//! The `verify` worker against real PostgreSQL servers: what it must find, and what it must never say.

#[path = "../support/mod.rs"]
mod support;

mod barriers;
mod bench;
mod between;
mod catalogue;
mod equality;
mod expectations;
mod random;
mod repairs;
mod traps;
mod zoo;
