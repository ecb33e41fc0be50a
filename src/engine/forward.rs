//! The way forward: phases are begun and followed one by one.

use crate::api::{BakeAction, ObserveAction, PhaseState, ReplicationStatus, RollbackReason, Span, State, SwitchAction};

use super::{
    cause::Cause,
    draft::{Draft, Plans, is_crossing},
    guard::ObservationView,
    hold::Hold,
    plan::{self, Action},
    world::RESYNC,
};

/// Shortest time between two checkpoints of a bake. Guarded time since the last one is lost when every operator dies at
/// once, and baked again.
const BAKE_CHECKPOINT: Span = Span::secs(60);
/// Most checkpoints of one bake, so that a long one causes few writes.
const BAKE_CHECKPOINTS: u32 = 20;
/// How soon to look again at what keeps a phase from beginning or ending. What it waits for wakes us sooner.
const LOOK_LATER: Span = Span::secs(5);

impl Draft<'_> {
    /// Takes the next step forward, or says why not. Returns a cause to go back, if a phase has failed.
    pub fn go_forward(&mut self, plans: &Plans<'_>) -> Option<Cause> {
        if !self.plan_is_safe(plans) {
            return None;
        }
        // Told at once, also while a phase is at work that doesn't mind.
        if let Some(hold) = self.strangers() {
            self.hold(hold);
        }
        let Some(index) = self.current() else {
            self.succeed();
            return None;
        };
        let phase = &self.status.phases[index];
        if phase.state != PhaseState::Pending {
            return if is_crossing(phase) { self.cross(index) } else { self.follow_phase(index) };
        }
        let ready = !self.adopt_new_plan(plans, index) && self.ask_stores() && self.claim_all();
        if ready { self.begin_phase(index) } else { None }
    }

    fn begin_phase(&mut self, index: usize) -> Option<Cause> {
        if let Some(hold) = self.why_not_begin(index) {
            self.hold(hold);
            self.wake_in(RESYNC);
            return None;
        }
        let spec = &self.plan.phases()[index];
        let not_yet = match plan::action(spec) {
            Action::Switch(switch) => self.why_not_switch(&spec.name, switch),
            Action::Backfill(_) => self.take_baselines(),
            Action::Sql(_)
            | Action::Job(_)
            | Action::Replicate(_)
            | Action::Verify(_)
            | Action::Observe(_)
            | Action::Bake(_)
            | Action::Approval => None,
        };
        if let Some(hold) = not_yet {
            self.hold(hold);
            self.wake_in(LOOK_LATER);
            return None;
        }
        self.mark_begun(index);
        if spec.point_of_no_return { self.cross(index) } else { self.begin_work(index) }
    }

    /// Gives up what the way back needs before the point of no return: what phases kept up for it in their stores, and then
    /// every mark, for from there on no way back may land, not even a late one.
    fn cross(&mut self, index: usize) -> Option<Cause> {
        if let Some(hold) = self.why_not_go_on(index) {
            self.hold(hold);
            self.wake_in(RESYNC);
            return None;
        }
        if !self.clean_up_all() || !self.release_all() {
            return None;
        }
        let name = self.status.phases[index].name.clone();
        let why = format!("phase {name} does what can't be taken back; there is no way back now");
        self.note("PointOfNoReturn", Some(&name), "operator", why);
        self.begin_work(index)
    }

    fn begin_work(&mut self, index: usize) -> Option<Cause> {
        let spec = &self.plan.phases()[index];
        match plan::action(spec) {
            Action::Switch(switch) => {
                let entries = self.entries_of(&spec.name);
                if plan::is_bound(switch) {
                    self.begin_bound_switch(&entries);
                } else {
                    for entry in entries {
                        self.flip(entry);
                    }
                }
                None
            }
            Action::Replicate(_) => {
                let phase = spec.name.clone();
                self.status.replication = Some(Box::new(ReplicationStatus { phase, ..ReplicationStatus::default() }));
                self.start_job(index, 1);
                None
            }
            Action::Sql(_) | Action::Job(_) | Action::Backfill(_) | Action::Verify(_) => {
                self.start_job(index, 1);
                None
            }
            Action::Observe(_) | Action::Bake(_) | Action::Approval => {
                self.status.phases[index].state = PhaseState::Running;
                self.follow_phase(index)
            }
        }
    }

    fn mark_begun(&mut self, index: usize) {
        let spec = &self.plan.phases()[index];
        let name = spec.name.clone();
        if plan::needs_approval(spec) {
            let value = self.world.verbs.approve.clone().unwrap_or_default();
            let by = self.world.verbs.approved_by.clone().unwrap_or_else(|| "someone who may patch".to_owned());
            self.note("Approved", Some(&name), &by, format!("phase {name} was approved as {value}"));
            self.status.verbs.insert("approve".to_owned(), value);
        }
        let phase = &mut self.status.phases[index];
        phase.state = PhaseState::Intended;
        phase.started_at = Some(self.now);
        phase.point_of_no_return = spec.point_of_no_return;
        self.status.begun = i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1);
        self.note("PhaseBegun", Some(&name), "operator", format!("phase {name} begins"));
    }

    /// Marks a phase as done.
    pub fn finish_phase(&mut self, index: usize) {
        let phase = &mut self.status.phases[index];
        phase.state = PhaseState::Done;
        phase.finished_at = Some(self.now);
        let name = phase.name.clone();
        self.note("PhaseDone", Some(&name), "operator", format!("phase {name} is done"));
        self.wake_in(Span::millis(0));
    }

    /// The traffic entries that a switch moves.
    pub fn entries_of(&self, phase: &str) -> Vec<usize> {
        let moved_by = |entry: &usize| self.status.traffic[*entry].phase == phase && self.is_planned(*entry);
        self.entries().filter(moved_by).collect()
    }

    fn follow_phase(&mut self, index: usize) -> Option<Cause> {
        let phase = &self.status.phases[index];
        let failed = if phase.state == PhaseState::Failed {
            Some(phase.message.clone().unwrap_or_default())
        } else {
            self.follow_action(index)
        };
        self.phase_failed(index, failed?)
    }

    /// Goes on with a phase's action. Returns why it has failed for good, if it has.
    fn follow_action(&mut self, index: usize) -> Option<String> {
        match plan::action(&self.plan.phases()[index]) {
            Action::Sql(_) | Action::Job(_) | Action::Backfill(_) | Action::Verify(_) => {
                let failed = self.follow_job(index);
                if self.status.phases[index].state == PhaseState::Done {
                    self.wake_in(Span::millis(0));
                }
                failed
            }
            Action::Replicate(_) => self.follow_replication(index),
            Action::Switch(switch) => self.follow_switch(index, switch),
            Action::Observe(observe) => self.follow_observation(index, observe),
            Action::Bake(bake) => {
                self.follow_bake(index, bake);
                None
            }
            Action::Approval => {
                self.finish_phase(index);
                None
            }
        }
    }

    fn follow_switch(&mut self, index: usize, switch: &SwitchAction) -> Option<String> {
        let entries = self.entries_of(&self.status.phases[index].name);
        let held = self.why_not_go_on(index);
        let mut drained = true;
        if plan::is_bound(switch) {
            let phase = self.status.phases[index].name.clone();
            if !self.follow_cut_over(&phase, held.as_ref()) {
                return self.too_late(index);
            }
            drained = self.is_served();
        }
        for &entry in &entries {
            drained &= self.follow_flip(entry, switch, held.as_ref());
        }
        if drained {
            self.finish_phase(index);
            return None;
        }
        self.unconfirmed(&entries).or_else(|| self.too_late(index))
    }

    fn follow_observation(&mut self, index: usize, observe: &ObserveAction) -> Option<String> {
        let phase = &self.status.phases[index];
        let started = phase.started_at.unwrap_or(self.now);
        let hold = Hold::Observing { phase: phase.name.clone() };
        let elapsed = match self.world.observation {
            Some(ObservationView::HoldsSince(since)) => self.now.since(since.max(started)),
            Some(ObservationView::Fails { .. } | ObservationView::Silent(_)) | None => Span::millis(0),
        };
        if elapsed >= observe.for_ {
            let Some(hold) = self.why_not_go_on(index) else {
                self.finish_phase(index);
                return None;
            };
            self.hold(hold);
            self.wake_in(LOOK_LATER);
        } else {
            self.hold(hold);
            self.wake_in(Span(observe.for_.0.saturating_sub(elapsed.0)));
        }
        self.too_late(index)
    }

    /// Counts guarded time only: an operator that was away has not baked.
    fn follow_bake(&mut self, index: usize, bake: &BakeAction) {
        let wanted = bake.for_;
        let phase = &self.status.phases[index];
        let banked = phase.baked.unwrap_or_default();
        let counted_to = phase.baked_at.or(phase.started_at).unwrap_or(self.now);
        let fresh = self.world.guarded_since.map_or(Span::millis(0), |since| self.now.since(since.max(counted_to)));
        let total = Span(banked.0.saturating_add(fresh.0));
        let name = phase.name.clone();
        let obstacle = self.why_not_go_on(index);
        if total >= wanted {
            let Some(hold) = obstacle else {
                let phase = &mut self.status.phases[index];
                phase.baked = Some(wanted);
                phase.baked_at = Some(self.now);
                return self.finish_phase(index);
            };
            self.hold(hold);
            return self.wake_in(LOOK_LATER);
        }
        let checkpoint = Span((wanted.0 / BAKE_CHECKPOINTS).max(BAKE_CHECKPOINT.0));
        let mut uncounted = fresh;
        if fresh >= checkpoint {
            let phase = &mut self.status.phases[index];
            phase.baked = Some(total);
            phase.baked_at = Some(self.now);
            uncounted = Span::millis(0);
        }
        self.hold(obstacle.unwrap_or(Hold::Baking { phase: name }));
        let left = Span(wanted.0.saturating_sub(total.0));
        let next = Span(checkpoint.0.saturating_sub(uncounted.0)).max(Span::secs(1));
        self.wake_in(left.min(next));
    }

    fn phase_failed(&mut self, index: usize, message: String) -> Option<Cause> {
        let name = self.status.phases[index].name.clone();
        let message = super::draft::cut(message);
        self.status.phases[index].message = Some(message.clone());
        if !self.is_past_no_return() {
            let message = format!("phase {name} failed: {message}");
            return Some(Cause::new(RollbackReason::PhaseFailed, message));
        }
        // What it has begun must have ended before anyone decides whether to try again.
        if !self.stop_job(index) {
            return None;
        }
        let now = self.now;
        let phase = &mut self.status.phases[index];
        if phase.state == PhaseState::Done {
            // It had ended well while it was being stopped.
            self.wake_in(Span::millis(0));
            return None;
        }
        phase.state = PhaseState::Failed;
        phase.finished_at.get_or_insert(now);
        phase.message = Some(message.clone());
        let tries = phase.tries;
        if self.take_retry(&name, tries) {
            self.try_again(index, tries + 1);
            return None;
        }
        self.stall(Hold::FailedForGood { phase: name, tries, message });
        None
    }

    /// Waits for a person, who is told once.
    fn stall(&mut self, hold: Hold) {
        if self.status.hold.as_ref().is_none_or(|known| known.reason != hold.word()) {
            let phase = self.status.phase.clone();
            self.alarm(hold.word(), phase.as_deref(), hold.to_string());
        }
        self.hold(hold);
        self.wake_in(RESYNC);
    }

    /// Tries a phase again that failed after the point of no return, as somebody asked.
    fn try_again(&mut self, index: usize, tries: u32) {
        let now = self.now;
        let phase = &mut self.status.phases[index];
        phase.started_at = Some(now);
        phase.finished_at = None;
        match plan::action(&self.plan.phases()[index]) {
            Action::Sql(_) | Action::Job(_) | Action::Replicate(_) | Action::Backfill(_) | Action::Verify(_) => {
                self.start_job(index, tries);
            }
            Action::Switch(_) | Action::Observe(_) | Action::Bake(_) | Action::Approval => {
                phase.state = PhaseState::Running;
                phase.tries = tries;
                self.wake_in(Span::millis(0));
            }
        }
    }

    fn succeed(&mut self) {
        if self.strangers().is_some() {
            return self.wake_in(RESYNC);
        }
        if !self.clean_up_all() || !self.release_all() {
            return;
        }
        self.status.state = State::Succeeded;
        self.note("Succeeded", None, "operator", "every phase is done");
        self.end();
    }

    /// A cause to go back after the point of no return: there is nothing to go back to, so it is told and nothing goes
    /// on.
    pub fn no_way_back(&mut self, cause: &Cause) {
        self.stall(Hold::NoWayBack { why: cause.message.clone() });
    }
}
