//! Lane 3: a phase is taken back by its undo Job.

use crate::api::{JobRef, PhaseState};

use super::{
    super::{
        draft::{Draft, cut},
        effect::JobRole,
        hold::Hold,
        world::RESYNC,
    },
    Seen, backoff,
};

/// Tries of an undo before a person is asked; a `retry` then gives as many again.
pub const MAX_UNDO_TRIES: u32 = 5;

impl Draft<'_> {
    /// Takes one phase back by its undo Job. True once it is taken back, or given up.
    pub fn follow_undo(&mut self, index: usize) -> bool {
        let Some(mut job) = self.status.phases[index].undo_job.clone() else { return self.try_undo(index, 1) };
        if job.settled {
            return self.undo_has_failed(index);
        }
        let name = self.status.phases[index].name.clone();
        let tries = self.status.phases[index].undo_tries;
        let undoing = Hold::Undoing { phase: name.clone() };
        let failed = match self.look_for(&mut job) {
            Seen::Unseen | Seen::Active => None,
            Seen::NotYet if self.jobs_are_over() => return self.give_up_undo(index),
            Seen::NotYet => {
                self.make(self.job(index, JobRole::Undo, tries), undoing.clone());
                None
            }
            Seen::Missing => {
                self.make(self.tombstone(index, JobRole::Undo, tries), undoing.clone());
                None
            }
            Seen::Succeeded(_) => {
                job.settled = true;
                let phase = &mut self.status.phases[index];
                phase.state = PhaseState::Undone;
                phase.undo_job = Some(job);
                self.note("PhaseUndone", Some(&name), "operator", format!("phase {name} has been taken back"));
                return true;
            }
            Seen::Lost => Some((format!("Job {} was deleted before it had ended", job.name), false)),
            Seen::Tombstone => Some((format!("Job {} is suspended", job.name), true)),
            Seen::NotOurs(message) => Some((message, true)),
            Seen::Failed { message, terminal } => Some((message, terminal)),
        };
        job.settled = failed.is_some();
        let job_name = job.name.clone();
        let phase = &mut self.status.phases[index];
        phase.undo_job = Some(job);
        let Some((message, terminal)) = failed else {
            self.hold_for(&job_name, &name, undoing);
            self.wake_in(RESYNC);
            return false;
        };
        let message = cut(message);
        phase.message = Some(message.clone());
        let asks = terminal || tries.is_multiple_of(MAX_UNDO_TRIES);
        phase.retry_at = (!asks).then(|| self.now.after(backoff(tries)));
        let why = format!("try {tries} to take back phase {name} failed: {message}");
        if asks {
            self.alarm("UndoFailed", Some(&name), why);
        } else {
            self.note("TryFailed", Some(&name), "operator", why);
        }
        self.undo_has_failed(index)
    }

    /// An undo's failure stays what it is, also when its Job has been cleaned away since: with a time to try again, or
    /// without one for a person to say so.
    fn undo_has_failed(&mut self, index: usize) -> bool {
        let phase = &self.status.phases[index];
        let (name, tries) = (phase.name.clone(), phase.undo_tries);
        let message = phase.message.clone().unwrap_or_default();
        let retry_at = phase.retry_at;
        if self.take_retry(&name, tries) {
            return self.try_undo(index, tries + 1);
        }
        match retry_at {
            Some(at) if self.now >= at => return self.try_undo(index, tries + 1),
            Some(at) => {
                self.wake_in(at.since(self.now));
                self.hold(Hold::RetryLater { phase: name, at, message });
            }
            None => {
                self.wake_in(RESYNC);
                self.hold(Hold::UndoFailed { phase: name, tries, message });
            }
        }
        false
    }

    fn try_undo(&mut self, index: usize, tries: u32) -> bool {
        if self.jobs_are_over() {
            return self.give_up_undo(index);
        }
        let order = self.job(index, JobRole::Undo, tries);
        let phase = &mut self.status.phases[index];
        phase.state = PhaseState::Undoing;
        phase.undo_tries = tries;
        phase.retry_at = None;
        phase.undo_job = Some(JobRef { name: order.name.clone(), ..JobRef::default() });
        let name = phase.name.clone();
        self.make(order, Hold::Undoing { phase: name });
        self.wake_in(RESYNC);
        false
    }

    fn give_up_undo(&mut self, index: usize) -> bool {
        let name = self.status.phases[index].name.clone();
        let why = self.jobs_refused().unwrap_or("no Job can be made").to_owned();
        self.alarm("UndoGivenUp", Some(&name), format!("phase {name} is left as it is: {why}"));
        self.keep_phase(index, &why)
    }
}
