//! What several test binaries share: real servers, brought up for a run and gone after it.

// Each test binary compiles this by itself and uses a part of it.
#![allow(dead_code, reason = "each test binary uses another part")]

pub mod cluster;
pub mod load;
pub mod pgbouncer;
pub mod postgres;
pub mod prometheus;
pub mod proxy;
pub mod wait;
