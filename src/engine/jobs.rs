//! Jobs: how a phase's work, its question before the first effect, and its undo run as Jobs, each exactly as often as
//! its tries say.

use crate::api::{JobRef, PhaseState, Span, Time};

use super::{
    draft::Draft,
    effect::{Effect, JobRole},
    hold::Hold,
    plan, verb,
    world::{JobState, RESYNC},
};

/// First delay before a failed action is tried again; it doubles with each try.
pub const FIRST_RETRY: Span = Span::secs(5);
/// Longest delay between tries.
pub const LONGEST_RETRY: Span = Span::secs(300);
/// Tries of an undo before a person is asked.
pub const MAX_UNDO_TRIES: u32 = 5;

/// The delay after the `tries`-th failure.
pub fn backoff(tries: u32) -> Span {
    let doubled = FIRST_RETRY.0.saturating_mul(1_u32 << tries.saturating_sub(1).min(16));
    Span(doubled.min(LONGEST_RETRY.0))
}

/// What looking at a Job of ours showed.
pub(crate) enum Seen {
    /// It isn't there, and never has been as far as anyone knows.
    NotYet,
    /// It was there once and is gone: what it did is unknown.
    Vanished,
    /// It works.
    Active,
    /// It was only made so that nobody else can make it.
    Tombstone,
    /// It succeeded.
    Succeeded(String),
    /// It failed.
    Failed { message: String, terminal: bool },
    /// Jobs could not be looked at.
    Unseen,
}

