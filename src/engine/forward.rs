//! The way forward: the plan is frozen, stores and Services are asked, and phases are begun and followed one by one.

use crate::api::{PhaseState, PhaseStatus, PlanRef, Span, State, Time, TrafficStatus, TrafficStep};

use super::{
    cause::Cause,
    draft::{Draft, Plans},
    effect::Effect,
    guard::{BaselineView, ObservationView, Verdict},
    hold::Hold,
    plan::{self, Action, Plan},
    traffic, verb,
    world::{RESYNC, Weight},
};

/// Shortest time between two checkpoints of a bake. Guarded time since the last one is lost when every operator dies at
/// once, and baked again.
const BAKE_CHECKPOINT: Span = Span::secs(60);
/// Most checkpoints of one bake, so that a long one causes few writes.
const BAKE_CHECKPOINTS: u32 = 20;

impl Draft<'_> {
    /// Takes the next step forward, or says why not. Returns a cause to go back, if a phase has failed.
    pub fn go_forward(&mut self, plans: &Plans<'_>) -> Option<Cause> {
        if self.status.plan.is_none() {
            self.freeze_first_plan(plans);
            return None;
        }
        if !self.plan_is_safe(plans) {
            return None;
        }
        let Some(index) = self.current() else {
            self.succeed();
            return None;
        };
        if self.status.phases[index].state == PhaseState::Pending {
            if self.adopt_new_plan(plans, index) {
                return None;
            }
            if self.ask_stores() && self.claim_all() {
                return self.begin_phase(index);
            }
            return None;
        }
        self.follow_phase(index)
    }

    /// Everything that is asked before the first effect has been answered well, so the plan is written down.
    fn freeze_first_plan(&mut self, plans: &Plans<'_>) {
        self.status.state = State::Preflight;
        let Some(candidate) = self.passes_preflight(plans) else { return };
        let all: Vec<_> = candidate.guards_during(0).into_iter().map(|guard| guard.name).collect();
        if let Some(hold) = self.guards_hold(&all) {
            self.hold(hold);
            return;
        }
        self.adopt(candidate);
        self.note("PlanFrozen", None, "operator", format!("plan {} is frozen", candidate.hash));
        self.hold(Hold::Storing);
        self.wake_in(traffic::LOOK_AGAIN);
    }

    fn passes_preflight<'p>(&mut self, plans: &Plans<'p>) -> Option<&'p Plan> {
        let candidate = match plans.candidate {
            Ok(plan) => plan,
            Err(findings) => {
                self.hold(Hold::PreflightRefused(findings.to_vec()));
                self.wake_in(RESYNC);
                return None;
            }
        };
        if !self.world.preflight.asked {
            self.hold(Hold::PreflightNotAsked);
            self.wake_in(traffic::LOOK_AGAIN);
            return None;
        }
        let weighs = |weight| self.world.preflight.findings.iter().filter(move |f| f.weight == weight).cloned();
        let refused: Vec<_> = weighs(Weight::Refuse).collect();
        let waits = weighs(Weight::Wait).next();
        if !refused.is_empty() {
            self.hold(Hold::PreflightRefused(refused));
            self.wake_in(RESYNC);
            return None;
        }
        if let Some(finding) = waits {
            self.hold(Hold::PreflightWaits(finding));
            self.wake_in(Span::secs(5));
            return None;
        }
        Some(candidate)
    }

    /// Makes a plan the one that all effects come from, keeping what has begun.
    fn adopt(&mut self, plan: &Plan) {
        let revision = revision_name(&self.world.name, &self.world.uid, &plan.hash);
        self.status.plan = Some(PlanRef { hash: plan.hash.clone(), revision: revision.clone(), adopted_at: self.now });
        let known = std::mem::take(&mut self.status.phases);
        let keep = |name: &str| known.iter().find(|phase| phase.name == name && phase.state != PhaseState::Pending);
        self.status.phases = plan
            .phases()
            .iter()
            .map(|phase| {
                keep(&phase.name).cloned().unwrap_or_else(|| PhaseStatus {
                    name: phase.name.clone(),
                    kind: plan::action(phase).kind().to_owned(),
                    ..PhaseStatus::default()
                })
            })
            .collect();
        for phase in plan.phases() {
            let Action::Switch(switch) = plan::action(phase) else { continue };
            for service in switch.service_names() {
                self.expect_traffic(service, &phase.name, switch);
            }
        }
        self.after.push(Effect::FreezePlan { revision, hash: plan.hash.clone() });
        if !self.world.finalizer {
            self.after.push(Effect::AddFinalizer);
        }
    }

    fn expect_traffic(&mut self, service: &str, phase: &str, switch: &crate::api::SwitchAction) {
        let entry = match self.status.traffic.iter().position(|traffic| traffic.service == service) {
            Some(entry) => entry,
            None => {
                self.status.traffic.push(TrafficStatus { service: service.to_owned(), ..TrafficStatus::default() });
                self.status.traffic.len() - 1
            }
        };
        let traffic = &mut self.status.traffic[entry];
        if matches!(traffic.step, TrafficStep::Unclaimed | TrafficStep::ClaimIntended | TrafficStep::Claimed) {
            phase.clone_into(&mut traffic.phase);
            traffic.from = switch.from.clone();
            traffic.to = switch.to.clone();
        }
    }

    /// Whether the plan is written down and the Migration can't vanish under us.
    fn plan_is_safe(&mut self, plans: &Plans<'_>) -> bool {
        let Some(plan) = self.status.plan.clone() else { return false };
        if !self.world.plan_stored {
            match plans.candidate {
                Ok(candidate) if candidate.hash == plan.hash => {
                    self.after.push(Effect::FreezePlan { revision: plan.revision, hash: plan.hash });
                    self.hold(Hold::Storing);
                    self.wake_in(traffic::LOOK_AGAIN);
                }
                // Nothing has begun: the plan that nobody could store is simply forgotten.
                Ok(_) | Err(_) if self.status.begun == 0 && !self.holds_marks() => {
                    self.status.plan = None;
                    self.status.phases.clear();
                    self.hold(Hold::PreflightNotAsked);
                    self.wake_in(traffic::LOOK_AGAIN);
                }
                Ok(_) | Err(_) => {
                    self.hold(Hold::PlanLost(plan.revision));
                    self.wake_in(RESYNC);
                }
            }
            return false;
        }
        if !self.world.finalizer {
            self.after.push(Effect::AddFinalizer);
            self.hold(Hold::Storing);
            self.wake_in(traffic::LOOK_AGAIN);
            return false;
        }
        true
    }

    /// At a phase's boundary, takes over what the user has changed since. True if there was something to take over.
    fn adopt_new_plan(&mut self, plans: &Plans<'_>, index: usize) -> bool {
        let frozen = self.status.plan.as_ref().map(|plan| plan.hash.clone()).unwrap_or_default();
        match plans.candidate {
            Ok(candidate) if candidate.hash == frozen => return false,
            Ok(_) | Err(_) => {}
        }
        let Some(candidate) = self.passes_preflight(plans) else { return true };
        let begun = &self.plan.phases()[..index];
        if candidate.phases().get(..index) != Some(begun) {
            // Admission refuses this; without it, what has been done stays what it was.
            self.hold(Hold::PlanLost(frozen));
            return true;
        }
        self.adopt(candidate);
        self.note("PlanAdopted", None, "operator", format!("plan {} takes the place of {frozen}", candidate.hash));
        self.hold(Hold::Storing);
        self.wake_in(traffic::LOOK_AGAIN);
        true
    }

    /// Why no phase may begin and no bake may end now. The first check that fails decides.
    fn gate(&self, index: usize) -> Option<Hold> {
        let phase = &self.plan.phases()[index];
        let pause = self.world.verbs.pause.as_deref();
        if pause.is_some_and(|value| verb::is_bound_to_any(value, &phase.name, &self.status)) {
            return Some(Hold::Paused);
        }
        let last = self.world.until.as_deref().and_then(|until| self.plan.index_of(until));
        if let Some(last) = last.filter(|last| index > *last) {
            return Some(Hold::Until { phase: self.plan.phases()[last].name.clone() });
        }
        if self.status.phases[index].state == PhaseState::Pending && plan::needs_approval(phase) {
            let approved = self.world.verbs.approve.as_deref();
            if !approved.is_some_and(|value| verb::is_bound(value, &phase.name, &self.status)) {
                return Some(Hold::Approval { phase: phase.name.clone() });
            }
        }
        let guards: Vec<_> = self.plan.guards_during(index).into_iter().map(|guard| guard.name).collect();
        if let Some(hold) = self.guards_hold(&guards) {
            return Some(hold);
        }
        if !self.bake_is_over() {
            if let Err(why) = self.rollback_ready() {
                return Some(Hold::RollbackNotReady { why });
            }
        }
        None
    }

    /// Why the guards allow no forward step. A guard that is missing from the world has not been asked.
    fn guards_hold(&self, expected: &[String]) -> Option<Hold> {
        expected.iter().find_map(|name| {
            let Some(guard) = self.world.guards.iter().find(|guard| guard.name == *name) else {
                let why = super::guard::Silence::NotAsked;
                return Some(Hold::GuardSilent { guard: name.clone(), why, over_budget: false });
            };
            match guard.verdict {
                _ if guard.dry_run => None,
                Verdict::Pass => None,
                Verdict::Silent { why, over_budget, .. } => {
                    Some(Hold::GuardSilent { guard: name.clone(), why, over_budget })
                }
                Verdict::Breach { .. } => Some(Hold::GuardBreached { guard: name.clone() }),
            }
        })
    }

    fn begin_phase(&mut self, index: usize) -> Option<Cause> {
        if let Some(hold) = self.gate(index) {
            self.hold(hold);
            self.wake_in(RESYNC);
            return None;
        }
        // From here on no way back may land any more, not even a late one: the marks go first.
        if self.plan.point_of_no_return() == Some(index) && self.holds_marks() && !self.release_all() {
            return None;
        }
        let spec = &self.plan.phases()[index];
        match plan::action(spec) {
            Action::Switch(switch) => {
                if let Some(hold) = self.why_not_switch(&spec.name, switch) {
                    self.hold(hold);
                    self.wake_in(Span::secs(5));
                    return None;
                }
                self.mark_begun(index, PhaseState::Intended);
                for entry in self.entries_of(&spec.name) {
                    self.flip(entry);
                }
            }
            Action::Sql(_) | Action::Job(_) => {
                self.mark_begun(index, PhaseState::Intended);
                self.start_job(index, 1);
            }
            Action::Observe(_) | Action::Bake(_) => {
                self.mark_begun(index, PhaseState::Running);
                self.wake_in(traffic::LOOK_AGAIN);
            }
            Action::Approval => {
                self.mark_begun(index, PhaseState::Running);
                self.finish_phase(index);
            }
        }
        None
    }

    fn mark_begun(&mut self, index: usize, state: PhaseState) {
        let name = self.status.phases[index].name.clone();
        if plan::needs_approval(&self.plan.phases()[index]) {
            let value = self.world.verbs.approve.clone().unwrap_or_default();
            let by = self.world.verbs.approved_by.clone().unwrap_or_else(|| "someone who may patch".to_owned());
            self.note("Approved", Some(&name), &by, format!("phase {name} was approved as {value}"));
            self.status.verbs.insert("approve".to_owned(), value);
        }
        if self.plan.point_of_no_return() == Some(index) {
            self.note(
                "PointOfNoReturn",
                Some(&name),
                "operator",
                format!("phase {name} begins; there is no way back now"),
            );
        }
        let phase = &mut self.status.phases[index];
        phase.state = state;
        phase.started_at = Some(self.now);
        self.status.begun = i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1);
        self.note("PhaseBegun", Some(&name), "operator", format!("phase {name} begins"));
    }

    fn finish_phase(&mut self, index: usize) {
        let phase = &mut self.status.phases[index];
        phase.state = PhaseState::Done;
        phase.finished_at = Some(self.now);
        let name = phase.name.clone();
        self.note("PhaseDone", Some(&name), "operator", format!("phase {name} is done"));
        self.wake_in(Span::millis(0));
    }

    fn entries_of(&self, phase: &str) -> Vec<usize> {
        (0..self.status.traffic.len()).filter(|&entry| self.status.traffic[entry].phase == phase).collect()
    }

    fn why_not_switch(&mut self, phase: &str, switch: &crate::api::SwitchAction) -> Option<Hold> {
        let entries = self.entries_of(phase);
        if let Some(hold) = entries.iter().find_map(|&entry| self.may_flip(entry, switch)) {
            return Some(hold);
        }
        self.take_baselines()
    }

    /// Remembers what the guards were like just before the flip.
    fn take_baselines(&mut self) -> Option<Hold> {
        let mut taken = Vec::new();
        let wanted = self.plan.spec.guards.iter().chain(self.plan.phases().iter().flat_map(|phase| &phase.guards));
        let wanted: Vec<&str> = wanted.filter(|g| g.needs_baseline() && !g.dry_run).map(|g| g.name.as_str()).collect();
        for view in &self.world.baselines {
            match view {
                BaselineView::NotYet => return Some(Hold::BaselineMissing),
                BaselineView::Refused { guard, why } if wanted.contains(&guard.as_str()) => {
                    return Some(Hold::BaselineRefused { guard: guard.clone(), why: why.clone() });
                }
                // A guard that only reports doesn't hold anything up.
                BaselineView::Refused { .. } => {}
                BaselineView::Taken(baseline) => taken.push(baseline.clone()),
            }
        }
        if wanted.iter().any(|name| taken.iter().all(|baseline| baseline.guard != *name)) {
            return Some(Hold::BaselineMissing);
        }
        self.status.baselines = taken;
        None
    }

    fn follow_phase(&mut self, index: usize) -> Option<Cause> {
        let spec = &self.plan.phases()[index];
        let failed = match plan::action(spec) {
            Action::Sql(_) | Action::Job(_) => {
                let failed = self.follow_job(index);
                if self.status.phases[index].state == PhaseState::Done {
                    self.wake_in(Span::millis(0));
                }
                failed
            }
            Action::Switch(switch) => {
                let entries = self.entries_of(&spec.name);
                let drained = entries.iter().fold(true, |all, &e| self.follow_flip(e, switch.drain.as_ref()) && all);
                if drained {
                    self.finish_phase(index);
                    None
                } else {
                    self.unconfirmed(&entries).or_else(|| self.too_late(index))
                }
            }
            Action::Observe(observe) => {
                let started = self.status.phases[index].started_at.unwrap_or(self.now);
                if self.has_held(started, observe.for_) && self.gate(index).is_none() {
                    self.finish_phase(index);
                    None
                } else {
                    self.hold(Hold::Observing { phase: spec.name.clone() });
                    self.too_late(index)
                }
            }
            Action::Bake(bake) => {
                self.bake(index, bake.for_);
                None
            }
            Action::Approval => {
                self.finish_phase(index);
                None
            }
        };
        let message = failed?;
        self.phase_failed(index, message)
    }

    fn unconfirmed(&self, entries: &[usize]) -> Option<String> {
        entries.iter().find_map(|&entry| {
            let traffic = &self.status.traffic[entry];
            let waited = self.now.since(traffic.flipped_at?);
            (traffic.step == TrafficStep::Flipped && waited >= traffic::CONFIRM_DEADLINE).then(|| {
                format!("no serving pod of the new side was in the EndpointSlices of {} for {waited}", traffic.service)
            })
        })
    }

    fn has_held(&mut self, started: Time, wanted: Span) -> bool {
        let Some(ObservationView::HoldsSince(since)) = self.world.observation else { return false };
        let held = self.now.since(since.max(started));
        if held < wanted {
            self.wake_in(Span(wanted.0.saturating_sub(held.0)));
        }
        held >= wanted
    }

    /// Counts guarded time only: an operator that was away has not baked.
    fn bake(&mut self, index: usize, wanted: Span) {
        let phase = &self.status.phases[index];
        let banked = phase.baked.unwrap_or_default();
        let counted_to = phase.baked_at.or(phase.started_at).unwrap_or(self.now);
        let fresh = self.world.guarded_since.map_or(Span::millis(0), |since| self.now.since(since.max(counted_to)));
        let total = Span(banked.0.saturating_add(fresh.0));
        let name = phase.name.clone();
        if total >= wanted {
            match self.gate(index) {
                None => {
                    let phase = &mut self.status.phases[index];
                    phase.baked = Some(wanted);
                    phase.baked_at = Some(self.now);
                    self.finish_phase(index);
                }
                Some(hold) => {
                    self.hold(hold);
                    self.wake_in(Span::secs(5));
                }
            }
            return;
        }
        let checkpoint = Span((wanted.0 / BAKE_CHECKPOINTS).max(BAKE_CHECKPOINT.0));
        if fresh >= checkpoint {
            let phase = &mut self.status.phases[index];
            phase.baked = Some(total);
            phase.baked_at = Some(self.now);
        }
        let hold = self.gate(index).filter(|hold| !matches!(hold, Hold::Until { .. } | Hold::Approval { .. }));
        self.hold(hold.unwrap_or(Hold::Baking { phase: name }));
        let left = Span(wanted.0.saturating_sub(total.0));
        let next = Span(checkpoint.0.saturating_sub(fresh.0)).max(Span::secs(1));
        self.wake_in(left.min(next));
    }

    fn phase_failed(&mut self, index: usize, message: String) -> Option<Cause> {
        let name = self.plan.phases()[index].name.clone();
        let phase = &mut self.status.phases[index];
        phase.message = Some(super::draft::cut(message.clone()));
        if self.past_no_return() {
            if self.take_retry(&name) {
                let tries = self.status.phases[index].tries;
                self.start_job(index, tries + 1);
                return None;
            }
            self.hold(Hold::FailedForGood { phase: name, message });
            return None;
        }
        let reason = crate::api::RollbackReason::PhaseFailed;
        Some(Cause::new(reason, format!("phase {name} failed: {message}")))
    }

    fn succeed(&mut self) {
        if !self.release_all() {
            return;
        }
        self.status.state = State::Succeeded;
        self.note("Succeeded", None, "operator", "every phase is done");
        self.end();
    }

    /// A breach after the point of no return: there is nothing to go back to, so it is told and nothing goes on.
    pub fn no_way_back(&mut self, cause: &Cause) {
        self.hold(Hold::NoWayBack { why: cause.message.clone() });
        self.wake_in(RESYNC);
    }
}

/// The name of the ControllerRevision that holds a plan. The UID is in it: a Migration made anew has other plans.
pub fn revision_name(migration: &str, uid: &str, hash: &str) -> String {
    let migration: String = migration.chars().take(200).collect();
    let uid: String = uid.chars().filter(|c| *c != '-').take(8).collect();
    format!("{migration}-{uid}-{hash}")
}
