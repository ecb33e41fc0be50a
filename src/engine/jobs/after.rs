//! What Jobs do for a phase once its own work is over: taking it back (lane 3), or clearing away what it kept up for the
//! way back. Either must come to an end: a try that failed is followed by another, until a person is asked.

use crate::api::{JobRef, PhaseState, PhaseStatus};

use super::{
    super::{
        draft::{Draft, cut},
        effect::JobRole,
        hold::Hold,
        plan,
        world::RESYNC,
    },
    Seen, backoff,
};

/// Tries of an undo or a clean-up before a person is asked; a `retry` then gives as many again.
pub const MAX_TRIES: u32 = 5;

/// Work that comes after a phase's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Takes the phase back.
    Undo,
    /// Clears away what it kept up in its stores for as long as there was a way back.
    CleanUp,
}

impl After {
    fn role(self) -> JobRole {
        match self {
            After::Undo => JobRole::Undo,
            After::CleanUp => JobRole::CleanUp,
        }
    }

    fn job(self, phase: &PhaseStatus) -> (Option<&JobRef>, u32) {
        match self {
            After::Undo => (phase.undo_job.as_ref(), phase.undo_tries),
            After::CleanUp => (phase.cleanup_job.as_ref(), phase.cleanup_tries),
        }
    }

    fn set_job(self, phase: &mut PhaseStatus, job: JobRef, tries: u32) {
        match self {
            After::Undo => (phase.undo_job, phase.undo_tries) = (Some(job), tries),
            After::CleanUp => (phase.cleanup_job, phase.cleanup_tries) = (Some(job), tries),
        }
    }

    fn working(self, phase: String) -> Hold {
        match self {
            After::Undo => Hold::Undoing { phase },
            After::CleanUp => Hold::CleaningUp { phase },
        }
    }

    fn failed(self, phase: String, tries: u32, message: String) -> Hold {
        match self {
            After::Undo => Hold::UndoFailed { phase, tries, message },
            After::CleanUp => Hold::CleanUpFailed { phase, tries, message },
        }
    }

    fn what(self) -> &'static str {
        match self {
            After::Undo => "take back",
            After::CleanUp => "clean up after",
        }
    }
}

