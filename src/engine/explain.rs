//! What a decision says of itself: state, message and progress, all from one typed hold.

use crate::api::{GuardStatus, HistoryEntry, HoldStatus, MAX_STATUS, MigrationStatus, PhaseState, State, Time};

use super::{
    draft::{Decision, Draft, cut, cut_to},
    guard::{GuardView, Silence, Verdict},
    hold::{Class, Hold},
    traffic, verb,
    world::RESYNC,
};

/// Length that a phase's message is cut to where status would be too long otherwise, in bytes.
const SHORT_MESSAGE: usize = 128;

/// Turns a draft into a decision.
pub(crate) fn finish(mut draft: Draft<'_>) -> Decision {
    draft.show_phase();
    draft.show_guards();
    draft.show_hold();
    draft.show_conditions();
    bound(&mut draft.status);
    let ended = has_ended(draft.status.state);
    let wake = draft.wake.or((!ended).then_some(RESYNC));
    Decision { status: draft.status, at_once: draft.at_once, after: draft.after, wake, notes: draft.notes }
}

/// Whether a migration has come to its end, one way or the other.
pub(crate) fn has_ended(state: State) -> bool {
    match state {
        State::Succeeded | State::RolledBack => true,
        State::Pending | State::Preflight | State::Running | State::Waiting | State::RollingBack | State::Stalled => {
            false
        }
    }
}

impl Draft<'_> {
    fn show_phase(&mut self) {
        let done = self.status.phases.iter().filter(|phase| phase.state == PhaseState::Done).count();
        let planned = self.status.phases.len().max(self.plan.phases().len());
        self.status.progress = format!("{done}/{planned}");
        // On the way back the phase shown stays the one that was under way when it began.
        if !self.is_going_back() && !has_ended(self.status.state) {
            self.status.phase = self
                .current()
                .and_then(|index| self.status.phases.get(index))
                .map(|phase| phase.name.clone())
                .or_else(|| self.plan.phases().first().map(|phase| phase.name.clone()));
        }
        let phase = self.status.phase.clone().unwrap_or_default();
        let attempt = self.status.attempt;
        self.status.binding = self.status.plan.as_ref().map(|plan| verb::binding(&phase, &plan.hash, attempt));
    }

    /// Status hears of changes, not of polls: a guard's entry is written when its verdict becomes another.
    fn show_guards(&mut self) {
        let known = std::mem::take(&mut self.status.guards);
        let now = self.now;
        self.status.guards = self
            .world
            .guards
            .iter()
            .map(|guard| {
                let word = verdict_word(&guard.verdict);
                match known.iter().find(|k| k.name == guard.name && k.verdict == word) {
                    Some(unchanged) => unchanged.clone(),
                    None => guard_status(guard, word, now),
                }
            })
            .collect();
    }

    fn show_hold(&mut self) {
        self.show_state();
        let ended = has_ended(self.status.state);
        let going_back = self.is_going_back();
        let message = match (self.status.state, &self.hold) {
            (State::Succeeded, _) => "every phase is done".to_owned(),
            (State::RolledBack, _) => self.rollback_message("rolled back"),
            (_, Some(hold)) if going_back => format!("{}; {hold}", self.rollback_message("rolling back")),
            (_, Some(hold)) => hold.to_string(),
            (_, None) if going_back => self.rollback_message("rolling back"),
            (_, None) => "going on".to_owned(),
        };
        self.status.message = cut(message);
        self.status.next = self.next_command();
        let hold = self.hold.as_ref().filter(|_| !ended).map(|hold| {
            let known = self.status.hold.as_ref().filter(|known| known.reason == hold.word());
            let deadline = self.deadline(hold);
            HoldStatus {
                reason: hold.word().to_owned(),
                since: known.map_or(self.now, |known| known.since),
                deadline: deadline.map(|(at, _)| at),
                on_deadline: deadline.map(|(_, meaning)| meaning.to_owned()),
            }
        });
        self.status.hold = hold;
    }

    fn show_state(&mut self) {
        if has_ended(self.status.state) {
            return;
        }
        let class = self.hold.as_ref().map(Hold::class);
        self.status.state = match class {
            Some(Class::Stall) => State::Stalled,
            Some(Class::Wait | Class::Work) | None if self.is_going_back() => State::RollingBack,
            // A plan that waits for its first approval has passed its preflight.
            Some(Class::Wait) if matches!(self.hold, Some(Hold::Approval { .. } | Hold::Paused)) => State::Waiting,
            Some(Class::Wait | Class::Work) | None if self.status.begun == 0 => State::Preflight,
            Some(Class::Wait) => State::Waiting,
            Some(Class::Work) | None => State::Running,
        };
    }

    /// Until when a wait is an ordinary one, and what comes then. A wait without a deadline goes on until what it waits
    /// for has come.
    fn deadline(&self, hold: &Hold) -> Option<(Time, &'static str)> {
        if self.is_going_back() {
            return None;
        }
        if let Hold::GuardSilent { guard, over_budget: false, .. } = hold {
            let view = self.world.guards.iter().find(|view| view.name == *guard)?;
            let Verdict::Silent { since, .. } = view.verdict else { return None };
            let present = self.current().unwrap_or(self.status.phases.len());
            let spec = self.plan.guards_during(present).into_iter().find(|spec| spec.name == *guard)?;
            return Some((since.after(spec.hold_budget.unwrap_or(crate::api::Guard::DEFAULT_HOLD_BUDGET)), "Pause"));
        }
        let meaning = if self.is_past_no_return() { "Stall" } else { "Rollback" };
        let confirmed = if let Hold::Confirming { service } = hold {
            let traffic = self.status.traffic.iter().find(|traffic| traffic.service == *service)?;
            traffic.flipped_at.map(|at| at.after(traffic::CONFIRM_DEADLINE))
        } else {
            None
        };
        let index = self.current()?;
        let started = self.status.phases[index].started_at;
        let timeout = self.plan.phases().get(index).and_then(|phase| phase.timeout);
        let late = started.zip(timeout).map(|(started, timeout)| started.after(timeout));
        confirmed.into_iter().chain(late).min().map(|at| (at, meaning))
    }

    fn rollback_message(&self, word: &str) -> String {
        let why = self.status.rollback.as_ref().map_or("", |rollback| &rollback.message);
        format!("{word}: {why}")
    }
}

