//! Alongside carries a database or a service from its old form to its new one while both run side by side, and takes
//! the whole thing back by itself when the numbers say so.
//!
//! The rooms of the house, and what each may use, are in `docs/architecture.md`.

pub mod actions;
pub mod api;
pub mod cli;
pub mod engine;
pub mod guards;
pub mod operator;
pub mod stores;
pub mod worker;
