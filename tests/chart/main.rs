//! The Helm chart: what it renders, what it refuses, and that a real API server takes it.

#[path = "../support/mod.rs"]
mod support;

mod install;
mod live;
mod render;
mod rights;
mod values;
mod watching;