/// Keeps status within its size: first the oldest history goes, then the phases' messages become short.
fn bound(status: &mut MigrationStatus) {
    let size = |status: &MigrationStatus| serde_json::to_vec(status).map_or(usize::MAX, |text| text.len());
    let mut now = size(status);
    while now > MAX_STATUS && !status.history.is_empty() {
        let oldest: HistoryEntry = status.history.remove(0);
        now = now.saturating_sub(serde_json::to_vec(&oldest).map_or(0, |text| text.len()));
    }
    if size(status) > MAX_STATUS {
        for phase in &mut status.phases {
            phase.message = phase.message.take().map(|message| cut_to(message, SHORT_MESSAGE));
        }
    }
}

/// A verdict as one word, for status and metrics.
pub fn verdict_word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "Pass",
        Verdict::Breach { .. } => "Breach",
        Verdict::Silent { why, .. } => match why {
            Silence::NotAsked => "NotAsked",
            Silence::NoData => "NoData",
            Silence::Stale { .. } => "Stale",
            Silence::Nan => "NaN",
            Silence::Unavailable => "Unavailable",
            Silence::LowTraffic { .. } => "LowTraffic",
            Silence::MultiSeries { .. } => "MultiSeries",
            Silence::Doubtful => "Doubtful",
            Silence::NoBaseline => "NoBaseline",
        },
    }
}

fn guard_status(guard: &GuardView, word: &str, now: Time) -> GuardStatus {
    GuardStatus {
        name: guard.name.clone(),
        verdict: word.to_owned(),
        value: guard.value.map(|value| value.to_string()),
        limit: Some(cut_to(guard.limit.clone(), SHORT_MESSAGE)).filter(|limit| !limit.is_empty()),
        since: now,
        dry_run: guard.dry_run,
    }
}
