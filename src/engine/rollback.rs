//! The way back, in three lanes (design section 3): 1 traffic, and 1b those still connected to the new side; 2 Jobs
//! stopped; 3 schema and Jobs taken back in reverse order. Lanes 1 and 2 begin together, lane 3 waits for both.

use crate::api::{PhaseState, RollbackStatus, State, TrafficStep};

use super::{
    cause::Cause,
    draft::Draft,
    effect::Effect,
    plan::{self, Undo},
    world::{Side, Sight},
};

impl Draft<'_> {
    /// Whether everything is being taken back.
    pub fn is_going_back(&self) -> bool {
        self.status.rollback.as_ref().is_some_and(|rollback| rollback.done.is_none())
    }

    /// Begins the way back.
    pub fn begin_rollback(&mut self, cause: Cause) {
        let phase = self.status.phase.clone();
        let word = if cause.keeps_traffic { "LettingGo" } else { "RollingBack" };
        for (name, value) in [("abort", &self.world.verbs.abort), ("rollback", &self.world.verbs.rollback)] {
            if let Some(value) = value {
                self.status.verbs.insert(name.to_owned(), value.clone());
            }
        }
        self.status.rollback = Some(RollbackStatus {
            reason: cause.reason,
            message: super::draft::cut(cause.message.clone()),
            keeps_traffic: cause.keeps_traffic,
            sample_at: cause.sample_at,
            seen_at: self.now,
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
        let keeps_traffic = self.status.rollback.as_ref().is_some_and(|rollback| rollback.keeps_traffic);
        let traffic_is_back = keeps_traffic || self.lane_1();
        let jobs_stopped = self.lane_2();
        let undone = traffic_is_back && jobs_stopped && (keeps_traffic || self.lane_3());
        if undone && self.release_all() {
            self.finish_rollback();
        }
    }

    fn lane_1(&mut self) -> bool {
        // Every Service is asked for at once: they move together.
        let entries: Vec<usize> = (0..self.status.traffic.len()).collect();
        let drained = entries.iter().fold(true, |all, &entry| self.take_back(entry) && all);
        let restored = entries.iter().all(|&entry| self.takes_new_connections_back(entry));
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

    /// Whether new connections of a Service have been seen to go to the old side again.
    fn takes_new_connections_back(&self, entry: usize) -> bool {
        match self.status.traffic[entry].step {
            TrafficStep::Back => match self.sight(entry) {
                Sight::Seen(view) => view.confirmed == Some(Side::From),
                Sight::Unseen | Sight::Absent => false,
            },
            TrafficStep::FlipIntended
            | TrafficStep::Flipped
            | TrafficStep::Confirmed
            | TrafficStep::Drained
            | TrafficStep::BackIntended => false,
            TrafficStep::Unclaimed
            | TrafficStep::ClaimIntended
            | TrafficStep::Claimed
            | TrafficStep::BackDrained
            | TrafficStep::ReleaseIntended
            | TrafficStep::Released => true,
        }
    }

    fn lane_2(&mut self) -> bool {
        let phases: Vec<usize> = (0..self.status.phases.len()).collect();
        let stopped = phases.into_iter().fold(true, |all, index| self.stop_job(index) && all);
        let now = self.now;
        if let Some(rollback) = self.status.rollback.as_mut().filter(|_| stopped) {
            rollback.jobs_stopped.get_or_insert(now);
        }
        stopped
    }

    fn lane_3(&mut self) -> bool {
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

    fn take_phase_back(&mut self, index: usize) -> bool {
        match plan::undo(&self.plan.phases()[index]) {
            Undo::Job => self.follow_undo(index),
            // Lane 1 has done it.
            Undo::Traffic => {
                self.status.phases[index].state = PhaseState::Undone;
                true
            }
            Undo::Nothing { because } => {
                let phase = &mut self.status.phases[index];
                phase.state = PhaseState::Kept;
                phase.message = Some(because.to_owned());
                true
            }
        }
    }

    fn finish_rollback(&mut self) {
        let now = self.now;
        if let Some(rollback) = &mut self.status.rollback {
            rollback.done = Some(now);
        }
        self.status.state = State::RolledBack;
        let keeps_traffic = self.status.rollback.as_ref().is_some_and(|rollback| rollback.keeps_traffic);
        let (what, why) = if keeps_traffic {
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
