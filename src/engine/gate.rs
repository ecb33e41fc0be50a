//! The gate: why no forward step may be taken now. The first check that fails decides.

use crate::api::PhaseState;

use super::{
    draft::Draft,
    guard::{BaselineView, Silence, Verdict},
    hold::Hold,
    plan,
    traffic::WayBack,
    verb,
};

impl Draft<'_> {
    /// Why a phase may not begin now.
    pub fn why_not_begin(&self, index: usize) -> Option<Hold> {
        self.strangers()
            .or_else(|| self.paused(index))
            .or_else(|| self.until(index))
            .or_else(|| self.unapproved(index))
            .or_else(|| self.why_not_go_on(index))
    }

    /// Why a phase that has begun may take no step forward now, nor end.
    pub fn why_not_go_on(&self, index: usize) -> Option<Hold> {
        let guards: Vec<_> = self.plan.guards_during(index).into_iter().map(|guard| guard.name).collect();
        self.strangers()
            .or_else(|| self.paused(index))
            .or_else(|| self.guards_hold(&guards))
            .or_else(|| self.no_way_back_now())
    }

    fn paused(&self, index: usize) -> Option<Hold> {
        let pause = self.world.verbs.pause.as_deref()?;
        verb::is_bound_to_any(pause, &self.status.phases[index].name, &self.status).then_some(Hold::Paused)
    }

    fn until(&self, index: usize) -> Option<Hold> {
        let last = self.world.until.as_deref().and_then(|until| self.plan.index_of(until))?;
        (index > last).then(|| Hold::Until { phase: self.plan.phases()[last].name.clone() })
    }

    fn unapproved(&self, index: usize) -> Option<Hold> {
        let phase = &self.plan.phases()[index];
        if self.status.phases[index].state != PhaseState::Pending || !plan::needs_approval(phase) {
            return None;
        }
        let approved = self.world.verbs.approve.as_deref();
        let bound = approved.is_some_and(|value| verb::is_bound(value, &phase.name, &self.status));
        (!bound).then(|| Hold::Approval { phase: phase.name.clone() })
    }

    /// Why the guards allow no forward step. A guard that is missing from the world has not been asked.
    pub fn guards_hold(&self, expected: &[String]) -> Option<Hold> {
        expected.iter().find_map(|name| {
            let guard = name.clone();
            let Some(view) = self.world.guards.iter().find(|view| view.name == *name) else {
                return Some(Hold::GuardSilent { guard, why: Silence::NotAsked, over_budget: false });
            };
            if view.dry_run {
                return None;
            }
            match view.verdict {
                Verdict::Pass => None,
                Verdict::Silent { why, over_budget, .. } => Some(Hold::GuardSilent { guard, why, over_budget }),
                Verdict::Breach { .. } => Some(Hold::GuardBreached { guard }),
            }
        })
    }

    fn no_way_back_now(&self) -> Option<Hold> {
        if self.bake_is_over() {
            return None;
        }
        match self.way_back() {
            WayBack::Open => None,
            WayBack::Shut(why) => Some(Hold::RollbackNotReady { why }),
            WayBack::Unknown(hold) => Some(hold),
        }
    }

    /// Why a switch may not move its Services now; takes the guards' baselines if it may.
    pub fn why_not_switch(&mut self, phase: &str, switch: &crate::api::SwitchAction) -> Option<Hold> {
        let entries = self.entries_of(phase);
        if let Some(hold) = entries.iter().find_map(|&entry| self.why_not_flip(entry, switch)) {
            return Some(hold);
        }
        if let Some(hold) = self.why_not_move_writes(phase, switch) {
            return Some(hold);
        }
        self.take_baselines()
    }

    /// Remembers what the guards were like just before a flip or a backfill. Returns why that can't be done.
    pub fn take_baselines(&mut self) -> Option<Hold> {
        let wanted = self.plan.spec.guards.iter().chain(self.plan.phases().iter().flat_map(|phase| &phase.guards));
        // A guard that only reports doesn't hold anything up.
        let wanted: Vec<&str> = wanted.filter(|g| g.needs_baseline() && !g.dry_run).map(|g| g.name.as_str()).collect();
        let mut taken = Vec::new();
        for view in &self.world.baselines {
            match view {
                BaselineView::Refused { guard, why } if wanted.contains(&guard.as_str()) => {
                    return Some(Hold::BaselineRefused { guard: guard.clone(), why: why.clone() });
                }
                BaselineView::Refused { .. } | BaselineView::NotYet => {}
                BaselineView::Taken(baseline) => taken.push(baseline.clone()),
            }
        }
        if wanted.iter().any(|name| taken.iter().all(|baseline| baseline.guard != *name)) {
            return Some(Hold::BaselineMissing);
        }
        self.status.baselines = taken;
        None
    }
}
