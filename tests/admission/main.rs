//! What the API server accepts and refuses: each rule of the schema, each policy of the chart, on a real API server.

#[path = "../support/mod.rs"]
mod support;

mod changes;
mod coverage;
mod data;
mod examples;
mod guards;
mod moves;
mod phases;
mod policies;
mod server;
mod upgrade;
mod whole;
