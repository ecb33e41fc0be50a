//! Plans: how the first one is frozen, and how a changed one takes its place between two phases.

use crate::api::{PhaseState, PhaseStatus, PlanRef, Span, State, SwitchAction, TrafficStatus, TrafficStep};

use super::{
    draft::{Draft, Plans},
    effect::{Effect, label_part},
    hold::Hold,
    plan::{self, Action, Plan},
    traffic,
    world::{Finding, RESYNC, Weight},
};

/// How soon to ask again about something that may mend itself, such as a pod that isn't ready yet.
const ASK_AGAIN: Span = Span::secs(5);

impl Draft<'_> {
    /// Everything that is asked before the first effect has been answered well, so the plan is written down.
    pub fn freeze_first_plan(&mut self, plans: &Plans<'_>) {
        self.status.state = State::Preflight;
        let Some(candidate) = self.passes_preflight(plans) else { return };
        let all: Vec<_> = candidate.guards_during(0).into_iter().map(|guard| guard.name).collect();
        if let Some(hold) = self.guards_hold(&all) {
            self.hold(hold);
            self.wake_in(RESYNC);
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
                self.is_kept_back(findings);
                return None;
            }
        };
        let contradictions = candidate.contradictions();
        if !contradictions.is_empty() {
            self.hold(Hold::PreflightRefused(contradictions));
            self.wake_in(RESYNC);
            return None;
        }
        if !self.world.preflight.asked {
            self.hold(Hold::PreflightNotAsked);
            self.wake_in(traffic::LOOK_AGAIN);
            return None;
        }
        if self.is_kept_back(&self.world.preflight.findings) { None } else { Some(candidate) }
    }

    /// Whether a finding keeps the plan from being taken over: what only a person can mend comes before what may mend
    /// itself.
    fn is_kept_back(&mut self, findings: &[Finding]) -> bool {
        let weighs = |weight| findings.iter().filter(move |finding| finding.weight == weight).cloned();
        let refused: Vec<_> = weighs(Weight::Refuse).collect();
        if !refused.is_empty() {
            self.hold(Hold::PreflightRefused(refused));
            self.wake_in(RESYNC);
            return true;
        }
        let Some(finding) = weighs(Weight::Wait).next() else { return false };
        self.hold(Hold::PreflightWaits(finding));
        self.wake_in(ASK_AGAIN);
        true
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
        self.status.traffic.retain(|traffic| traffic.step != TrafficStep::Unclaimed);
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

    fn expect_traffic(&mut self, service: &str, phase: &str, switch: &SwitchAction) {
        let entry = self.status.traffic.iter().position(|traffic| traffic.service == service).unwrap_or_else(|| {
            self.status.traffic.push(TrafficStatus { service: service.to_owned(), ..TrafficStatus::default() });
            self.status.traffic.len() - 1
        });
        let traffic = &mut self.status.traffic[entry];
        // What has moved keeps the labels that lead back.
        if !traffic::in_effect(traffic.step) && traffic.flipped_at.is_none() {
            phase.clone_into(&mut traffic.phase);
            traffic.bound = plan::is_bound(switch);
            traffic.from = switch.from.clone();
            traffic.to = switch.to.clone();
        }
    }

    /// Whether the plan is written down and the Migration can't vanish under us.
    pub fn plan_is_safe(&mut self, plans: &Plans<'_>) -> bool {
        let Some(plan) = self.status.plan.clone() else { return false };
        if self.world.plan_foreign {
            self.hold(Hold::PlanForeign(plan.revision));
            self.wake_in(RESYNC);
            return false;
        }
        if !self.world.plan_stored || self.plan.hash != plan.hash {
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
                    self.status.traffic.clear();
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
        if let Some(why) = self.status_contradicts_plan() {
            self.hold(Hold::StatusForeign { why });
            self.wake_in(RESYNC);
            return false;
        }
        true
    }

    /// What in status, restored from a copy or edited by hand, can't have been written for this plan. Nothing is begun
    /// or followed by it; the way back asks for each phase by its name, and goes on.
    fn status_contradicts_plan(&self) -> Option<String> {
        let planned = self.plan.phases();
        if planned.len() != self.status.phases.len() {
            return Some(format!("status has {} phases and the plan {}", self.status.phases.len(), planned.len()));
        }
        let odd = planned.iter().zip(&self.status.phases).find(|(planned, known)| planned.name != known.name);
        odd.map(|(planned, known)| format!("status has phase {} where the plan has {}", known.name, planned.name))
    }

    /// At a phase's boundary, takes over what the user has changed since. True if there was something to take over.
    pub fn adopt_new_plan(&mut self, plans: &Plans<'_>, index: usize) -> bool {
        let frozen = self.plan.hash.clone();
        match plans.candidate {
            Ok(candidate) if candidate.hash == frozen => return false,
            Ok(_) | Err(_) => {}
        }
        let Some(candidate) = self.passes_preflight(plans) else { return true };
        let begun = &self.plan.phases()[..index];
        let edited = begun.iter().zip(0..).find(|(phase, at)| candidate.phases().get(*at) != Some(phase));
        if let Some((phase, _)) = edited {
            // Admission refuses this; without it, what has been done stays what it was.
            self.hold(Hold::BegunEdited { phase: phase.name.clone() });
            self.wake_in(RESYNC);
            return true;
        }
        self.adopt(candidate);
        self.note("PlanAdopted", None, "operator", format!("plan {} takes the place of {frozen}", candidate.hash));
        self.hold(Hold::Storing);
        self.wake_in(traffic::LOOK_AGAIN);
        true
    }
}

/// The name of the ControllerRevision that holds a plan. The UID is in it: a Migration made anew has other plans.
pub fn revision_name(migration: &str, uid: &str, hash: &str) -> String {
    let uid: String = uid.chars().filter(|c| *c != '-').take(8).collect();
    format!("{}-{uid}-{hash}", label_part(migration, 200))
}
