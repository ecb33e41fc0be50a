//! The way back, in three lanes (design section 3): 1 traffic, and 1b those still connected to the new side; 2 Jobs
//! stopped; 3 schema and Jobs taken back in reverse order. Lanes 1 and 2 begin together, lane 3 waits for both.

use crate::api::{DeletionPolicy, PhaseState, RollbackStatus, State};

use super::{
    cause::Cause,
    draft::Draft,
    effect::Effect,
    hold::Hold,
    jobs::After,
    plan::{self, Undo},
    verb,
    world::{Lifecycle, RESYNC},
};

impl Draft<'_> {
    /// Whether everything is being taken back.
    pub fn is_going_back(&self) -> bool {
        self.status.rollback.as_ref().is_some_and(|rollback| rollback.done.is_none())
    }

    fn keeps_traffic(&self) -> bool {
        self.status.rollback.as_ref().is_some_and(|rollback| rollback.keeps_traffic)
    }

    /// Begins the way back.
    pub fn begin_rollback(&mut self, cause: Cause) {
        let phase = self.status.phase.clone();
        let word = if cause.keeps_traffic { "LettingGo" } else { "RollingBack" };
        let verbs = &self.world.verbs;
        for (name, value) in [("abort", &verbs.abort), ("rollback", &verbs.rollback)] {
            let spoken_to = phase.as_deref().unwrap_or_default();
            if let Some(value) = value.as_ref().filter(|value| verb::is_bound_to_any(value, spoken_to, &self.status)) {
                self.status.verbs.insert(name.to_owned(), value.clone());
            }
        }
        self.status.rollback = Some(RollbackStatus {
            reason: cause.reason,
            message: super::draft::cut(cause.message.clone()),
            keeps_traffic: cause.keeps_traffic,
            sample_at: cause.sample_at,
            seen_at: cause.seen_at.unwrap_or(self.now),
            ..RollbackStatus::default()
        });
        if cause.by == "operator" {
            self.alarm(word, phase.as_deref(), cause.message);
        } else {
            self.note(word, phase.as_deref(), &cause.by, cause.message);
        }
    }

    /// Goes on with the way back.
    pub fn go_back(&mut self) {
        if let Some(why) = self.why_let_go() {
            if let Some(rollback) = &mut self.status.rollback {
                rollback.keeps_traffic = true;
            }
            let phase = self.status.phase.clone();
            self.alarm("LettingGo", phase.as_deref(), format!("the Migration is deleted and traffic stays: {why}"));
        }
        let keeps_traffic = self.keeps_traffic();
        let traffic_is_back = keeps_traffic || self.lane_1();
        let jobs_stopped = self.lane_2();
        let undone =
            traffic_is_back && jobs_stopped && if keeps_traffic { self.end_replication() } else { self.lane_3() };
        if undone && self.release_all() {
            self.finish_rollback();
        }
    }

    /// Why a Migration that is going away takes nothing more back: nobody is left to wait for what only a person could
    /// mend.
    fn why_let_go(&self) -> Option<String> {
        if !self.is_leaving() || self.keeps_traffic() {
            return None;
        }
        let no_agent = self.world.lifecycle == Lifecycle::NamespaceTerminating && self.agent().is_none();
        if no_agent && self.entries().any(|entry| self.status.traffic[entry].bound && self.is_on_new_side(entry)) {
            return Some("the agent that moves the writes can't run in a namespace that is going away".to_owned());
        }
        match self.world.deletion_policy {
            DeletionPolicy::Orphan => Some("deletionPolicy is Orphan".to_owned()),
            DeletionPolicy::Rollback => self.why_traffic_stays().map(|hold| hold.to_string()),
        }
    }

    fn lane_1(&mut self) -> bool {
        // Every Service is asked for at once: they move together.
        let mut drained = true;
        for entry in self.entries() {
            drained &= self.take_back(entry);
        }
        let served = self.writes_are_back();
        drained &= served;
        let restored = served && self.entries().all(|entry| self.takes_new_connections_back(entry));
        let moved = self.status.traffic.iter().any(|traffic| traffic.flipped_at.is_some());
        let now = self.now;
        if let Some(rollback) = self.status.rollback.as_mut().filter(|_| moved) {
            if restored {
                rollback.new_connections_restored.get_or_insert(now);
            }
            if drained {
                rollback.drained.get_or_insert(now);
            }
        }
        drained
    }

    fn lane_2(&mut self) -> bool {
        let mut stopped = true;
        for index in 0..self.status.phases.len() {
            stopped &= self.stop_job(index);
        }
        let now = self.now;
        if let Some(rollback) = self.status.rollback.as_mut().filter(|_| stopped) {
            rollback.jobs_stopped.get_or_insert(now);
        }
        stopped
    }

    fn lane_3(&mut self) -> bool {
        if let Some(hold) = self.why_traffic_is_not_back() {
            self.hold(hold);
            self.wake_in(RESYNC);
            return false;
        }
        for index in (0..self.status.phases.len()).rev() {
            match self.status.phases[index].state {
                PhaseState::Pending | PhaseState::Undone | PhaseState::Kept => {}
                PhaseState::Done
                | PhaseState::Failed
                | PhaseState::Intended
                | PhaseState::Running
                | PhaseState::Undoing => {
                    if !self.take_phase_back(index) {
                        return false;
                    }
                }
            }
        }
        let now = self.now;
        if let Some(rollback) = &mut self.status.rollback {
            rollback.undone.get_or_insert(now);
        }
        true
    }

    /// Whether a Job has still to take something back, or may have.
    pub fn is_something_left_to_undo(&self) -> bool {
        self.status.phases.iter().any(|phase| {
            let left = match phase.state {
                PhaseState::Pending | PhaseState::Undone | PhaseState::Kept => false,
                PhaseState::Done
                | PhaseState::Failed
                | PhaseState::Intended
                | PhaseState::Running
                | PhaseState::Undoing => true,
            };
            left && phase.job.is_some()
        })
    }

    fn take_phase_back(&mut self, index: usize) -> bool {
        let name = self.status.phases[index].name.clone();
        let Some(phase) = self.plan.phase(&name) else {
            // Traffic's way back is all in status; what a Job would have to do is not.
            if self.is_leaving() {
                let why = format!("phase {name} is left as it is: the plan that says how to take it back is gone");
                self.alarm("UndoGivenUp", Some(&name), why);
                return self.keep_phase(index, "the plan that says how to take it back is gone");
            }
            let revision = self.status.plan.as_ref().map(|plan| plan.revision.clone()).unwrap_or_default();
            let foreign = self.world.plan_foreign;
            self.hold(if foreign { Hold::PlanForeign(revision) } else { Hold::PlanLost(revision) });
            self.wake_in(RESYNC);
            return false;
        };
        match plan::undo(phase) {
            Undo::Job if self.has_never_worked(index) => self.keep_phase(index, "its Job never ran"),
            Undo::Job if plan::conducts(phase) && !self.dismiss(index) => false,
            Undo::Job => self.follow_after(index, After::Undo),
            // Lane 1 has done it.
            Undo::Traffic => {
                self.status.phases[index].state = PhaseState::Undone;
                true
            }
            Undo::Nothing { because } => self.keep_phase(index, because),
        }
    }

    /// Leaves a phase as it is. Why it failed is worth more than why nothing is done about it.
    pub fn keep_phase(&mut self, index: usize, because: &str) -> bool {
        let phase = &mut self.status.phases[index];
        if phase.state != PhaseState::Failed {
            phase.message = None;
        }
        phase.message.get_or_insert_with(|| because.to_owned());
        phase.state = PhaseState::Kept;
        true
    }

    fn finish_rollback(&mut self) {
        let now = self.now;
        if let Some(rollback) = &mut self.status.rollback {
            rollback.done = Some(now);
        }
        self.status.state = State::RolledBack;
        let (what, why) = if self.keeps_traffic() {
            ("LetGo", "nothing of this migration runs any more; traffic stays where it is")
        } else {
            ("RolledBack", "everything has been taken back")
        };
        self.note(what, None, "operator", why);
        self.end();
    }

    /// What is left to do once a migration has ended, one way or the other.
    pub fn end(&mut self) {
        if self.world.finalizer {
            self.after.push(Effect::RemoveFinalizer);
        }
    }
}
