//! A phase's own work as a Job, try by try.

use crate::api::{JobRef, PhaseState, Span, Time};

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

impl Draft<'_> {
    /// Announces a try of a phase's Job.
    pub fn start_job(&mut self, index: usize, tries: u32) {
        let order = self.job(index, JobRole::Do, tries);
        let phase = &mut self.status.phases[index];
        phase.state = PhaseState::Intended;
        phase.tries = tries;
        phase.retry_at = None;
        (phase.work, phase.paused) = (None, None);
        phase.job = Some(JobRef { name: order.name.clone(), ..JobRef::default() });
        let name = phase.name.clone();
        self.make(order, Hold::JobRuns { phase: name, how_far: None });
        self.wake_in(RESYNC);
    }

    /// Goes on with a phase's Job. Returns why the phase has failed for good, if it has.
    pub fn follow_job(&mut self, index: usize) -> Option<String> {
        if let Some(retry_at) = self.status.phases[index].retry_at {
            return self.wait_for_retry(index, retry_at);
        }
        let mut job = self.status.phases[index].job.clone().unwrap_or_default();
        let seen = self.look_for(&mut job);
        let phase = &mut self.status.phases[index];
        let (name, tries) = (phase.name.clone(), phase.tries);
        let lost = format!("Job {} was deleted before it had ended", job.name);
        job.settled = match seen {
            Seen::Unseen | Seen::NotYet | Seen::Missing | Seen::Active => false,
            Seen::Lost | Seen::Tombstone | Seen::NotOurs(_) | Seen::Succeeded(_) | Seen::Failed { .. } => true,
        };
        let suspended = format!("Job {} is suspended", job.name);
        let job_name = job.name.clone();
        self.status.phases[index].job = Some(job);
        if matches!(seen, Seen::Active) {
            self.show_work(index, &job_name);
        }
        let phase = &mut self.status.phases[index];
        let running = Hold::JobRuns { phase: name.clone(), how_far: phase.work.clone().map(Box::new) };
        let mut paused = None;
        match seen {
            Seen::Unseen => {}
            // It has been announced, but what allowed it then may not hold any more.
            Seen::NotYet => match self.why_not_go_on(index) {
                Some(hold) => self.hold(hold),
                None => self.make(self.job(index, JobRole::Do, tries), running.clone()),
            },
            Seen::Missing => self.make(self.tombstone(index, JobRole::Do, tries), running.clone()),
            Seen::Active => {
                phase.state = PhaseState::Running;
                paused = self.pause_work(index);
            }
            Seen::Succeeded(message) => {
                phase.state = PhaseState::Done;
                phase.finished_at = Some(self.now);
                phase.message = Some(cut(message)).filter(|message| !message.is_empty());
                (phase.work, phase.paused) = (None, None);
                self.forget_baselines(index);
                self.note("PhaseDone", Some(&name), "operator", format!("phase {name} is done"));
                return None;
            }
            Seen::Lost => return self.job_failed(index, lost, false),
            Seen::Tombstone => return self.job_failed(index, suspended, true),
            Seen::NotOurs(message) => return self.job_failed(index, message, true),
            Seen::Failed { message, terminal } => return self.job_failed(index, message, terminal),
        }
        if let Some(late) = self.too_late(index) {
            return Some(late);
        }
        match paused {
            Some(hold) => self.hold(hold),
            None => self.hold_for(&job_name, &name, running),
        }
        self.wake_in(RESYNC);
        None
    }

    fn job_failed(&mut self, index: usize, message: String, terminal: bool) -> Option<String> {
        // One that was stopped for being late has failed for that reason, and not to be tried again.
        if let Some(late) = self.too_late(index) {
            return Some(late);
        }
        let name = self.status.phases[index].name.clone();
        let tries = self.status.phases[index].tries;
        let message = cut(message);
        self.status.phases[index].message = Some(message.clone());
        if terminal || tries >= plan::max_tries(&self.plan.phases()[index]) {
            return Some(message);
        }
        let at = self.now.after(backoff(tries));
        self.status.phases[index].retry_at = Some(at);
        self.note("TryFailed", Some(&name), "operator", format!("try {tries} of phase {name} failed: {message}"));
        self.wait_for_retry(index, at)
    }

    fn wait_for_retry(&mut self, index: usize, at: Time) -> Option<String> {
        if let Some(late) = self.too_late(index) {
            return Some(late);
        }
        let phase = &self.status.phases[index];
        let (name, tries, message) = (phase.name.clone(), phase.tries, phase.message.clone().unwrap_or_default());
        if self.now < at {
            self.wake_in(at.since(self.now));
            self.hold(Hold::RetryLater { phase: name, at, message });
        } else if let Some(hold) = self.why_not_go_on(index) {
            self.hold(hold);
            self.wake_in(RESYNC);
        } else {
            self.start_job(index, tries + 1);
        }
        None
    }

    /// Why a phase has taken too long, if it has.
    pub fn too_late(&mut self, index: usize) -> Option<String> {
        let timeout = self.plan.phases()[index].timeout?;
        let started = self.status.phases[index].started_at?;
        let waited = self.now.since(started);
        if waited >= timeout {
            return Some(format!("it took longer than its timeout of {timeout}"));
        }
        self.wake_in(Span(timeout.0.saturating_sub(waited.0)));
        None
    }
}
