//! Whether a verb means something now. Pure: from what status says to what would be written, or why nothing should be.

use kube::ResourceExt as _;

use super::ask::Ask;
use crate::{
    api::{
        ABORT_ANNOTATION, APPROVE_ANNOTATION, FORMAT_VERSION, Migration, MigrationStatus, PAUSE_ANNOTATION, Phase,
        PhaseState, PlanRef, RETRY_ANNOTATION, ROLLBACK_ANNOTATION, State,
    },
    engine::{
        in_effect,
        plan::{self, Undo},
        verb,
    },
};

/// A verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Agrees that the phase that waits begins.
    Approve {
        /// Only if it is this one.
        phase: Option<String>,
    },
    /// Holds forward steps.
    Pause,
    /// Lets them go on.
    Resume,
    /// Stops and takes everything back.
    Abort,
    /// Takes back what went well so far.
    Rollback,
    /// Tries again what has failed, or begins anew what was rolled back.
    Retry,
}

/// Why a verb would mean nothing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: String,
    /// What to do instead.
    pub instead: Option<String>,
}

fn refuse<T>(why: impl Into<String>, instead: Option<String>) -> Result<T, Refusal> {
    Err(Refusal { why: why.into(), instead })
}

/// Judges a verb by what status says.
///
/// # Errors
/// It would do nothing, or not what was meant.
pub fn judge(verb: &Verb, migration: &Migration) -> Result<Ask, Refusal> {
    let nothing = MigrationStatus::default();
    let at = At { migration, status: migration.status.as_ref().unwrap_or(&nothing) };
    if at.status.format_version > FORMAT_VERSION {
        let why = format!("status has format {}, which this plugin does not know", at.status.format_version);
        return refuse(why, Some("install the plugin of the operator's release".to_owned()));
    }
    match verb {
        Verb::Approve { phase } => at.approve(phase.as_deref()),
        Verb::Pause => at.pause(),
        Verb::Resume => at.resume(),
        Verb::Abort => at.take_back("abort", ABORT_ANNOTATION),
        Verb::Rollback => at.take_back("rollback", ROLLBACK_ANNOTATION),
        Verb::Retry => at.retry(),
    }
}

/// Whether somebody has asked for something that the operator has not acted on yet, so that status speaks of the past.
pub fn is_underway(migration: &Migration) -> bool {
    let nothing = MigrationStatus::default();
    let at = At { migration, status: migration.status.as_ref().unwrap_or(&nothing) };
    let state = at.status.state;
    let taken_back = [("abort", ABORT_ANNOTATION), ("rollback", ROLLBACK_ANNOTATION)];
    let leaves = [State::Succeeded, State::RolledBack, State::Stalled].contains(&state);
    let approved = at.is_held_by("Approval") && at.bound(APPROVE_ANNOTATION).is_some();
    let retried = at.annotation(RETRY_ANNOTATION).is_some() && at.annotation(RETRY_ANNOTATION) == at.offered_retry();
    let asked = taken_back.iter().any(|(verb, annotation)| at.pending(verb, annotation).is_some());
    approved || (retried && at.pending("retry", RETRY_ANNOTATION).is_some()) || (asked && !leaves)
}

struct At<'a> {
    migration: &'a Migration,
    status: &'a MigrationStatus,
}

impl<'a> At<'a> {
    fn name(&self) -> String {
        self.migration.name_any()
    }

