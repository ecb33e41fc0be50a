//! One pass over a phase's scripts in one session. A lost connection ends the pass; the next one reads the history anew
//! and remembers nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Prepared,
    halt::Halt,
    standing::{self, Course, Start},
    step::Runner,
    wait::Waits,
};
use crate::{
    stores::{
        Finding,
        postgres::{
            Postgres, QueryError, Session,
            history::{Entry, History, Layout, Way},
            server,
        },
    },
    worker::task::Task,
};

/// Whether another worker has ended is asked at least this often: it may end at any moment.
const LONGEST_TURN_POLL: Duration = Duration::from_secs(2);

/// What is known to be in effect, across passes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// What was in effect when the history was first read, if it has been.
    at_first: Option<BTreeSet<String>>,
    in_effect: BTreeSet<String>,
    taken_back: BTreeSet<String>,
    /// Steps that this run has seen take effect.
    pub steps: usize,
}

impl Tally {
    fn read(&mut self, entries: &BTreeMap<String, Entry>) {
        let complete = |way: Way| {
            let of_way = entries.values().filter(move |entry| entry.way == way && entry.progress.is_complete());
            of_way.map(|entry| entry.version.clone())
        };
        self.in_effect = complete(Way::Up).collect();
        self.taken_back = complete(Way::Down).collect();
        self.at_first.get_or_insert_with(|| self.in_effect.clone());
    }

    fn note(&mut self, version: &str, way: Way) {
        let (now_in, now_out) = match way {
            Way::Up => (&mut self.in_effect, &mut self.taken_back),
            Way::Down => (&mut self.taken_back, &mut self.in_effect),
        };
        now_out.remove(version);
        now_in.insert(version.to_owned());
    }

    /// The task's versions that are in effect, in the task's order, if the history has been read.
    pub fn versions_in_effect(&self, task: &Task) -> Option<Vec<String>> {
        self.of_task(task, &self.in_effect)
    }

    /// The task's versions that have been taken back, in the task's order, if the history has been read.
    pub fn versions_taken_back(&self, task: &Task) -> Option<Vec<String>> {
        self.of_task(task, &self.taken_back)
    }

    fn of_task(&self, task: &Task, versions: &BTreeSet<String>) -> Option<Vec<String>> {
        let of_task = task.scripts.iter().map(|script| script.version.clone());
        self.at_first.is_some().then(|| of_task.filter(|version| versions.contains(version)).collect())
    }

    /// What the run has come to, across passes: a step whose answer was lost is in it, too.
    pub fn summary(&self, task: &Task, way: Way) -> String {
        let none = BTreeSet::new();
        let at_first = self.at_first.as_ref().unwrap_or(&none);
        let (done, nothing, changed) = match way {
            Way::Up => ("Applied", "Everything was in effect already.", &self.in_effect - at_first),
            Way::Down => ("Took back", "Nothing was in effect any more.", at_first - &self.in_effect),
        };
        let mut list = self.of_task(task, &changed).unwrap_or_default();
        if way == Way::Down {
            list.reverse();
        }
        if list.is_empty() { nothing.to_owned() } else { format!("{done} {}.", list.join(", ")) }
    }
}

/// One pass.
pub(super) struct Pass<'a> {
    pub task: &'a Task,
    pub way: Way,
    pub store: &'a Postgres,
    pub session: Session,
    pub waits: &'a Waits<'a>,
}

