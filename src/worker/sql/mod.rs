//! The `sql` worker: runs a phase's scripts against a store, forward or back, or asks beforehand whether that can be done.
//!
//! ```text
//!   connect ─▶ suitable? ─▶ only worker of the phase ─▶ newest? ─▶ read history ─▶ script by script ─▶ verdict
//!      ▲                                                                                 │
//!      └──────────────── connection lost: ask the store what is true now ◀───────────────┘
//! ```
//!
//! Promises: nothing runs twice (history row and schema change commit together; a lost COMMIT is asked after); nobody
//! waits long for a lock (every statement runs under a lock timeout, and lets go between tries); a script that failed
//! half-way says which statements have taken effect. It does not protect from a person who changes the schema or the
//! history by hand meanwhile.

mod halt;
mod pass;
mod preflight;
mod standing;
mod step;
mod wait;

use tokio_util::sync::CancellationToken;

use self::{
    halt::{Halt, describe},
    pass::{Pass, Tally},
    wait::Waits,
};
use super::{
    task::{Role, Task},
    verdict::{Outcome, Verdict},
};
use crate::{
    engine::scripts::{VersionedScript, checksum},
    stores::{
        Finding,
        postgres::{
            Postgres,
            history::Way,
            lint::{self, Direction, Leniency, Strictness, Subject},
            script::Script,
        },
    },
};

/// A script made ready to run one way.
struct Prepared<'a> {
    script: &'a VersionedScript,
    /// The text of this way with its checksum; a script without a down script has none on the way back.
    text: Option<(Script, String)>,
}

/// Does what a task says. Cancelling `stop` cancels the statement under way on the server and ends within seconds.
///
/// Dropping the future instead leaves the server to notice by itself.
pub async fn execute(task: &Task, stop: &CancellationToken) -> Verdict {
    let mut tally = Tally::default();
    if let Some(why) = task.store.lacks_its_secret().await {
        return Halt::failed(why).into_verdict();
    }
    let end = match task.role {
        Role::Preflight => match preflight::look(task, stop).await {
            Ok(findings) => Ok(passed(findings)),
            // It does nothing that anybody could be in doubt about.
            Err(Halt::Lost { why }) => Err(Halt::failed(format!("The connection was lost: {why}."))),
            Err(other) => Err(other),
        },
        Role::Up => run(task, Way::Up, stop, &mut tally).await,
        Role::Down => run(task, Way::Down, stop, &mut tally).await,
    };
    let mut verdict = end.unwrap_or_else(Halt::into_verdict);
    verdict.applied = tally.versions_in_effect(task);
    verdict.undone = tally.versions_taken_back(task);
    verdict
}

fn passed(findings: Vec<Finding>) -> Verdict {
    let message = match findings.len() {
        0 => "Nothing stands in the way.".to_owned(),
        1 => "Nothing stands in the way; 1 finding is worth knowing.".to_owned(),
        count => format!("Nothing stands in the way; {count} findings are worth knowing."),
    };
    Verdict { findings, ..Verdict::new(Outcome::Succeeded, message) }
}

async fn run(task: &Task, way: Way, stop: &CancellationToken, tally: &mut Tally) -> Result<Verdict, Halt> {
    let prepared = prepare(task, way);
    let findings = lint(task, way, &prepared);
    if findings.iter().any(Finding::is_error) {
        return Err(Halt::by_findings(findings));
    }
    for warning in &findings {
        tracing::warn!(rule = warning.rule, "{}", describe(warning));
    }
    let store = Postgres::new(&task.store.uri_file, &task.application_name());
    let waits = Waits::new(task.retry, stop);
    // A pass that got further starts the patience anew: scripts are finite, so this ends.
    let (mut patience, mut got_to) = (waits.patience(), 0);
    let mut in_doubt = false;
    loop {
        let session = match waits.connect(&store).await {
            // Not reaching the store is one thing, and not knowing what it did last another.
            Err(Halt::Failed { message, .. }) if in_doubt => return Err(Halt::Lost { why: message }),
            other => other?,
        };
        let pass = Pass { task, way, store: &store, session, waits: &waits };
        let why = match pass.run(&prepared, tally).await {
            Ok(()) => return Ok(Verdict { findings, ..Verdict::new(Outcome::Succeeded, tally.summary(task, way)) }),
            Err(Halt::Lost { why }) => why,
            Err(end) => return Err(end),
        };
        in_doubt = true;
        if tally.steps > got_to {
            (patience, got_to) = (waits.patience(), tally.steps);
        }
        tracing::warn!(%why, "the connection was lost; the store is asked what is true now");
        if !patience.again(&why).await? {
            return Err(Halt::Lost { why });
        }
    }
}

/// The task's scripts in the order in which this way runs them.
fn prepare(task: &Task, way: Way) -> Vec<Prepared<'_>> {
    let text = |script: &VersionedScript| match way {
        Way::Up => Some((Script::parse(&script.up), script.checksum.clone())),
        Way::Down => script.down.as_ref().map(|down| (Script::parse(down), checksum(down))),
    };
    let forward = task.scripts.iter().map(|script| Prepared { script, text: text(script) });
    match way {
        Way::Up => forward.collect(),
        Way::Down => forward.rev().collect(),
    }
}

fn lint(task: &Task, way: Way, prepared: &[Prepared<'_>]) -> Vec<Finding> {
    let subjects: Vec<_> = prepared
        .iter()
        .filter_map(|prepared| {
            let (script, _) = prepared.text.as_ref()?;
            let (text, direction) = match way {
                Way::Up => (prepared.script.up.as_str(), Direction::Up),
                Way::Down => (prepared.script.down.as_deref()?, Direction::Down),
            };
            Some(Subject { name: &prepared.script.name, text, script, direction })
        })
        .collect();
    let strictness = match way {
        Way::Up => Strictness::Full,
        // Preflight has looked at the whole. A rule that came with a newer image must not bar the way back.
        Way::Down => Strictness::OnlyWhatCannotRun,
    };
    let leniency = Leniency { allow: &task.lint.allow, past_no_return: task.lint.past_no_return, strictness };
    lint::lint(&subjects, leniency)
}
