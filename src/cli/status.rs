//! `status`: waits for a migration to come to something, and ends with a code that a script understands.

use std::{pin::pin, str::FromStr};

use clap::Args;
use futures::StreamExt as _;
use kube::ResourceExt as _;

use super::{
    connect::ClusterFlags,
    exit::Code,
    follow::{self, News},
    look::Look,
    out,
    problem::Problem,
    verbs, words,
};
use crate::api::{Migration, MigrationStatus, PhaseState, Span, State};

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it has come to that (or has succeeded), 3 rolled back, 4 stalled, 5 a person is waited \
                        for, 6 timed out, 1 it can't come to that any more or could not be asked."
)]
pub struct Arguments {
    /// The migration.
    name: String,
    /// What to wait for: `settled` (has succeeded, is rolled back or stalled, or a person is needed), `succeeded`,
    /// `rolled-back`, `approval`, or `phase=NAME` (that phase is done).
    #[arg(long = "for", value_name = "WHAT", default_value = "settled")]
    goal: Goal,
    /// How long to wait, such as `10m`. Default: for ever.
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    /// Don't wait: say how it is now.
    #[arg(long)]
    no_wait: bool,
    /// Print nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// It goes on no further by itself.
    Settled,
    /// Every phase is done.
    Succeeded,
    /// Everything has been taken back.
    RolledBack,
    /// A phase waits for approval.
    Approval,
    /// A phase is done.
    Phase(String),
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "settled" => Goal::Settled,
            "succeeded" => Goal::Succeeded,
            "rolled-back" => Goal::RolledBack,
            "approval" => Goal::Approval,
            _ => match text.strip_prefix("phase=") {
                Some(name) if !name.is_empty() => Goal::Phase(name.to_owned()),
                _ => return Err("write settled, succeeded, rolled-back, approval or phase=NAME".to_owned()),
            },
        })
    }
}

/// Runs it.
pub async fn run(arguments: Arguments, flags: &ClusterFlags, look: &Look) -> Result<Code, Problem> {
    let cluster = flags.connect().await?;
    let name = &arguments.name;
    let migration = cluster.migration(name).await?;
    if let Goal::Phase(phase) = &arguments.goal {
        let known = migration.spec.phases.iter().map(|known| known.name.as_str());
        if !known.clone().any(|known| known == phase) {
            return Err(Problem::Usage {
                why: format!("migration {name} has no phase {phase}"),
                instead: format!("one of: {}", known.collect::<Vec<_>>().join(", ")),
            });
        }
    }
    let mut told = Told { quiet: arguments.quiet, last: String::new() };
    told.tell(&migration, look)?;
    if let Some(code) = come_to(&arguments.goal, &migration) {
        return Ok(code);
    }
    if arguments.no_wait {
        return Ok(Code::TimedOut);
    }
    let mut news = pin!(follow::one(&cluster, name));
    let waiting = async {
        loop {
            match news.next().await.expect("a watch never ends")? {
                News::Is(migration) => {
                    told.tell(&migration, look)?;
                    if let Some(code) = come_to(&arguments.goal, &migration) {
                        return Ok(code);
                    }
                }
                News::Gone => {
                    return Err(Problem::NotFound { name: name.clone(), namespace: cluster.namespace.clone() });
                }
                News::Trouble(why) => eprintln!("the watch is interrupted and goes on by itself: {why}"),
            }
        }
    };
    match arguments.timeout {
        None => waiting.await,
        Some(timeout) => {
            if let Ok(done) = tokio::time::timeout(timeout.0, waiting).await {
                return done;
            }
            eprintln!("not so within {}", words::short(timeout));
            Ok(Code::TimedOut)
        }
    }
}

struct Told {
    quiet: bool,
    last: String,
}

impl Told {
    fn tell(&mut self, migration: &Migration, look: &Look) -> Result<(), Problem> {
        let nothing = MigrationStatus::default();
        let status = migration.status.as_ref().unwrap_or(&nothing);
        let (name, state) = (migration.name_any(), super::get::state_word(status.state));
        let tone = words::tone_of(status.state);
        let text = format!("{name}: {}  {}  {}", look.paint(tone, state), status.progress, status.message);
        if self.quiet || text == self.last {
            return Ok(());
        }
        self.last.clone_from(&text);
        out::line(text.trim_end())
    }
}

