//! A move between two real PostgreSQL servers under write load: what must hold of the copy, the cut-over and the way back.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod copy;
mod model;
mod moves;
mod schedules;
mod service;
mod traps;
