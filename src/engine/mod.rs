//! The pure core: what to do next, from the plan, what is remembered, what is seen and what time it is.
//!
//! No clock, no network, no randomness and no logging: everything comes in as a value and goes out as one.

pub mod guard;
pub mod scripts;
