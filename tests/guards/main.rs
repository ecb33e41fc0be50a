//! Guards against a real Prometheus; a stand-in answers only where a real one can't be made to say it.

#[path = "../support/mod.rs"]
mod support;

mod board;
mod fair;
mod provider;
mod scene;
mod verdicts;
