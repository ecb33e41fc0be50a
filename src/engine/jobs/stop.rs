//! Lane 2: no Job of the way forward works any more, and none can begin.

use crate::api::{PhaseState, Span};

use super::{
    super::{
        draft::{Draft, cut},
        effect::{Effect, JobRole},
        hold::Hold,
    },
    Seen,
};

/// How soon to look again at a Job that is being stopped.
const LOOK_AGAIN: Span = Span::secs(1);

impl Draft<'_> {
    /// Stops a phase's Jobs, or makes sure that they can't begin any more. True once nothing of them runs.
    pub fn stop_job(&mut self, index: usize) -> bool {
        // Traffic's way back needs the agent, and what clears away after it goes on: it is dismissed in its own time.
        if self.is_conducting(index) || self.is_dismissed(index) {
            return true;
        }
        let asked = self.stop_asking(index);
        let worked = self.stop_work(index);
        let cleaned_up = self.stop_clean_up(index);
        asked && worked && cleaned_up
    }

    fn stop_work(&mut self, index: usize) -> bool {
        let Some(mut job) = self.status.phases[index].job.clone().filter(|job| !job.settled) else { return true };
        let seen = self.look_for(&mut job);
        let phase = &self.status.phases[index];
        let (name, tries) = (phase.name.clone(), phase.tries);
        let stopping = Hold::JobStops { phase: name };
        // What became of the phase, once that is known.
        let ended = match seen {
            Seen::Unseen | Seen::Active => None,
            Seen::NotYet if self.jobs_are_over() => Some(never_ran(tries)),
            // 1. A leader announces the Job and freezes; 2. its successor takes everything back; 3. the create arrives.
            // A suspended Job under the same name leaves it nothing to create.
            Seen::NotYet | Seen::Missing => {
                self.make(self.tombstone(index, JobRole::Do, tries), stopping.clone());
                None
            }
            Seen::Tombstone | Seen::NotOurs(_) => Some(never_ran(tries)),
            Seen::Lost => Some(PhaseState::Failed),
            Seen::Succeeded(_) => Some(PhaseState::Done),
            Seen::Failed { ref message, .. } => {
                self.status.phases[index].message.get_or_insert_with(|| cut(message.clone()));
                Some(PhaseState::Failed)
            }
        };
        if let (Seen::Active, Some(uid)) = (seen, job.uid.clone()) {
            self.after.push(Effect::StopJob { name: job.name.clone(), uid });
        }
        job.settled = ended.is_some();
        let phase = &mut self.status.phases[index];
        phase.job = Some(job);
        let Some(state) = ended else {
            self.hold(stopping);
            self.wake_in(LOOK_AGAIN);
            return false;
        };
        phase.finished_at.get_or_insert(self.now);
        phase.state = state;
        if state == PhaseState::Kept {
            phase.message = Some("its Job never ran".to_owned());
        }
        true
    }

    fn stop_asking(&mut self, index: usize) -> bool {
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
            Seen::NotYet
            | Seen::Missing
            | Seen::Lost
            | Seen::Tombstone
            | Seen::NotOurs(_)
            | Seen::Succeeded(_)
            | Seen::Failed { .. } => job.settled = true,
        }
        let settled = job.settled;
        self.status.phases[index].preflight_job = Some(job);
        if !settled {
            let phase = self.status.phases[index].name.clone();
            self.hold(Hold::JobStops { phase });
            self.wake_in(LOOK_AGAIN);
        }
        settled
    }

    /// Stops a clean-up that a rollback has overtaken, or makes sure that it can't begin any more. True once it is over.
    fn stop_clean_up(&mut self, index: usize) -> bool {
        let Some(mut job) = self.status.phases[index].cleanup_job.clone().filter(|job| !job.settled) else {
            return true;
        };
        job = self.stop_quietly(index, job, JobRole::CleanUp, self.status.phases[index].cleanup_tries);
        let settled = job.settled;
        self.status.phases[index].cleanup_job = Some(job);
        settled
    }
}

/// What becomes of a phase whose present try never ran: an earlier one has failed, or nothing of it ever worked, and
/// what never worked is not taken back.
fn never_ran(tries: u32) -> PhaseState {
    if tries > 1 { PhaseState::Failed } else { PhaseState::Kept }
}