impl Pass<'_> {
    /// Runs what is left to run.
    pub async fn run(&self, prepared: &[Prepared<'_>], tally: &mut Tally) -> Result<(), Halt> {
        let session = &self.session;
        let findings = server::suitability(session, self.store, self.waits.stop).await?;
        if findings.iter().any(Finding::is_error) {
            return Err(Halt::by_findings(findings));
        }
        session.reset(self.task.lock_timeout.0, self.task.statement_timeout.map(|span| span.0)).await?;
        let scope = self.task.scope();
        let history = History::new(session, &scope);
        self.wait_for_turn(&history).await?;
        self.make_layout(&history).await?;
        self.claim(&history).await?;
        let entries: BTreeMap<_, _> =
            history.entries().await?.into_iter().map(|entry| (entry.version.clone(), entry)).collect();
        tally.read(&entries);
        // All of them first: no script runs while a later one can't.
        let mut work = Vec::new();
        for one in prepared {
            if let Some(start) = self.course(one, entries.get(&one.script.version))? {
                work.push((one, start));
            }
        }
        for (one, start) in work {
            self.run_script(&history, one, start, tally).await?;
            tally.note(&one.script.version, self.way);
        }
        Ok(())
    }

    fn course(&self, one: &Prepared<'_>, entry: Option<&Entry>) -> Result<Option<Start>, Halt> {
        let checksum = &one.script.checksum;
        let course = match (self.way, &one.text) {
            (Way::Up, Some((script, _))) => standing::forward(checksum, script, entry),
            (Way::Up, None) => unreachable!("every script leads forward"),
            (Way::Down, text) => standing::back(checksum, text.as_ref().map(|(script, _)| script), entry),
        };
        match course {
            Ok(Course::Nothing) => Ok(None),
            Ok(Course::Run(start)) => Ok(Some(start)),
            Err(conflict) => Err(Halt::refused(format!("{conflict}."))),
        }
    }

    async fn run_script(
        &self,
        history: &History<'_>,
        one: &Prepared<'_>,
        start: Start,
        tally: &mut Tally,
    ) -> Result<(), Halt> {
        let Some((script, checksum)) = &one.text else { unreachable!("what has no text has no course") };
        let session = &self.session;
        session.reset(self.task.lock_timeout.0, self.task.statement_timeout.map(|span| span.0)).await?;
        let runner = Runner {
            session,
            history,
            waits: self.waits,
            lock_timeout: self.task.lock_timeout.0,
            turn: self.task.turn(self.way),
            version: &one.script.version,
            name: &one.script.name,
            checksum,
            script,
        };
        tracing::info!(script = one.script.name, version = one.script.version, way = self.way.as_str(), "runs");
        runner.run(start, &mut tally.steps).await
    }

    /// Waits until no other worker is at this phase. Asks and lets go, rather than wait inside a statement.
    async fn wait_for_turn(&self, history: &History<'_>) -> Result<(), Halt> {
        let mut patience = self.waits.quick_patience(LONGEST_TURN_POLL);
        while !history.try_lock().await? {
            let holder = history.holder().await?;
            let who = holder.map_or_else(
                || "another worker".to_owned(),
                |holder| format!("{} (backend {}, since {})", holder.application_name, holder.pid, holder.since),
            );
            if !patience.again(&who).await? {
                return Err(Halt::failed(format!(
                    "{who} has been at this phase's scripts for more than {}; nothing was done.",
                    crate::api::Span(self.waits.limit())
                )));
            }
        }
        Ok(())
    }

    async fn make_layout(&self, history: &History<'_>) -> Result<(), Halt> {
        let mut patience = self.waits.patience();
        loop {
            let refusal = match history.make_layout().await {
                Ok(Layout::Absent | Layout::SchemaOnly | Layout::At(_)) => return Ok(()),
                Ok(Layout::Newer(step)) => {
                    return Err(Halt::refused(format!(
                        "The schema `alongside` was made by a newer version (step {step}); use an image at least as new."
                    )));
                }
                Err(QueryError::Refused(refusal)) => refusal,
                Err(error) => return Err(error.into()),
            };
            if refusal.sqlstate == "42501" {
                return Err(Halt::refused(format!(
                    "The role may not keep the scripts' history: {refusal}. Have an administrator run CREATE SCHEMA \
                     alongside AUTHORIZATION for it, or grant it CREATE and USAGE on that schema."
                )));
            }
            if !refusal.may_pass() || !patience.again(&refusal).await? {
                return Err(QueryError::Refused(refusal).into());
            }
        }
    }

    async fn claim(&self, history: &History<'_>) -> Result<(), Halt> {
        let turn = self.task.turn(self.way);
        match history.claim(turn).await? {
            None => Ok(()),
            Some(newer) => Err(Halt::refused(format!(
                "Attempt {}, {} {} has been at this phase already; this worker, of attempt {}, {} {}, came late and did \
                 nothing.",
                newer.attempt,
                newer.way.as_str(),
                newer.number,
                turn.attempt,
                turn.way.as_str(),
                turn.number
            ))),
        }
    }
}