impl Draft<'_> {
    /// Does for a phase, by a Job, what comes after its own work. True once it is done, or given up.
    pub fn follow_after(&mut self, index: usize, after: After) -> bool {
        let (job, tries) = after.job(&self.status.phases[index]);
        let Some(mut job) = job.cloned() else { return self.try_after(index, after, 1) };
        if job.settled {
            return self.after_has_failed(index, after);
        }
        let name = self.status.phases[index].name.clone();
        let working = after.working(name.clone());
        let failed = match self.look_for(&mut job) {
            Seen::Unseen | Seen::Active => None,
            Seen::NotYet if self.jobs_are_over() => return self.give_up_after(index, after),
            Seen::NotYet => {
                self.make(self.job(index, after.role(), tries), working.clone());
                None
            }
            Seen::Missing => {
                self.make(self.tombstone(index, after.role(), tries), working.clone());
                None
            }
            Seen::Succeeded(_) => {
                job.settled = true;
                after.set_job(&mut self.status.phases[index], job, tries);
                self.after_is_done(index, after);
                return true;
            }
            Seen::Lost => Some((format!("Job {} was deleted before it had ended", job.name), false)),
            Seen::Tombstone => Some((format!("Job {} is suspended", job.name), true)),
            Seen::NotOurs(message) => Some((message, true)),
            Seen::Failed { message, terminal } => Some((message, terminal)),
        };
        job.settled = failed.is_some();
        let job_name = job.name.clone();
        after.set_job(&mut self.status.phases[index], job, tries);
        let Some((message, terminal)) = failed else {
            self.hold_for(&job_name, &name, working);
            self.wake_in(RESYNC);
            return false;
        };
        let message = cut(message);
        let asks = terminal || tries.is_multiple_of(MAX_TRIES);
        let retry_at = (!asks).then(|| self.now.after(backoff(tries)));
        let phase = &mut self.status.phases[index];
        phase.message = Some(message.clone());
        phase.retry_at = retry_at;
        let why = format!("try {tries} to {} phase {name} failed: {message}", after.what());
        if asks {
            let word = after.failed(String::new(), tries, String::new()).word();
            self.alarm(word, Some(&name), why);
        } else {
            self.note("TryFailed", Some(&name), "operator", why);
        }
        self.after_has_failed(index, after)
    }

    fn after_is_done(&mut self, index: usize, after: After) {
        let phase = &mut self.status.phases[index];
        let name = phase.name.clone();
        phase.retry_at = None;
        let (what, why) = match after {
            After::Undo => {
                phase.state = PhaseState::Undone;
                ("PhaseUndone", format!("phase {name} has been taken back"))
            }
            After::CleanUp => {
                phase.cleaned_up = true;
                ("PhaseCleanedUp", format!("what phase {name} kept up for the way back has been cleared away"))
            }
        };
        self.note(what, Some(&name), "operator", why);
    }

    /// A failure stays what it is, also when its Job has been cleaned away since: with a time to try again, or without
    /// one for a person to say so.
    fn after_has_failed(&mut self, index: usize, after: After) -> bool {
        let phase = &self.status.phases[index];
        let (name, tries) = (phase.name.clone(), after.job(phase).1);
        let message = phase.message.clone().unwrap_or_default();
        let retry_at = phase.retry_at;
        if self.take_retry(&name, tries) {
            return self.try_after(index, after, tries + 1);
        }
        match retry_at {
            Some(at) if self.now >= at => return self.try_after(index, after, tries + 1),
            Some(at) => {
                self.wake_in(at.since(self.now));
                self.hold(Hold::RetryLater { phase: name, at, message });
            }
            None => {
                self.wake_in(RESYNC);
                self.hold(after.failed(name, tries, message));
            }
        }
        false
    }

    fn try_after(&mut self, index: usize, after: After, tries: u32) -> bool {
        if self.jobs_are_over() {
            return self.give_up_after(index, after);
        }
        let order = self.job(index, after.role(), tries);
        let phase = &mut self.status.phases[index];
        phase.retry_at = None;
        after.set_job(phase, JobRef { name: order.name.clone(), ..JobRef::default() }, tries);
        if after == After::Undo {
            phase.state = PhaseState::Undoing;
        }
        let name = phase.name.clone();
        self.make(order, after.working(name));
        self.wake_in(RESYNC);
        false
    }

    fn give_up_after(&mut self, index: usize, after: After) -> bool {
        let name = self.status.phases[index].name.clone();
        let why = self.jobs_refused().unwrap_or("no Job can be made").to_owned();
        match after {
            After::Undo => {
                self.alarm("UndoGivenUp", Some(&name), format!("phase {name} is left as it is: {why}"));
                self.keep_phase(index, &why)
            }
            After::CleanUp => {
                let why = format!("what phase {name} keeps up for the way back stays: {why}");
                self.alarm("CleanUpGivenUp", Some(&name), why);
                self.status.phases[index].cleaned_up = true;
                true
            }
        }
    }

    /// Clears away what phases kept up for as long as there was a way back, the last one's first. True once nothing of it
    /// is left.
    pub fn clean_up_all(&mut self) -> bool {
        for index in (0..self.status.phases.len()).rev() {
            let phase = &self.status.phases[index];
            let keeps_up = self.plan.phases().get(index).is_some_and(plan::keeps_up);
            if keeps_up && phase.state == PhaseState::Done && !phase.cleaned_up {
                let conducts = self.plan.phases().get(index).is_some_and(plan::conducts);
                if (conducts && !(self.is_quiet() && self.dismiss(index))) || !self.follow_after(index, After::CleanUp)
                {
                    return false;
                }
            }
        }
        true
    }
}
