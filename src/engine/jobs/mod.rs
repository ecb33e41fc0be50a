//! Jobs: how a phase's work, its question before the first effect, its undo and its clean-up run as Jobs, each exactly as often as
//! its tries say.
//!
//! A Job is announced in status, made under a name that follows from what it is for, and settled by what is seen of it.
//! What is seen may be old: a Job that status knows and the cache doesn't show is either gone or not yet in the cache.
//! The two are told apart by making a suspended Job under the same name: it appears only if the other is gone.

mod after;
mod ask;
mod conduct;
mod shown;
mod stop;
mod work;

use crate::api::{JobRef, Span};

use super::{
    draft::Draft,
    effect::{Effect, JobOrder, JobRole},
    hold::Hold,
    verb,
    world::{JobState, Lifecycle},
};

pub use after::After;

/// First delay before a failed action is tried again; it doubles with each try.
pub const FIRST_RETRY: Span = Span::secs(5);
/// Longest delay between tries.
pub const LONGEST_RETRY: Span = Span::secs(300);

/// The delay after the `tries`-th failure.
pub fn backoff(tries: u32) -> Span {
    let doubled = FIRST_RETRY.0.saturating_mul(1_u32 << tries.saturating_sub(1).min(16));
    Span(doubled.min(LONGEST_RETRY.0))
}

/// What looking at a Job of ours showed.
enum Seen {
    /// It isn't there, and never has been as far as anyone knows.
    NotYet,
    /// It was there once and isn't in sight: gone, or the cache lags behind.
    Missing,
    /// It is gone for good, without a word of what it did.
    Lost,
    /// It works.
    Active,
    /// It was only made so that nobody else can make it.
    Tombstone,
    /// It succeeded.
    Succeeded(String),
    /// It failed.
    Failed { message: String, terminal: bool },
    /// Somebody else's Job has that name.
    NotOurs(String),
    /// Jobs could not be looked at.
    Unseen,
}

impl Draft<'_> {
    /// Looks for a Job, and remembers its UID.
    fn look_for(&self, job: &mut JobRef) -> Seen {
        if !self.world.jobs_seen {
            return Seen::Unseen;
        }
        let Some(view) = self.world.jobs.get(&job.name) else {
            return match &job.uid {
                None => Seen::NotYet,
                // Nothing can be made here any more, not even a suspended Job to find out with.
                Some(_) if self.jobs_are_over() => Seen::Lost,
                Some(_) => Seen::Missing,
            };
        };
        if !view.ours {
            return Seen::NotOurs(format!("Job {} exists and is not this migration's", job.name));
        }
        let known = job.uid.as_ref().is_some_and(|uid| *uid != view.uid);
        if known && view.state == JobState::Tombstone {
            return Seen::Lost;
        }
        // The name says what it is for and the label whose it is. Where the UID is another one, the Job has been made
        // again after it was lost: 1. a leader sees the Job; 2. the Job is torn away; 3. its successor, who hasn't
        // heard of it, makes it again; 4. the first one's status write arrives.
        job.uid = Some(view.uid.clone());
        match &view.state {
            JobState::Active => Seen::Active,
            JobState::Tombstone => Seen::Tombstone,
            JobState::Succeeded { message } => Seen::Succeeded(message.clone()),
            JobState::Failed { message, terminal } => Seen::Failed { message: message.clone(), terminal: *terminal },
        }
    }

    /// Why Jobs can't be made.
    fn jobs_refused(&self) -> Option<&str> {
        match self.world.lifecycle {
            Lifecycle::NamespaceTerminating => Some("the namespace is going away"),
            Lifecycle::Alive | Lifecycle::Deleting => self.world.jobs_refused.as_deref(),
        }
    }

    /// Whether no Job can be made any more. A quota or a policy may be lifted, so what they refuse is waited for, also
    /// by a Migration that goes away: a person who doesn't want to wait sets `deletionPolicy: Orphan`.
    fn jobs_are_over(&self) -> bool {
        match self.world.lifecycle {
            Lifecycle::NamespaceTerminating => true,
            Lifecycle::Alive | Lifecycle::Deleting => false,
        }
    }

    /// Asks for a Job, again and again until it is seen. `hold` is what is said meanwhile.
    fn make(&mut self, order: JobOrder, hold: Hold) {
        let phase = order.phase.clone();
        self.after.push(Effect::CreateJob(order));
        match self.jobs_refused().map(str::to_owned) {
            Some(why) => self.hold(Hold::JobRefused { phase, why }),
            None => self.hold(hold),
        }
    }

    /// What is said of a Job that is waited for: `hold`, unless no pod of it can run.
    fn hold_for(&mut self, job: &str, phase: &str, hold: Hold) {
        let stuck = self.world.stuck.get(job).cloned();
        self.hold(stuck.map_or(hold, |why| Hold::JobStuck { phase: phase.to_owned(), why }));
    }

    /// A suspended Job in the place of the one that was announced.
    fn tombstone(&self, index: usize, role: JobRole, tries: u32) -> JobOrder {
        JobOrder { tombstone: true, ..self.job(index, role, tries) }
    }

    /// Whether nothing of a phase's own work can have run.
    pub fn has_never_worked(&self, index: usize) -> bool {
        self.status.phases[index].job.is_none()
    }

    /// Lets go of each Job that nothing unsettled speaks of, and stops it if it still runs: a late create of a frozen
    /// leader, or an earlier try whose end was recorded just before a crash.
    pub fn settle_jobs(&mut self) {
        let awaited: Vec<&str> = self.status.awaited_jobs().map(|job| job.name.as_str()).collect();
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

    /// Whether somebody asks to try again what failed at its `tries`-th try; consumes the verb.
    pub fn take_retry(&mut self, phase: &str, tries: u32) -> bool {
        let Some(value) = self.world.verbs.retry.clone() else { return false };
        if verb::is_consumed("retry", &value, &self.status) || !verb::is_retry_of(&value, phase, tries, &self.status) {
            return false;
        }
        self.status.verbs.insert("retry".to_owned(), value);
        self.note("Retry", Some(phase), "user", format!("phase {phase} is tried again, as asked"));
        true
    }
}
