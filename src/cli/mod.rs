//! The kubectl plugin `kubectl alongside`: what a person sees of a Migration and does to it, without reading YAML.
//!
//! It reads Migrations, their Jobs and pods, and writes nothing but annotations of a Migration, which the operator acts
//! on. `lint`, `plan -f` and `init` need no cluster.
//!
//! A verb is a file or a folder: its arguments, what it does, and its tests. What is printed is made by pure functions of
//! what was read and of the time; only this file and `connect`, `follow` and `out` touch the terminal or the network.

mod connect;
mod exit;
mod follow;
mod get;
mod init;
mod lint;
mod look;
mod out;
mod plan;
mod problem;
mod report;
mod shell;
mod status;
mod verbs;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use exit::Code;

use connect::ClusterFlags;
use verbs::Verb;

/// Shows and steers migrations that the operator Alongside carries out.
///
/// Exit codes: 0 done, 1 it could not be done, 2 wrong usage, 3 rolled back, 4 stalled, 5 a person is waited for,
/// 6 timed out, 7 refused before anything was written, 8 lint found errors.
#[derive(Debug, Parser)]
#[command(name = "kubectl-alongside", bin_name = "kubectl alongside", version, max_term_width = 120)]
pub struct Cli {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    look: look::LookFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists migrations, or shows one with its phases, guards and way back.
    Get(get::Arguments),
    /// Waits until a migration has come to something, with an exit code for scripts.
    Status(status::Arguments),
    /// Agrees that the phase that waits for a person begins.
    Approve(verbs::Approval),
    /// Holds every forward step; guards stay on.
    Pause(verbs::Arguments),
    /// Lets a paused migration go on.
    Resume(verbs::Arguments),
    /// Stops a migration and takes everything back.
    Abort(verbs::Arguments),
    /// Takes back a migration that went well so far.
    Rollback(verbs::Arguments),
    /// Tries again what has failed, or begins anew what was rolled back.
    Retry(verbs::Arguments),
    /// Says what a migration would do, phase by phase, and what taking each back means.
    Plan(plan::Arguments),
    /// Checks files without a cluster: schema, rules, SQL and PromQL.
    Lint(lint::Arguments),
    /// Writes a Migration to begin with, from flags or, on a terminal, from questions.
    Init(Box<init::Arguments>),
    /// Tells what a migration did: times, guards, evidence, the way back and who approved.
    Report(report::Arguments),
    /// Prints completions for a shell.
    Completion(shell::Completion),
    /// Prints the man page.
    Man,
    #[command(name = "__complete", hide = true)]
    Propose(shell::Words),
}

/// The plugin's command line, for completions and the man page.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the plugin with this process's arguments and returns how it ends.
pub async fn run() -> ExitCode {
    let cli = match Cli::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors; clap knows which stream each goes to.
            let _ = error.print();
            return if error.use_stderr() { Code::Usage.into() } else { Code::Done.into() };
        }
    };
    let look = cli.look.look();
    let cluster = &cli.cluster;
    let done = match cli.command {
        Command::Get(arguments) => get::run(arguments, cluster, &look).await,
        Command::Lint(arguments) => lint::run(&arguments, &look),
        Command::Plan(arguments) => plan::run(&arguments, cluster, &look).await,
        Command::Init(arguments) => init::run(*arguments, cluster, &look),
        Command::Report(arguments) => report::run(&arguments, cluster).await,
        Command::Completion(arguments) => shell::complete(&arguments),
        Command::Man => shell::man(),
        Command::Propose(words) => shell::propose(&words),
        Command::Status(arguments) => status::run(arguments, cluster, &look).await,
        Command::Approve(arguments) => verbs::approve(arguments, cluster, &look).await,
        Command::Pause(arguments) => verbs::run(&Verb::Pause, &arguments, cluster, &look).await,
        Command::Resume(arguments) => verbs::run(&Verb::Resume, &arguments, cluster, &look).await,
        Command::Abort(arguments) => verbs::run(&Verb::Abort, &arguments, cluster, &look).await,
        Command::Rollback(arguments) => verbs::run(&Verb::Rollback, &arguments, cluster, &look).await,
        Command::Retry(arguments) => verbs::run(&Verb::Retry, &arguments, cluster, &look).await,
    };
    match done {
        Ok(code) => code.into(),
        Err(problem) => {
            problem.tell(&cli.look.look_of_errors());
            problem.code().into()
        }
    }
}
