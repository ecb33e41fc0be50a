//! Draining: how those who are connected to the side that lost its traffic are made to leave it.

use crate::api::{Drain, Span, TrafficStatus, TrafficStep};

use super::{
    super::{
        draft::Draft,
        effect::{DrainOrder, DrainWay, Effect},
        hold::Hold,
        world::Side,
    },
    DEFAULT_DRAIN_DEADLINE, DEFAULT_RESTART_DEADLINE, LOOK_AGAIN,
};

impl Draft<'_> {
    /// Drains one side until nothing is left or the deadline is over. True once it is over.
    pub fn drain(&mut self, entry: usize, side: Side, drain: Option<&Drain>) -> bool {
        let traffic = self.status.traffic[entry].clone();
        let started = traffic.drain_started_at.unwrap_or(self.now);
        let (way, deadline) = way_and_deadline(drain);
        let waited = self.now.since(started);
        let seen = self.world.drains.get(&traffic.service).filter(|view| view.side == side);
        let remaining = seen.and_then(|view| view.remaining);
        let left_by_itself = match &way {
            DrainWay::Wait(span) => waited >= *span,
            DrainWay::Hook(_) | DrainWay::RestartPods => seen.is_some_and(|view| view.finished),
        };
        if left_by_itself || waited >= deadline {
            if !left_by_itself {
                self.tell_of_those_who_stay(entry, side, remaining, deadline);
            }
            self.status.traffic[entry].remaining = remaining;
            self.status.traffic[entry].step = match side {
                Side::From => TrafficStep::Drained,
                Side::To => TrafficStep::BackDrained,
            };
            return true;
        }
        match way {
            DrainWay::Wait(span) => self.wake_in(Span(span.min(deadline).0.saturating_sub(waited.0))),
            DrainWay::Hook(_) | DrainWay::RestartPods => {
                let labels = match side {
                    Side::From => traffic.from.clone(),
                    Side::To => traffic.to.clone(),
                };
                let service = traffic.service.clone();
                let until = started.after(deadline);
                self.after.push(Effect::Drain(DrainOrder { service, labels, side, way, until }));
                self.wake_in(LOOK_AGAIN);
            }
        }
        self.hold(Hold::Draining { service: traffic.service });
        false
    }

    fn tell_of_those_who_stay(&mut self, entry: usize, side: Side, remaining: Option<u64>, deadline: Span) {
        let TrafficStatus { service, phase, .. } = self.status.traffic[entry].clone();
        let side = match side {
            Side::From => "old",
            Side::To => "new",
        };
        let stay = remaining.map_or_else(|| "an unknown number of".to_owned(), |count| count.to_string());
        let why = format!("{stay} connections to the {side} side of Service {service} did not leave within {deadline}");
        self.alarm("DrainCutShort", Some(&phase), why);
        if let Some(rollback) = &mut self.status.rollback {
            rollback.drain_cut_short = true;
        }
    }
}

/// How to drain and for how long at most. One who asks to wait for a time, and for nothing else, gets that time.
fn way_and_deadline(drain: Option<&Drain>) -> (DrainWay, Span) {
    let deadline = drain.and_then(|drain| drain.deadline);
    let restarts = drain.is_some_and(|drain| drain.restart_pods == Some(true) && drain.hook.is_none());
    let or_default = deadline.unwrap_or(if restarts { DEFAULT_RESTART_DEADLINE } else { DEFAULT_DRAIN_DEADLINE });
    match drain {
        Some(Drain { hook: Some(hook), .. }) => (DrainWay::Hook(hook.into()), or_default),
        Some(Drain { restart_pods: Some(true), .. }) => (DrainWay::RestartPods, or_default),
        Some(Drain { wait: Some(wait), .. }) => (DrainWay::Wait(*wait), deadline.unwrap_or(*wait)),
        Some(_) | None => (DrainWay::Wait(or_default), or_default),
    }
}
