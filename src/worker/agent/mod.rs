//! The agent of a migration between two stores.

pub mod course;
