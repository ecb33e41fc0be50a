//! The agent that keeps two stores in step: a Job that goes on working once its phase is done, for as long as traffic may
//! have to go back. One that ends before it is dismissed is followed by another: all that counts is in the stores.

use crate::api::{JobRef, PhaseState, Span};

use super::{
    super::{
        draft::{Draft, cut},
        effect::{Effect, JobRole},
        hold::Hold,
        world::RESYNC,
    },
    Seen,
};

/// Before an agent that has ended is followed by another. An agent waits by itself for stores that are away, so one that
/// ends was killed or evicted, and clients may be waiting.
pub const RESTART: Span = Span::secs(2);
/// How soon to look again at a Job that is being stopped.
const LOOK_AGAIN: Span = Span::secs(1);

impl Draft<'_> {
    /// Goes on with a phase that brings a store in step. Returns why it has failed for good, if it has.
    pub fn follow_replication(&mut self, index: usize) -> Option<String> {
        let in_step = self.agent().is_some_and(|agent| agent.in_step && agent.settled);
        if !in_step {
            return self.follow_job(index);
        }
        if let Some(hold) = self.why_not_go_on(index) {
            self.hold(hold);
            self.wake_in(RESYNC);
            return self.too_late(index);
        }
        let phase = &mut self.status.phases[index];
        (phase.work, phase.message) = (None, None);
        self.finish_phase(index);
        None
    }

    /// Whether a phase is done and its agent still needed.
    pub fn is_conducting(&self, index: usize) -> bool {
        let known = self.status.replication.as_ref();
        self.status.phases[index].state == PhaseState::Done
            && known.is_some_and(|known| known.phase == self.status.phases[index].name && !known.ended)
    }

    /// Whether a phase's agent is being dismissed, or has been.
    pub fn is_dismissed(&self, index: usize) -> bool {
        let known = self.status.replication.as_ref();
        known.is_some_and(|known| known.ended && known.phase == self.status.phases[index].name)
    }

    /// Sees to it that the agent runs for as long as it is needed.
    pub fn keep_conducting(&mut self) {
        // On the way back it is needed only where writes may have moved.
        let told = self.status.replication.as_ref().is_some_and(|known| known.epoch > 0);
        let needed = !self.jobs_are_over() && (told || !self.is_going_back());
        let Some(index) = self.conductor().filter(|&index| needed && self.is_conducting(index)) else { return };
        let phase = &self.status.phases[index];
        let (name, tries, retry_at) = (phase.name.clone(), phase.tries, phase.retry_at);
        let Some(mut job) = phase.job.clone() else { return };
        let unseen = Hold::AgentUnseen { phase: name.clone() };
        if job.settled {
            let retried = self.take_retry(&name, tries);
            match retry_at {
                _ if retried => self.start_conducting(index, tries + 1),
                Some(at) if self.now >= at => self.start_conducting(index, tries + 1),
                Some(at) => {
                    self.hold(unseen);
                    self.wake_in(at.since(self.now));
                }
                None => {
                    let message = self.status.phases[index].message.clone().unwrap_or_default();
                    self.hold(Hold::AgentGivenUp { phase: name, tries, message });
                    self.wake_in(RESYNC);
                }
            }
            return;
        }
        let ended = match self.look_for(&mut job) {
            Seen::Unseen | Seen::Active => None,
            Seen::NotYet => {
                self.make(self.job(index, JobRole::Do, tries), unseen);
                None
            }
            Seen::Missing => {
                self.make(self.tombstone(index, JobRole::Do, tries), unseen);
                None
            }
            Seen::Lost => Some((format!("Job {} was deleted", job.name), false)),
            Seen::Tombstone => Some((format!("Job {} is suspended", job.name), false)),
            Seen::NotOurs(message) => Some((message, true)),
            Seen::Succeeded(message) => Some((message, false)),
            Seen::Failed { message, terminal } => Some((message, terminal)),
        };
        job.settled = ended.is_some();
        self.status.phases[index].job = Some(job);
        let Some((message, terminal)) = ended else { return };
        let message = cut(message);
        let at = self.now.after(RESTART);
        let phase = &mut self.status.phases[index];
        phase.retry_at = (!terminal).then_some(at);
        phase.message = Some(message.clone());
        let why = format!("the agent of phase {name} has ended: {message}");
        if terminal {
            self.alarm("AgentGivenUp", Some(&name), why);
        } else {
            self.note("AgentEnded", Some(&name), "operator", why);
            self.wake_in(RESTART);
        }
    }

    fn start_conducting(&mut self, index: usize, tries: u32) {
        let order = self.job(index, JobRole::Do, tries);
        let phase = &mut self.status.phases[index];
        phase.tries = tries;
        (phase.retry_at, phase.message) = (None, None);
        phase.job = Some(JobRef { name: order.name.clone(), ..JobRef::default() });
        let name = phase.name.clone();
        self.make(order, Hold::AgentUnseen { phase: name });
        self.wake_in(LOOK_AGAIN);
    }

    /// Dismisses the agent: from here on nothing moves writes any more. True once it has ended.
    pub fn dismiss(&mut self, index: usize) -> bool {
        if let Some(known) = self.status.replication.as_mut().filter(|known| !known.ended) {
            known.ended = true;
            self.status.phases[index].retry_at = None;
        }
        let phase = &self.status.phases[index];
        let Some(job) = phase.job.clone().filter(|job| !job.settled) else { return true };
        let job = self.stop_quietly(index, job, JobRole::Do, self.status.phases[index].tries);
        let settled = job.settled;
        self.status.phases[index].job = Some(job);
        settled
    }

    /// Stops a Job whose outcome is of no interest, or makes sure that it can't begin any more.
    pub fn stop_quietly(&mut self, index: usize, mut job: JobRef, role: JobRole, tries: u32) -> JobRef {
        let stopping = Hold::JobStops { phase: self.status.phases[index].name.clone() };
        match self.look_for(&mut job) {
            Seen::Unseen => {}
            Seen::Active => {
                if let Some(uid) = job.uid.clone() {
                    self.after.push(Effect::StopJob { name: job.name.clone(), uid });
                }
            }
            Seen::NotYet if self.jobs_are_over() => job.settled = true,
            // Made late, it would work on what the next attempt has built anew.
            Seen::NotYet | Seen::Missing => self.make(self.tombstone(index, role, tries), stopping.clone()),
            Seen::Lost | Seen::Tombstone | Seen::NotOurs(_) | Seen::Succeeded(_) | Seen::Failed { .. } => {
                job.settled = true;
            }
        }
        if !job.settled {
            self.hold(stopping);
            self.wake_in(LOOK_AGAIN);
        }
        job
    }

    /// Takes the streams away where traffic stays: nobody will be there to look after them. True once nothing of them is
    /// left.
    pub fn end_replication(&mut self) -> bool {
        let Some(index) = self.conductor().filter(|&index| !self.has_never_worked(index)) else { return true };
        self.status.phases[index].cleaned_up || (self.dismiss(index) && self.follow_after(index, super::After::CleanUp))
    }
}
