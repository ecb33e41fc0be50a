//! The databases that migrations work on. A room each; all SQL text of ours lives in these rooms and nowhere else.
//!
//! Only PostgreSQL so far. What a second store must offer is what [`postgres`] offers the worker: a session with bounded
//! waits, the history of scripts, and lint.

pub mod finding;
pub mod postgres;

pub use finding::{Finding, Severity};
