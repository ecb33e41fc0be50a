//! A decision in the making: what is remembered so far, and what will go out.

use crate::api::{HistoryEntry, MAX_HISTORY, MAX_MESSAGE, MigrationStatus, PhaseState, PhaseStatus, Span, Time};

use super::{
    effect::{Effect, JobOrder, JobRole, job_name},
    hold::Hold,
    plan::Plan,
    world::{Finding, Lifecycle, World},
};

/// The plans that a decision may know.
#[derive(Clone, Copy, Debug)]
pub struct Plans<'a> {
    /// The frozen one, once there is one and its revision could be read.
    pub frozen: Option<&'a Plan>,
    /// What the spec would freeze to now, or why it can't be frozen.
    pub candidate: Result<&'a Plan, &'a [Finding]>,
}

/// What to remember, what to do, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to remember from now on.
    pub status: MigrationStatus,
    /// Effects that need not wait until the status is written: lane 1 of a rollback, and nothing else.
    pub at_once: Vec<Effect>,
    /// Effects that may go out only once the status has been written.
    pub after: Vec<Effect>,
    /// Look again after this long even if nothing happens.
    pub wake: Option<Span>,
    /// What to tell as Events; the history has it already.
    pub notes: Vec<Note>,
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What happened, as one word.
    pub what: &'static str,
    /// Why, in a sentence.
    pub why: String,
    /// Whether a person should be alarmed.
    pub alarm: bool,
}

/// A decision in the making.
pub(crate) struct Draft<'a> {
    pub plan: &'a Plan,
    pub world: &'a World,
    pub now: Time,
    pub status: MigrationStatus,
    pub at_once: Vec<Effect>,
    pub after: Vec<Effect>,
    pub hold: Option<Hold>,
    pub wake: Option<Span>,
    pub notes: Vec<Note>,
}

impl<'a> Draft<'a> {
    pub fn new(plan: &'a Plan, status: &MigrationStatus, world: &'a World, now: Time) -> Self {
        Self {
            plan,
            world,
            now,
            status: status.clone(),
            at_once: Vec::new(),
            after: Vec::new(),
            hold: None,
            wake: None,
            notes: Vec::new(),
        }
    }

    /// Says why nothing more is done; the first reason stands.
    pub fn hold(&mut self, hold: Hold) {
        self.hold.get_or_insert(hold);
    }

    /// Looks again after `span` at the latest.
    pub fn wake_in(&mut self, span: Span) {
        self.wake = Some(self.wake.map_or(span, |already| already.min(span)));
    }

    /// Tells something: as an Event, and in the audit trail.
    pub fn note(&mut self, what: &'static str, phase: Option<&str>, by: &str, why: impl Into<String>) {
        self.tell(what, phase, by, why.into(), false);
    }

    /// Tells something that a person should look at.
    pub fn alarm(&mut self, what: &'static str, phase: Option<&str>, why: impl Into<String>) {
        self.tell(what, phase, "operator", why.into(), true);
    }

    fn tell(&mut self, what: &'static str, phase: Option<&str>, by: &str, why: String, alarm: bool) {
        let why = cut(why);
        let entry = HistoryEntry {
            at: self.now,
            by: cut_to(by.to_owned(), MAX_NAME),
            what: what.to_owned(),
            phase: phase.map(str::to_owned),
            why: why.clone(),
        };
        self.status.history.push(entry);
        let extra = self.status.history.len().saturating_sub(MAX_HISTORY);
        self.status.history.drain(..extra);
        self.notes.push(Note { what, why, alarm });
    }

    /// The number of the next write to a Service.
    pub fn next_epoch(&mut self) -> u64 {
        self.status.epoch += 1;
        self.status.epoch
    }

    /// Position of the first phase that isn't done.
    pub fn current(&self) -> Option<usize> {
        self.status.phases.iter().position(|phase| phase.state != PhaseState::Done)
    }

    /// Whether the point of no return has been passed: its phase has been announced, every mark has been given up, and
    /// its work has been announced too; or the streams between two stores are being taken away, after which going back
    /// would lose writes. Kept in status, for it must be known without the plan.
    pub fn is_past_no_return(&self) -> bool {
        let ended = self.status.replication.as_ref().is_some_and(|known| known.ended);
        // On the way back the agent is dismissed, too, once it has done its part.
        (ended && self.status.rollback.is_none())
            || self.status.phases.iter().any(|phase| phase.point_of_no_return && !is_crossing(phase))
    }

    /// Whether the Migration is going away.
    pub fn is_leaving(&self) -> bool {
        match self.world.lifecycle {
            Lifecycle::Alive => false,
            Lifecycle::Deleting | Lifecycle::NamespaceTerminating => true,
        }
    }

    /// An order for a Job.
    pub fn job(&self, phase: usize, role: JobRole, tries: u32) -> JobOrder {
        let phase = self.status.phases[phase].name.clone();
        let attempt = self.status.attempt;
        let name = job_name(&self.world.name, &self.world.uid, &self.plan.hash, &phase, role, attempt, tries);
        let orphan = self.is_leaving();
        JobOrder { name, phase, role, attempt, tries, tombstone: false, orphan }
    }
}

/// Whether a phase that is the point of no return has been announced, and nothing of its work has.
pub(crate) fn is_crossing(phase: &PhaseStatus) -> bool {
    phase.point_of_no_return && phase.state == PhaseState::Intended && phase.job.is_none()
}

/// Longest name of a person that the history keeps, in bytes: an annotation may hold anything.
const MAX_NAME: usize = 253;

/// Cuts a message to the size that status keeps.
pub(crate) fn cut(text: String) -> String {
    cut_to(text, MAX_MESSAGE)
}

/// Cuts a text to a size in bytes, and shows that it did.
pub(crate) fn cut_to(mut text: String, size: usize) -> String {
    const MORE: &str = "…";
    if text.len() > size {
        text.truncate(text.floor_char_boundary(size - MORE.len()));
        text.push_str(MORE);
    }
    text
}
