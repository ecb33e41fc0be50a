//! The `backfill` worker within one store: fills columns of a live table from other columns of the same row.
//!
//! ```text
//!   lock ─▶ newest? ─▶ understood? ─▶ sync trigger ─▶ upper bound ─▶ chunks ─▶ sweep ─▶ trigger unbroken? ─▶ done
//!     ▲                                                 │  ▲  │
//!     └──── connection lost: what does the store say? ◀─┘  └──┘ monitor: pace, pauses, the trigger
//! ```
//!
//! Promises: rows and position commit together, so a worker that is killed at any moment goes on from the last chunk
//! that is done; no live write waits for more than one chunk, and none fails; "done" means that a look over the whole
//! table found no row in need, while the trigger was there without a break. It doesn't protect from a superuser who
//! switches triggers off and restores the catalogue row by row.

pub mod controls;
mod halt;
mod hand;
mod lead;
mod look;
mod monitor;
pub mod size;
pub mod summary;
mod sweep;
pub mod task;
pub mod throttle;
mod undo;
mod work;

use std::path::{Path, PathBuf};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    controls::Live,
    halt::Halt,
    lead::Outside,
    task::{Role, Task},
};
use super::{
    live,
    progress::Progress,
    task::Told as _,
    verdict::{Outcome, Verdict},
};
use crate::{api::backfill::FilledValues, stores::postgres::connect::chain};

/// Arguments of the `backfill` worker.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the task.
    #[arg(long, value_name = "FILE", default_value = super::task::DEFAULT_PATH)]
    pub task: PathBuf,
    /// File with what may change while it runs; looked at each second, and may be absent.
    #[arg(long, value_name = "FILE")]
    pub controls: Option<PathBuf>,
    /// File to report to.
    #[arg(long, value_name = "FILE", default_value = super::TERMINATION_LOG)]
    pub termination_log: PathBuf,
}

/// Reads a task and does it, under controls from a file or from the operator.
pub async fn run_file(task: &Path, controls: Option<PathBuf>, stop: &CancellationToken) -> Verdict {
    let task = match Task::read(task).await {
        Ok(task) => task,
        Err(error) => return Verdict::new(Outcome::Refused, format!("{}.", chain(&error))),
    };
    let progress = Progress::default();
    let served = match task.key {
        Some(key) => live::serve(&task.migration.uid, key, &progress).await,
        None => None,
    };
    let (feed, heard) = watch::channel(Live::default());
    let ended = CancellationToken::new();
    let until = ended.clone();
    let follower = tokio::spawn(async move {
        match (controls, served) {
            (Some(file), _) => controls::follow_file(file, feed, until).await,
            (None, Some(served)) => controls::follow_operator(&served, feed, until).await,
            // A channel whose feed is gone would look like the end.
            (None, None) => {
                until.cancelled().await;
                drop(feed);
            }
        }
    });
    let outside = Outside { live: heard, progress, stop: stop.clone() };
    let verdict = execute_under(&task, &outside).await;
    ended.cancel();
    let _ = follower.await;
    verdict
}

/// Does what a task says. Cancelling `stop` ends it at the boundary of a chunk, within seconds. `live` must have its feed
/// for as long as this runs.
///
/// Dropping the future instead leaves each statement under way to end by itself on the server.
pub async fn execute(task: &Task, live: watch::Receiver<Live>, stop: &CancellationToken) -> Verdict {
    let outside = Outside { live, progress: Progress::default(), stop: stop.clone() };
    execute_under(task, &outside).await
}

async fn execute_under(task: &Task, outside: &Outside) -> Verdict {
    let end = match task.store.lacks_its_secret().await {
        Some(why) => Err(Halt::failed(why)),
        None => match task.role {
            Role::Preflight => preflight(task, &outside.stop).await,
            Role::Run => lead::run(task, outside).await.map(|summary| Verdict {
                backfill: Some(summary.clone()),
                ..Verdict::new(Outcome::Succeeded, summary.sentence("Filled"))
            }),
            Role::Finish => undo::end(task, outside).await.map(|message| Verdict::new(Outcome::Succeeded, message)),
            Role::Undo => take_back(task, outside).await,
        },
    };
    end.unwrap_or_else(|halt| halt.into_verdict(""))
}

async fn preflight(task: &Task, stop: &CancellationToken) -> Result<Verdict, Halt> {
    let findings = match look::look(task, stop).await {
        // It does nothing that anybody could be in doubt about.
        Err(Halt::Lost { why }) => return Err(Halt::failed(format!("The connection was lost: {why}."))),
        other => other?,
    };
    let message = match findings.len() {
        0 => "Nothing stands in the way.".to_owned(),
        1 => "Nothing stands in the way; 1 finding is worth knowing.".to_owned(),
        count => format!("Nothing stands in the way; {count} findings are worth knowing."),
    };
    Ok(Verdict { findings, ..Verdict::new(Outcome::Succeeded, message) })
}

async fn take_back(task: &Task, outside: &Outside) -> Result<Verdict, Halt> {
    let removed = undo::end(task, outside).await?;
    match task.action.on_rollback {
        FilledValues::Keep => Ok(Verdict::new(Outcome::Succeeded, removed)),
        FilledValues::Delete => {
            let summary = lead::blank(task, outside).await?;
            let message = format!("{removed} {}", summary.sentence("Cleared"));
            Ok(Verdict { backfill: Some(summary), ..Verdict::new(Outcome::Succeeded, message) })
        }
    }
}