/// What a migration has come to, once nothing more is to be waited for.
pub fn come_to(goal: &Goal, migration: &Migration) -> Option<Code> {
    let nothing = MigrationStatus::default();
    let status = migration.status.as_ref().unwrap_or(&nothing);
    // Status speaks of the past: of another spec, or of before what somebody has asked for.
    if status.observed_generation < migration.metadata.generation.unwrap_or_default() || verbs::is_underway(migration) {
        return None;
    }
    let waits_for = status.hold.as_ref().map(|hold| hold.reason.as_str());
    let done = |name: &str| status.phases.iter().any(|phase| phase.name == *name && phase.state == PhaseState::Done);
    match (goal, status.state) {
        (Goal::Settled | Goal::Succeeded | Goal::Phase(_), State::Succeeded)
        | (Goal::RolledBack, State::RolledBack) => Some(Code::Done),
        (Goal::RolledBack | Goal::Approval, State::Succeeded) => Some(Code::Failed),
        (_, State::RolledBack) | (Goal::Phase(_), State::RollingBack) => Some(Code::RolledBack),
        (_, State::Stalled) => Some(Code::Stalled),
        (Goal::Phase(name), _) if done(name) => Some(Code::Done),
        (Goal::Approval, _) if waits_for == Some("Approval") => Some(Code::Done),
        (Goal::Settled, _) if is_ready(status) => Some(Code::Done),
        (Goal::Settled, State::Waiting) if matches!(waits_for, Some("Approval" | "Paused" | "Until")) => {
            Some(Code::AwaitsPerson)
        }
        (
            Goal::Settled | Goal::Succeeded | Goal::RolledBack | Goal::Approval | Goal::Phase(_),
            State::Pending | State::Preflight | State::Running | State::Waiting | State::RollingBack,
        ) => None,
    }
}

/// All that was asked for so far is done, as `kubectl wait --for=condition=Ready` understands it.
fn is_ready(status: &MigrationStatus) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(state: &str, more: &Value) -> Migration {
        let mut status = json!({"state": state, "observedGeneration": 1});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "metadata": {"name": "m", "generation": 1},
            "spec": {"phases": [{"name": "ask", "approval": "Required"}]},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn what_has_ended_is_told_by_its_code() {
        for (goal, state, code) in [
            (Goal::Settled, "Succeeded", Some(Code::Done)),
            (Goal::Settled, "RolledBack", Some(Code::RolledBack)),
            (Goal::Settled, "Stalled", Some(Code::Stalled)),
            (Goal::Settled, "Running", None),
            (Goal::Succeeded, "RolledBack", Some(Code::RolledBack)),
            (Goal::RolledBack, "RolledBack", Some(Code::Done)),
            (Goal::RolledBack, "RollingBack", None),
            (Goal::RolledBack, "Succeeded", Some(Code::Failed)),
            (Goal::Phase("ask".into()), "RollingBack", Some(Code::RolledBack)),
        ] {
            assert_eq!(come_to(&goal, &at(state, &json!({}))), code, "{goal:?} {state}");
        }
    }

    #[test]
    fn a_wait_for_a_person_is_settled_and_no_success() {
        let waits = json!({"hold": {"reason": "Approval", "since": "2026-01-01T00:00:00Z"}});
        assert_eq!(come_to(&Goal::Settled, &at("Waiting", &waits)), Some(Code::AwaitsPerson));
        assert_eq!(come_to(&Goal::Approval, &at("Waiting", &waits)), Some(Code::Done));
        assert_eq!(come_to(&Goal::Succeeded, &at("Waiting", &waits)), None);
        let guard = json!({"hold": {"reason": "GuardSilent", "since": "2026-01-01T00:00:00Z"}});
        assert_eq!(come_to(&Goal::Settled, &at("Waiting", &guard)), None, "it may go on by itself");
    }

    #[test]
    fn a_status_of_another_spec_says_nothing() {
        let mut migration = at("Succeeded", &json!({}));
        migration.metadata.generation = Some(2);
        assert_eq!(come_to(&Goal::Settled, &migration), None);
    }
}