    fn plan(&self) -> Result<&'a PlanRef, Refusal> {
        if let Some(plan) = &self.status.plan {
            return Ok(plan);
        }
        let why = if self.status.message.is_empty() {
            "the operator has not looked at it yet, and nothing has begun".to_owned()
        } else {
            format!("nothing has begun, so there is nothing to stop or approve: {}", self.status.message)
        };
        refuse(why, Some(format!("what can still be changed freely: kubectl edit migration {}", self.name())))
    }

    fn annotation(&self, name: &str) -> Option<&'a str> {
        self.migration.annotations().get(name).map(String::as_str)
    }

    fn phase(&self) -> &'a str {
        self.status.phase.as_deref().unwrap_or_default()
    }

    /// The value of an annotation that speaks of what is now.
    fn bound(&self, annotation: &str) -> Option<&'a str> {
        self.annotation(annotation).filter(|value| {
            // A retry may name its try behind the rest.
            let rest = value.rsplit_once('/').map_or(*value, |(rest, _)| rest);
            [value, rest].iter().any(|value| verb::is_bound_to_any(value, self.phase(), self.status))
        })
    }

    /// The same, if it has not been acted on.
    fn pending(&self, verb: &str, annotation: &str) -> Option<&'a str> {
        self.bound(annotation).filter(|value| !verb::is_consumed(verb, value, self.status))
    }

    fn is_held_by(&self, reason: &str) -> bool {
        self.status.hold.as_ref().is_some_and(|hold| hold.reason == reason)
    }

    fn is_going_back(&self) -> bool {
        self.status.rollback.as_ref().is_some_and(|rollback| rollback.done.is_none())
    }

    fn has_ended(&self) -> Result<(), Refusal> {
        match self.status.state {
            State::Succeeded => {
                let instead = "to go back to the old form, write a migration that leads there".to_owned();
                refuse("it has succeeded: every phase is done and nothing is left to steer", Some(instead))
            }
            State::RolledBack => refuse("it has been taken back already", Some(self.command("retry"))),
            State::Pending
            | State::Preflight
            | State::Running
            | State::Waiting
            | State::RollingBack
            | State::Stalled => Ok(()),
        }
    }

    fn is_leaving(&self) -> Result<(), Refusal> {
        if self.migration.metadata.deletion_timestamp.is_some() {
            return refuse("it is being deleted, which decides already what happens to it", None);
        }
        Ok(())
    }

    fn command(&self, verb: &str) -> String {
        let namespace = self.migration.namespace().map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
        format!("kubectl alongside {verb} {}{namespace}", self.name())
    }

    fn approve(&self, wanted: Option<&str>) -> Result<Ask, Refusal> {
        self.has_ended()?;
        self.is_leaving()?;
        let plan = self.plan()?;
        if self.is_going_back() {
            return refuse("everything is being taken back, and nothing begins meanwhile", None);
        }
        if self.status.observed_generation < self.migration.metadata.generation.unwrap_or_default() {
            let why = "the spec has changed and the operator has not looked at it yet: its plan may become another, \
                       which voids an approval";
            return refuse(why, Some(format!("look at it again in a moment: {}", self.command("get"))));
        }
        let phase = self.phase();
        if let Some(wanted) = wanted.filter(|wanted| *wanted != phase) {
            let why = format!("phase {wanted} is not the one that waits: the migration is at phase {phase}");
            return refuse(why, Some(format!("an approval is for the phase that comes next: {}", self.command("get"))));
        }
        let spec = self.migration.spec.phases.iter().find(|known| known.name == phase);
        let begun = self.status.phases.iter().any(|known| known.name == phase && known.state != PhaseState::Pending);
        if begun {
            return refuse(format!("phase {phase} has begun and asks for nothing: {}", self.status.message), None);
        }
        if !self.is_held_by("Approval") && !spec.is_some_and(plan::needs_approval) {
            return refuse(format!("phase {phase} asks for no approval: {}", self.status.message), None);
        }
        let value = verb::binding(phase, &plan.hash, self.status.attempt);
        if self.annotation(APPROVE_ANNOTATION) == Some(&value) {
            return refuse(format!("phase {phase} is approved already; it waits: {}", self.status.message), None);
        }
        let last = if spec.is_some_and(|spec| spec.point_of_no_return) {
            "\nIt is the point of no return: from then on nothing is taken back."
        } else {
            ""
        };
        let question = format!("Approves phase {phase} of migration {} (plan {}).{last}", self.name(), plan.hash);
        let then = if self.is_held_by("Paused") {
            format!("it is paused; phase {phase} begins once it is resumed: {}", self.command("resume"))
        } else {
            format!("phase {phase} begins as soon as every guard passes")
        };
        let mut ask = Ask::set(APPROVE_ANNOTATION, value).says(question, format!("phase {phase} is approved"), then);
        ask.names_the_giver = true;
        Ok(ask)
    }

    fn pause(&self) -> Result<Ask, Refusal> {
        self.has_ended()?;
        self.is_leaving()?;
        let plan = self.plan()?;
        if self.is_going_back() {
            return refuse("a way back is never held: pause holds forward steps", None);
        }
        if self.bound(PAUSE_ANNOTATION).is_some() {
            return refuse("it is paused already", Some(self.command("resume")));
        }
        let value = verb::binding("*", &plan.hash, self.status.attempt);
        let question = format!("Pauses migration {}: no forward step, and workers rest. Guards stay on.", self.name());
        let then = format!("what has been begun comes to rest; go on by: {}", self.command("resume"));
        Ok(Ask::set(PAUSE_ANNOTATION, value).says(question, "paused", then))
    }

    fn resume(&self) -> Result<Ask, Refusal> {
        if self.annotation(PAUSE_ANNOTATION).is_none() {
            let held = ["PausedByGuard", "PausedByBreach"].iter().any(|reason| self.is_held_by(reason));
            let instead = held.then(|| format!("it goes on by itself once the guard passes: {}", self.status.message));
            return refuse("nobody has paused it", instead);
        }
        let stale = self.bound(PAUSE_ANNOTATION).is_none();
        let done = if stale { "a pause that had no effect any more is removed" } else { "resumed" };
        let question = format!("Lets migration {} go on.", self.name());
        let then = "it goes on as soon as every guard passes".to_owned();
        Ok(Ask::remove(PAUSE_ANNOTATION).says(question, done, then))
    }

    fn take_back(&self, word: &'static str, annotation: &'static str) -> Result<Ask, Refusal> {
        self.has_ended()?;
        self.is_leaving()?;
        if self.is_going_back() {
            return refuse("everything is being taken back already", Some(self.command("get")));
        }
        if self.status.plan.is_none() {
            let delete = format!("delete it: kubectl delete migration {}", self.name());
            return refuse("nothing has begun, so there is nothing to take back", Some(delete));
        }
        let plan = self.plan()?;
        if let Some(passed) = self.status.phases.iter().find(|phase| is_past(phase)) {
            let why = format!("there is no way back any more: phase {} is the point of no return", passed.name);
            let pause = format!("to hold what is left: {}", self.command("pause"));
            return refuse(why, Some(pause));
        }
        if self.pending(word, annotation).is_some() {
            return refuse(format!("{word} is asked for already; {}", self.status.message), None);
        }
        let value = verb::binding("*", &plan.hash, self.status.attempt);
        let mut question = format!("Takes migration {} back:", self.name());
        let steps = self.what_goes_back();
        if steps.is_empty() {
            question.push_str("\n  nothing has been changed so far");
        }
        for step in &steps {
            question.push_str("\n  ");
            question.push_str(step);
        }
        let then = "traffic goes back at once, then Jobs stop, then what has an undo is undone".to_owned();
        Ok(Ask::set(annotation, value).says(question, format!("{word} is asked for"), then))
    }

    /// What a way back would do now, in its order.
    fn what_goes_back(&self) -> Vec<String> {
        let moved = self.status.traffic.iter().filter(|traffic| in_effect(traffic.step));
        let labels = super::super::words::labels;
        let traffic =
            moved.map(|traffic| format!("traffic of Service {} to {}", traffic.service, labels(&traffic.from)));
        let begun = self.status.phases.iter().rev().filter(|phase| phase.state != PhaseState::Pending);
        let spec = |name: &str| self.migration.spec.phases.iter().find(|phase: &&Phase| phase.name == name);
        let undone = begun.filter_map(|phase| match plan::undo(spec(&phase.name)?) {
            Undo::Job => Some(format!("phase {}: its undo runs", phase.name)),
            Undo::Traffic => None,
            Undo::Nothing { because } => Some(format!("phase {}: stays as it is, {because}", phase.name)),
        });
        traffic.chain(undone).collect()
    }

    /// The value that a retry must have now, as status offers it: only the operator knows which try has failed.
    fn offered_retry(&self) -> Option<&'a str> {
        let (_, value) = self.status.next.as_deref()?.split_once(&format!("{RETRY_ANNOTATION}='"))?;
        value.split('\'').next()
    }

    fn retry(&self) -> Result<Ask, Refusal> {
        self.is_leaving()?;
        let Some(value) = self.offered_retry() else {
            return match self.status.state {
                State::Succeeded => refuse("it has succeeded: there is nothing to try again", None),
                State::Stalled => {
                    let why = format!("a retry would not help: {}", self.status.message);
                    refuse(why, self.status.next.clone())
                }
                _ => refuse(format!("nothing has failed that could be tried again: {}", self.status.message), None),
            };
        };
        if self.annotation(RETRY_ANNOTATION) == Some(value) {
            return refuse("it is asked for already, and the operator has not acted on it yet", None);
        }
        let (question, then) = if self.status.state == State::RolledBack {
            let next = self.status.attempt + 1;
            (
                format!("Begins attempt {next} of migration {} with its first phase.", self.name()),
                format!("attempt {next} begins: preflight, then every phase anew, with fresh guards"),
            )
        } else {
            (
                format!("Tries again what has failed of migration {}: {}", self.name(), self.status.message),
                "the step that has failed is tried once more".to_owned(),
            )
        };
        Ok(Ask::set(RETRY_ANNOTATION, value.to_owned()).says(question, "retry is asked for", then))
    }
}

/// Whether a phase is past the point of no return: it is one, and more of it than its announcement is there.
fn is_past(phase: &crate::api::PhaseStatus) -> bool {
    let announced = phase.state == PhaseState::Intended && phase.job.is_none();
    phase.point_of_no_return && !announced
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
