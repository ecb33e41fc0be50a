//! stub
#![allow(missing_docs)]
pub mod ladder;
pub mod task;
#[derive(clap::Subcommand)]
pub enum Command {
    /// x
    Sql,
}
pub async fn run(_: Command) -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