impl Draft<'_> {
    /// Looks for a Job, and remembers its UID.
    pub fn look_for(&self, job: &mut JobRef) -> Seen {
        if !self.world.jobs_seen {
            return Seen::Unseen;
        }
        let Some(view) = self.world.jobs.get(&job.name) else {
            return if job.uid.is_some() { Seen::Vanished } else { Seen::NotYet };
        };
        if !view.ours || job.uid.as_ref().is_some_and(|uid| *uid != view.uid) {
            let message = format!("Job {} exists and is not this migration's", job.name);
            return Seen::Failed { message, terminal: true };
        }
        job.uid = Some(view.uid.clone());
        match &view.state {
            JobState::Active => Seen::Active,
            JobState::Tombstone => Seen::Tombstone,
            JobState::Succeeded { message } => Seen::Succeeded(message.clone()),
            JobState::Failed { message, terminal } => Seen::Failed { message: message.clone(), terminal: *terminal },
        }
    }

    /// Asks the stores of all phases that have not begun. True once each has answered well.
    pub fn ask_stores(&mut self) -> bool {
        let mut all = true;
        for index in 0..self.status.phases.len() {
            let asks = self.plan.phases()[index].sql.is_some();
            if asks && self.status.phases[index].state == PhaseState::Pending {
                all &= self.ask_store(index);
            }
        }
        all
    }

    fn ask_store(&mut self, index: usize) -> bool {
        let name = self.status.phases[index].name.clone();
        let Some(mut job) = self.status.phases[index].preflight_job.clone() else {
            self.start_asking(index, 1);
            return false;
        };
        if job.settled {
            return true;
        }
        let tries = self.status.phases[index].preflight_tries;
        let seen = self.look_for(&mut job);
        let done = match seen {
            Seen::Unseen => false,
            // Asking changes nothing, so it may be asked again without looking what became of it.
            Seen::NotYet | Seen::Vanished => {
                let order = self.job(index, JobRole::Preflight, tries);
                job.uid = None;
                self.after.push(Effect::CreateJob(order));
                false
            }
            Seen::Active | Seen::Tombstone => false,
            Seen::Succeeded(_) => {
                job.settled = true;
                true
            }
            Seen::Failed { message, terminal } => {
                self.asking_failed(index, tries, message, terminal);
                return false;
            }
        };
        self.status.phases[index].preflight_job = Some(job);
        if !done {
            self.hold(Hold::PreflightJob { phase: name });
            self.wake_in(RESYNC);
        }
        done
    }

    fn start_asking(&mut self, index: usize, tries: u32) {
        let order = self.job(index, JobRole::Preflight, tries);
        let phase = &mut self.status.phases[index];
        phase.preflight_job = Some(JobRef { name: order.name.clone(), ..JobRef::default() });
        phase.preflight_tries = tries;
        phase.retry_at = None;
        let name = phase.name.clone();
        self.after.push(Effect::CreateJob(order));
        self.hold(Hold::PreflightJob { phase: name });
        self.wake_in(RESYNC);
    }

    fn asking_failed(&mut self, index: usize, tries: u32, message: String, terminal: bool) {
        let phase = self.status.phases[index].name.clone();
        if self.take_retry(&phase) {
            self.start_asking(index, tries + 1);
            return;
        }
        if terminal {
            self.hold(Hold::PreflightJobFailed { phase, message });
            return;
        }
        let at = *self.status.phases[index].retry_at.get_or_insert(self.now.after(backoff(tries)));
        if self.now >= at {
            self.start_asking(index, tries + 1);
        } else {
            self.wake_in(at.since(self.now));
            self.hold(Hold::PreflightJobFailed { phase, message });
        }
    }

    /// Announces the first try of a phase's Job.
    pub fn start_job(&mut self, index: usize, tries: u32) {
        let order = self.job(index, JobRole::Do, tries);
        let phase = &mut self.status.phases[index];
        phase.state = PhaseState::Intended;
        phase.tries = tries;
        phase.retry_at = None;
        phase.job = Some(JobRef { name: order.name.clone(), ..JobRef::default() });
        let name = phase.name.clone();
        self.after.push(Effect::CreateJob(order));
        self.hold(Hold::JobRuns { phase: name });
        self.wake_in(RESYNC);
    }

    /// Goes on with a phase's Job. Returns why the phase has failed for good, if it has.
    pub fn follow_job(&mut self, index: usize) -> Option<String> {
        if let Some(retry_at) = self.status.phases[index].retry_at {
            return self.wait_for_retry(index, retry_at);
        }
        let mut job = self.status.phases[index].job.clone().unwrap_or_default();
        let seen = self.look_for(&mut job);
        let tries = self.status.phases[index].tries;
        let phase = &mut self.status.phases[index];
        let name = phase.name.clone();
        let mut failed = None;
        match seen {
            Seen::Unseen => {}
            Seen::NotYet => self.after.push(Effect::CreateJob(self.job(index, JobRole::Do, tries))),
            Seen::Active => phase.state = PhaseState::Running,
            Seen::Succeeded(message) => {
                job.settled = true;
                phase.state = PhaseState::Done;
                phase.finished_at = Some(self.now);
                phase.message = Some(message).filter(|message| !message.is_empty());
                phase.job = Some(job);
                self.note("PhaseDone", Some(&name), "operator", format!("phase {name} is done"));
                return None;
            }
            Seen::Vanished => failed = Some((format!("Job {} was deleted before it had ended", job.name), false)),
            Seen::Tombstone => failed = Some((format!("Job {} is suspended", job.name), true)),
            Seen::Failed { message, terminal } => failed = Some((message, terminal)),
        }
        self.status.phases[index].job = Some(job);
        let Some((message, terminal)) = failed else {
            if let Some(late) = self.too_late(index) {
                return Some(late);
            }
            self.hold(Hold::JobRuns { phase: name });
            self.wake_in(RESYNC);
            return None;
        };
        self.job_failed(index, message, terminal)
    }

    fn job_failed(&mut self, index: usize, message: String, terminal: bool) -> Option<String> {
        let spec = &self.plan.phases()[index];
        let name = spec.name.clone();
        let tries = self.status.phases[index].tries;
        let message = super::draft::cut(message);
        if let Some(job) = &mut self.status.phases[index].job {
            job.settled = true;
        }
        self.status.phases[index].message = Some(message.clone());
        if terminal || tries >= plan::max_tries(spec) {
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
        if self.now >= at {
            self.start_job(index, tries + 1);
        } else {
            self.wake_in(at.since(self.now));
            self.hold(Hold::RetryLater { phase: name, at, message });
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

    /// Lane 2: stops a phase's Job, or makes sure that it can't begin any more. True once nothing of it runs.
    pub fn stop_job(&mut self, index: usize) -> bool {
        let preflight = self.stop_preflight(index);
        let Some(mut job) = self.status.phases[index].job.clone().filter(|job| !job.settled) else { return preflight };
        let seen = self.look_for(&mut job);
        let name = self.status.phases[index].name.clone();
        let tries = self.status.phases[index].tries;
        let refused = self.world.jobs_refused.is_some();
        match seen {
            Seen::Unseen => {}
            Seen::NotYet if refused => job.settled = true,
            // 1. A leader announces the Job and freezes; 2. its successor takes everything back; 3. the create arrives.
            // A suspended Job under the same name leaves it nothing to create.
            Seen::NotYet => {
                let order = super::effect::JobOrder { tombstone: true, ..self.job(index, JobRole::Do, tries) };
                self.after.push(Effect::CreateJob(order));
            }
            Seen::Active => {
                let uid = job.uid.clone().unwrap_or_default();
                self.after.push(Effect::StopJob { name: job.name.clone(), uid });
            }
            Seen::Tombstone | Seen::Vanished => job.settled = true,
            Seen::Succeeded(_) => {
                job.settled = true;
                self.status.phases[index].state = PhaseState::Done;
            }
            Seen::Failed { message, .. } => {
                job.settled = true;
                self.status.phases[index].message.get_or_insert(super::draft::cut(message));
            }
        }
        let settled = job.settled;
        self.status.phases[index].job = Some(job);
        if settled {
            let phase = &mut self.status.phases[index];
            phase.finished_at.get_or_insert(self.now);
            if matches!(phase.state, PhaseState::Intended | PhaseState::Running) {
                phase.state = PhaseState::Failed;
            }
        } else {
            self.hold(Hold::JobStops { phase: name });
            self.wake_in(Span::secs(1));
        }
        settled && preflight
    }

    fn stop_preflight(&mut self, index: usize) -> bool {
        let Some(mut job) = self.status.phases[index].preflight_job.clone().filter(|job| !job.settled) else {
            return true;
        };
        match self.look_for(&mut job) {
            Seen::Unseen => {}
            Seen::Active => {
                let uid = job.uid.clone().unwrap_or_default();
                self.after.push(Effect::StopJob { name: job.name.clone(), uid });
            }
            // A late create asks a question and changes nothing.
            Seen::NotYet | Seen::Vanished | Seen::Tombstone | Seen::Succeeded(_) | Seen::Failed { .. } => {
                job.settled = true
            }
        }
        let settled = job.settled;
        self.status.phases[index].preflight_job = Some(job);
        if !settled {
            self.wake_in(Span::secs(1));
        }
        settled
    }

    /// Lane 3: takes one phase back by its undo Job. True once it is taken back.
    pub fn follow_undo(&mut self, index: usize) -> bool {
        let name = self.status.phases[index].name.clone();
        if let Some(why) = &self.world.jobs_refused {
            let why = format!("phase {name} is left as it is: {why}");
            self.status.phases[index].state = PhaseState::Kept;
            self.alarm("UndoGivenUp", Some(&name), why);
            return true;
        }
        let Some(mut job) = self.status.phases[index].undo_job.clone() else {
            self.start_undo(index, 1);
            return false;
        };
        let tries = self.status.phases[index].undo_tries;
        let mut failed = None;
        match self.look_for(&mut job) {
            Seen::Unseen | Seen::Active => {}
            Seen::NotYet => self.after.push(Effect::CreateJob(self.job(index, JobRole::Undo, tries))),
            Seen::Succeeded(_) => {
                job.settled = true;
                self.status.phases[index].state = PhaseState::Undone;
            }
            Seen::Vanished => failed = Some((format!("Job {} was deleted before it had ended", job.name), false)),
            Seen::Tombstone => failed = Some((format!("Job {} is suspended", job.name), true)),
            Seen::Failed { message, terminal } => failed = Some((message, terminal)),
        }
        job.settled |= failed.is_some();
        let done = self.status.phases[index].state == PhaseState::Undone;
        self.status.phases[index].undo_job = Some(job);
        if done {
            self.note("PhaseUndone", Some(&name), "operator", format!("phase {name} has been taken back"));
            return true;
        }
        match failed {
            Some((message, terminal)) => self.undo_failed(index, tries, super::draft::cut(message), terminal),
            None => self.hold(Hold::Undoing { phase: name }),
        }
        self.wake_in(RESYNC);
        false
    }

    fn start_undo(&mut self, index: usize, tries: u32) {
        let order = self.job(index, JobRole::Undo, tries);
        let phase = &mut self.status.phases[index];
        phase.state = PhaseState::Undoing;
        phase.undo_tries = tries;
        phase.retry_at = None;
        phase.undo_job = Some(JobRef { name: order.name.clone(), ..JobRef::default() });
        let name = phase.name.clone();
        self.after.push(Effect::CreateJob(order));
        self.hold(Hold::Undoing { phase: name });
        self.wake_in(RESYNC);
    }

    fn undo_failed(&mut self, index: usize, tries: u32, message: String, terminal: bool) {
        let name = self.status.phases[index].name.clone();
        if self.take_retry(&name) {
            self.start_undo(index, tries + 1);
            return;
        }
        // Every fifth failure asks for a person; a `retry` then gives another five.
        if terminal || tries % MAX_UNDO_TRIES == 0 {
            self.hold(Hold::UndoFailed { phase: name, message });
            return;
        }
        let at = *self.status.phases[index].retry_at.get_or_insert(self.now.after(backoff(tries)));
        if self.now >= at {
            self.start_undo(index, tries + 1);
        } else {
            self.wake_in(at.since(self.now));
            self.hold(Hold::RetryLater { phase: name, at, message });
        }
    }

    /// Lets go of each Job that nothing unsettled speaks of, and stops it if it still runs: a late create of a frozen
    /// leader, or an earlier try whose end was recorded just before a crash.
    pub fn settle_jobs(&mut self) {
        let awaited: Vec<&str> = self
            .status
            .phases
            .iter()
            .flat_map(|phase| [&phase.preflight_job, &phase.job, &phase.undo_job])
            .flatten()
            .filter(|job| !job.settled)
            .map(|job| job.name.as_str())
            .collect();
        let mut orders = Vec::new();
        for (name, view) in &self.world.jobs {
            if !view.ours || awaited.contains(&name.as_str()) {
                continue;
            }
            match view.state {
                JobState::Active => orders.push(Effect::StopJob { name: name.clone(), uid: view.uid.clone() }),
                JobState::Succeeded { .. } | JobState::Failed { .. } if view.finalizer => {
                    orders.push(Effect::SettleJob { name: name.clone() });
                }
                JobState::Succeeded { .. } | JobState::Failed { .. } | JobState::Tombstone => {}
            }
        }
        self.after.extend(orders);
    }

    /// Whether somebody asks to try a stalled step again; consumes the verb.
    pub fn take_retry(&mut self, phase: &str) -> bool {
        let Some(value) = self.world.verbs.retry.clone() else { return false };
        if verb::is_consumed("retry", &value, &self.status) || !verb::is_bound_to_any(&value, phase, &self.status) {
            return false;
        }
        self.status.verbs.insert("retry".to_owned(), value);
        self.note("Retry", Some(phase), "user", format!("phase {phase} is tried again, as asked"));
        true
    }
}
