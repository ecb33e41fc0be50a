//! The kubectl plugin as it is shipped: the binary against a real API server, with Migrations whose status the tests
//! write as the operator would.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod get;
mod status;
mod verbs;
mod watching;
