//! `decide`: the heart of Alongside.

use crate::api::{FORMAT_VERSION, MigrationSpec, MigrationStatus, State, Time};

use super::{
    draft::{Decision, Draft, Note, Plans},
    effect::{AgentGoal, AgentOrder, Effect, ServicePatch},
    explain,
    hold::Hold,
    mark::Role,
    plan::Plan,
    traffic, verb,
    world::World,
};

/// Decides what to do next.
///
/// Deciding again on an unchanged world changes nothing in status: that is why waiting costs no API writes. Effects may
/// be asked for again, for the world hasn't shown them yet; each is idempotent.
pub fn decide(plans: &Plans<'_>, status: &MigrationStatus, world: &World, now: Time) -> Decision {
    if status.format_version > FORMAT_VERSION {
        return Decision::refuse(status);
    }
    let unknown = Plan { hash: String::new(), spec: MigrationSpec::default() };
    let mut draft = Draft::new(plans.in_force(status).unwrap_or(&unknown), status, world, now);
    draft.status.format_version = FORMAT_VERSION;
    draft.status.attempt = draft.status.attempt.max(1);
    draft.status.observed_generation = world.generation;
    draft.step(plans);
    draft.settle_jobs();
    explain::finish(draft)
}

impl<'a> Plans<'a> {
    /// The plan that status speaks of. While nothing is frozen, the candidate is what questions are asked about.
    fn in_force(&self, status: &MigrationStatus) -> Option<&'a Plan> {
        let Some(known) = &status.plan else { return self.candidate.ok() };
        [self.frozen, self.candidate.ok()].into_iter().flatten().find(|plan| plan.hash == known.hash)
    }
}

impl Decision {
    /// Touches nothing that a newer operator has written.
    fn refuse(status: &MigrationStatus) -> Self {
        let hold = Hold::NewerFormat(status.format_version);
        let note = Note { what: hold.word(), why: hold.to_string(), alarm: true };
        Decision { status: status.clone(), at_once: vec![], after: vec![], wake: None, notes: vec![note] }
    }
}

impl Draft<'_> {
    /// One step, by what the migration is in the middle of:
    /// 1. what has ended stays ended, until a retry;
    /// 2. a way back that has begun goes on, whatever else happens;
    /// 3. a Migration that goes away before it had a plan has nothing to take back;
    /// 4. a cause to go back comes before any step forward;
    /// 5. forward.
    fn step(&mut self, plans: &Plans<'_>) {
        match self.status.state {
            State::Succeeded => return self.end(),
            State::RolledBack => {
                if !self.is_leaving() && self.begins_anew() {
                    return self.wake_in(traffic::LOOK_AGAIN);
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
        self.heed_agent();
        self.keep_conducting();
        if self.is_going_back() {
            return self.go_back();
        }
        if self.status.plan.is_none() {
            return if self.is_leaving() { self.end() } else { self.freeze_first_plan(plans) };
        }
        if let Some(hold) = self.must_look_before_leaving() {
            self.hold(hold);
            return self.wake_in(traffic::LOOK_AGAIN);
        }
        let cause = match self.why_go_back() {
            Some(cause) if self.is_past_no_return() && !cause.keeps_traffic => return self.no_way_back(&cause),
            Some(cause) => Some(cause),
            None => self.go_forward(plans),
        };
        if let Some(cause) = cause {
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
    way_back_in(effect).is_some() || order_back_in(effect).is_some()
}

/// The order to an agent that lane 1 gives before traffic can move: writes go back, or stay.
pub fn order_back_in(effect: &Effect) -> Option<&AgentOrder> {
    match effect {
        Effect::Order(order) => Some(order).filter(|order| match order.goal {
            AgentGoal::Stay | AgentGoal::Back { .. } => true,
            AgentGoal::CutOver { .. } => false,
        }),
        Effect::FreezePlan { .. }
        | Effect::AddFinalizer
        | Effect::RemoveFinalizer
        | Effect::CreateJob(_)
        | Effect::SettleJob { .. }
        | Effect::StopJob { .. }
        | Effect::PatchService(_)
        | Effect::Drain(_) => None,
    }
}

/// The way back of traffic that an effect is: lane 1's, which waits for nothing.
pub fn way_back_in(effect: &Effect) -> Option<&ServicePatch> {
    match effect {
        Effect::PatchService(patch) => Some(patch).filter(|patch| patch.mark.role == Role::Back),
        Effect::FreezePlan { .. }
        | Effect::AddFinalizer
        | Effect::RemoveFinalizer
        | Effect::CreateJob(_)
        | Effect::SettleJob { .. }
        | Effect::StopJob { .. }
        | Effect::Drain(_)
        | Effect::Order(_) => None,
    }
}
