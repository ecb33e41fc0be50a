//! `shop`, the example application: what a team that uses Alongside might run.
//!
//! - `shop serve` is the service "inventory", in two versions, over a real Postgres. It can be
//!   drained, and it can be told to misbehave.
//! - `shop init-db` makes its table.
//! - `shop load` sends it requests on an open-loop schedule and accounts for each of them.
//! - `shop get` and `shop post` are the HTTP client of an image that has no shell.

mod client;
mod database;
mod fetch;
mod init_db;
mod load;
mod serve;
mod share;
mod stop;
mod times;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// The example application: a small service in two versions, and the load that watches it.
#[derive(Parser)]
#[command(name = "shop")]
enum Command {
    /// Serves the inventory over HTTP, backed by Postgres.
    Serve(serve::Options),
    /// Makes the table and its rows; does nothing where they exist.
    InitDb(init_db::Options),
    /// Sends requests to the inventory at a fixed rate and accounts for each of them.
    Load(load::Options),
    /// Gets a URL and prints the answer's body; fails unless the status is 2xx.
    Get(fetch::GetOptions),
    /// Posts to a URL and prints the answer's body; fails unless the status is 2xx.
    Post(fetch::PostOptions),
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Command::parse();
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .init();
    let ended: Result<(), Box<dyn Error>> = match command {
        Command::Serve(options) => serve::run(options).await.map_err(Into::into),
        Command::InitDb(options) => init_db::run(options).await.map_err(Into::into),
        Command::Load(options) => load::run(options).await.map_err(Into::into),
        Command::Get(options) => fetch::get(options).await.map_err(Into::into),
        Command::Post(options) => fetch::post(options).await.map_err(Into::into),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Returns an error with all its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Command::command().debug_assert();
    }
}
