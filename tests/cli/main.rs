//! The kubectl plugin as it is shipped: the binary against a real API server, with Migrations whose status the tests
//! write as the operator would, and one story through the operator itself.

#[path = "../support/mod.rs"]
mod support;

#[path = "../admission/data.rs"]
mod admission_data;
#[path = "../admission/guards.rs"]
mod admission_guards;
#[path = "../admission/moves.rs"]
mod admission_moves;
#[path = "../admission/phases.rs"]
mod admission_phases;
#[path = "../admission/whole.rs"]
mod admission_whole;
mod bench;
mod get;
mod init;
mod lint;
mod operated;
mod plan;
mod report;
mod server;
mod shell;
mod status;
mod verbs;
mod watching;
