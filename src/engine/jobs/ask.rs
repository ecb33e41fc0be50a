//! Asking a store, in a Job, what can be asked before the first effect.

use crate::api::{JobRef, PhaseState};

use super::{
    super::{draft::Draft, effect::JobRole, hold::Hold, plan, plan::Asks, world::RESYNC},
    Seen, backoff,
};

impl Draft<'_> {
    /// Asks the stores of all phases that have not begun, as far as they can be asked yet. True once each has answered
    /// well.
    pub fn ask_stores(&mut self) -> bool {
        let mut all = true;
        let mut schema_is_there = true;
        for index in 0..self.status.phases.len() {
            let phase = &self.plan.phases()[index];
            let asks = match plan::asks_stores(phase) {
                Asks::Never => false,
                Asks::First => true,
                Asks::OnceTheSchemaIsThere => schema_is_there,
            };
            schema_is_there &=
                !plan::makes_what_others_need(phase) || self.status.phases[index].state == PhaseState::Done;
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
        match self.look_for(&mut job) {
            Seen::Unseen | Seen::Active | Seen::Tombstone => {}
            // Asking changes nothing, so it may be asked again without looking what became of it.
            Seen::NotYet | Seen::Missing | Seen::Lost => {
                job.uid = None;
                let order = self.job(index, JobRole::Preflight, tries);
                self.make(order, Hold::PreflightJob { phase: name.clone() });
            }
            Seen::Succeeded(_) => job.settled = true,
            Seen::Failed { message, terminal } => {
                self.status.phases[index].preflight_job = Some(job);
                self.asking_failed(index, tries, message, terminal);
                return false;
            }
            Seen::NotOurs(message) => {
                self.asking_failed(index, tries, message, true);
                return false;
            }
        }
        let (settled, job_name) = (job.settled, job.name.clone());
        self.status.phases[index].preflight_job = Some(job);
        if !settled {
            let asking = Hold::PreflightJob { phase: name.clone() };
            self.hold_for(&job_name, &name, asking);
            self.wake_in(RESYNC);
        }
        settled
    }

    fn start_asking(&mut self, index: usize, tries: u32) {
        let order = self.job(index, JobRole::Preflight, tries);
        let phase = &mut self.status.phases[index];
        phase.preflight_job = Some(JobRef { name: order.name.clone(), ..JobRef::default() });
        phase.preflight_tries = tries;
        phase.retry_at = None;
        let name = phase.name.clone();
        self.make(order, Hold::PreflightJob { phase: name });
        self.wake_in(RESYNC);
    }

    fn asking_failed(&mut self, index: usize, tries: u32, message: String, terminal: bool) {
        let phase = self.status.phases[index].name.clone();
        if self.take_retry(&phase, tries) {
            self.start_asking(index, tries + 1);
            return;
        }
        let at = match self.status.phases[index].retry_at {
            _ if terminal => None,
            Some(at) => Some(at),
            None => Some(self.now.after(backoff(tries))),
        };
        self.status.phases[index].retry_at = at;
        match at {
            Some(at) if self.now >= at => self.start_asking(index, tries + 1),
            Some(at) => {
                self.wake_in(at.since(self.now));
                self.hold(Hold::RetryLater { phase, at, message });
            }
            None => {
                self.wake_in(RESYNC);
                self.hold(Hold::PreflightJobFailed { phase, tries, message });
            }
        }
    }
}
