//! `decide`: the heart of Alongside.

use crate::api::{FORMAT_VERSION, MigrationStatus, State, Time};

use super::{
    draft::{Decision, Draft, Plans},
    effect::Effect,
    explain,
    hold::Hold,
    plan::Plan,
    verb,
    world::World,
};

/// Decides what to do next.
///
/// Deciding again on an unchanged world changes nothing in status: that is why waiting costs no API writes. Effects may
/// be asked for again, for the world hasn't shown them yet; each is idempotent.
pub fn decide(plans: &Plans<'_>, status: &MigrationStatus, world: &World, now: Time) -> Decision {
    let nothing = Plan { hash: String::new(), spec: crate::api::MigrationSpec::default() };
    // While nothing is frozen, the candidate is what questions are asked about.
    let plan = match (plans.frozen, plans.candidate) {
        (Some(frozen), _) => frozen,
        (None, Ok(candidate)) => candidate,
        (None, Err(_)) => &nothing,
    };
    let mut draft = Draft::new(plan, status, world, now);
    if status.format_version > FORMAT_VERSION {
        let hold = Hold::NewerFormat(status.format_version);
        return Decision { status: status.clone(), at_once: vec![], after: vec![], wake: None, notes: vec![] }
            .with_alarm(&hold);
    }
    draft.status.format_version = FORMAT_VERSION;
    draft.status.attempt = draft.status.attempt.max(1);
    draft.status.observed_generation = world.generation;
    draft.step(plans);
    draft.settle_jobs();
    explain::finish(draft)
}

impl Decision {
    fn with_alarm(mut self, hold: &Hold) -> Self {
        self.notes.push(super::draft::Note { what: hold.word(), why: hold.to_string(), alarm: true });
        self
    }
}

impl Draft<'_> {
    /// One step, by what the migration is in the middle of:
    /// 1. what has ended stays ended, until a retry;
    /// 2. a way back that has begun goes on, whatever else happens;
    /// 3. without the frozen plan nothing moves but traffic: the way back is all in status;
    /// 4. a cause to go back comes before any step forward;
    /// 5. forward.
    fn step(&mut self, plans: &Plans<'_>) {
        match self.status.state {
            State::Succeeded => return self.end(),
            State::RolledBack => {
                if !self.is_leaving() && self.begins_anew() {
                    return self.wake_in(super::traffic::LOOK_AGAIN);
                }
                return self.end();
            }
            State::Pending
            | State::Preflight
            | State::Running
            | State::Waiting
            | State::RollingBack
            | State::Stalled => {}
        }
        if self.is_going_back() {
            return self.go_back();
        }
        if self.is_leaving() && self.status.plan.is_none() {
            return self.end();
        }
        if let Some(cause) = self.why_go_back().filter(|_| self.status.plan.is_some()) {
            if self.past_no_return() && !cause.keeps_traffic {
                self.no_way_back(&cause);
                return;
            }
            self.begin_rollback(cause);
            return self.go_back();
        }
        if let Some(cause) = self.go_forward(plans) {
            self.begin_rollback(cause);
            self.go_back();
        }
    }

    /// After a rollback, a `retry` bound to the attempt that was taken back begins the next one, with nothing carried
    /// over but the epoch, the history and the consumed verbs.
    fn begins_anew(&mut self) -> bool {
        let Some(value) = self.world.verbs.retry.clone() else { return false };
        let phase = self.status.phase.clone().unwrap_or_default();
        if verb::is_consumed("retry", &value, &self.status) || !verb::is_bound_to_any(&value, &phase, &self.status) {
            return false;
        }
        self.status.verbs.insert("retry".to_owned(), value.clone());
        self.note("Retry", None, "user", format!("a new attempt begins, as asked by retry {value}"));
        let old = std::mem::take(&mut self.status);
        self.status = MigrationStatus {
            format_version: old.format_version,
            observed_generation: old.observed_generation,
            attempt: old.attempt + 1,
            epoch: old.epoch,
            verbs: old.verbs,
            history: old.history,
            conditions: old.conditions,
            state: State::Pending,
            ..MigrationStatus::default()
        };
        true
    }
}

/// Whether an effect belongs to lane 1, the one that waits for nothing.
pub fn is_lane_1(effect: &Effect) -> bool {
    match effect {
        Effect::PatchService(patch) => patch.mark.role == super::mark::Role::Back,
        Effect::FreezePlan { .. }
        | Effect::AddFinalizer
        | Effect::RemoveFinalizer
        | Effect::CreateJob(_)
        | Effect::SettleJob { .. }
        | Effect::StopJob { .. }
        | Effect::Drain(_) => false,
    }
}
