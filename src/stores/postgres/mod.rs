//! PostgreSQL 13 and later.

pub mod lint;
pub mod script;
