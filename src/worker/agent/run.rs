//! The agent's life: take over, copy, then look and do a step, again and again, until it is told to leave or to stop.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    conductor::{Conductor, StepError},
    course::{self, Clients, Goal, Next, Plan, Side, Step, Wait, World},
    observe::Sight,
    state::{Attempt, AttemptOutcome, LeftBehind, Orders, Stage, State},
};
use crate::{stores::postgres::connect::chain, worker::replicate::ReplicateTask};

/// Between two looks while nothing is asked for.
const TICK: Duration = Duration::from_millis(500);
/// Between two looks at the Service while clients wait for it.
const FLIP_TICK: Duration = Duration::from_millis(20);
/// Between two looks while a move is wanted and something is waited for.
const EAGER_TICK: Duration = Duration::from_millis(100);
/// Before an attempt is made again, doubled with each that failed.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// Before a step other than an attempt's is tried again.
const STEP_BACKOFF: Duration = Duration::from_millis(250);

/// Why the agent's work is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was told to stop: nothing of ours is taken away.
    Stopped,
    /// It was told to leave: everything of ours is to be taken away.
    Leave,
    /// Another process conducts.
    Superseded,
}

/// The loop around the course.
pub(super) struct Run<'a> {
    pub task: &'a ReplicateTask,
    pub conductor: Conductor,
    pub orders: watch::Receiver<Orders>,
    pub state: &'a watch::Sender<State>,
    pub stop: &'a CancellationToken,
    pub failures: u32,
    pub not_before: Option<Instant>,
    /// The term of a trial that is done with.
    pub tried: Option<u32>,
    /// How many `POST /flipped` there had been when the last move was committed.
    pub flipped_before: u64,
}

impl Run<'_> {
    /// Conducts until it is over.
    pub async fn conduct(&mut self) -> End {
        loop {
            let orders = *self.orders.borrow_and_update();
            if self.stop.is_cancelled() || orders.leave {
                let _ = self.conductor.retreat().await;
                return if orders.leave { End::Leave } else { End::Stopped };
            }
            let goal = self.goal(&orders);
            let mut sight = self.conductor.observe(self.task.max_lag.0).await;
            if sight.trouble.as_ref().is_some_and(|trouble| trouble.superseded) {
                self.conductor.drop_everything();
                return End::Superseded;
            }
            if !self.conductor.has_service() && orders.flipped != self.flipped_before {
                sight.world.leads_to = Some(Side::serving(sight.world.known));
            }
            self.tell_sight(&sight, &orders);
            self.conductor.renew_credentials(&sight.world).await;
            self.give_up_in_doubt(goal, &sight.world).await;
            let pause = self.steps(goal, &orders, sight.world).await;
            self.rest(pause).await;
        }
    }

    /// What is wanted now: a failed attempt waits, a trial is made once, and a deadline may have passed.
    fn goal(&self, orders: &Orders) -> Goal {
        let term = match orders.goal {
            Goal::Try(term) if self.tried == Some(term) => return Goal::Stay,
            Goal::Stay => return Goal::Stay,
            Goal::Move(term) | Goal::Try(term) | Goal::Force(term) => term,
        };
        if self.conductor.known >= term {
            return orders.goal;
        }
        if orders.force_after.is_some_and(|after| orders.since.elapsed() >= after) {
            return Goal::Force(term);
        }
        if self.not_before.is_some_and(|not_before| Instant::now() < not_before) { Goal::Stay } else { orders.goal }
    }

    /// After a commit without an answer: once the gate's row says that nothing has moved, clients go on.
    async fn give_up_in_doubt(&mut self, goal: Goal, world: &World) {
        let Some(since) = self.conductor.held_since else { return };
        if world.fenced {
            return;
        }
        let (Goal::Move(term) | Goal::Try(term) | Goal::Force(term)) = goal else { return };
        if world.known >= term {
            return;
        }
        let seen = world.sides.of(Side::serving(term).other()).is_some();
        // Unseen, nobody knows; but clients aren't kept for ever: the gate tells them.
        if seen || since.elapsed() > LONGEST_BACKOFF {
            self.retreat(term, "the answer to the commit was lost, and nothing has moved".to_owned()).await;
        }
    }

    /// Does steps as long as their outcome is known without looking; returns how long to wait before the next look.
    async fn steps(&mut self, goal: Goal, orders: &Orders, mut world: World) -> Duration {
        let plan = Plan { way_back: self.task.action.way_back };
        // An attempt has a dozen steps at most.
        for _ in 0..16 {
            let step = match course::next(goal, plan, &world) {
                Next::Do(step) => step,
                Next::Wait(wait) => return self.wait_for(goal, wait, &world),
                Next::Settled => {
                    self.tell(&world, |state| {
                        (state.settled, state.waits_for, state.trouble) = (true, None, None);
                    });
                    return TICK;
                }
            };
            self.tell(&world, |state| {
                state.step = Some(step.to_string());
                (state.settled, state.waits_for) = (false, None);
            });
            if matches!(step, Step::Force(_)) {
                self.measure_what_stays(step).await;
            }
            tracing::info!(%step, "does");
            if let Err(error) = self.conductor.perform(step).await {
                return self.failed(goal, step, &error).await;
            }
            self.after(goal, step, orders);
            if !step.is_urgent() {
                return Duration::ZERO;
            }
            world = world.after(step);
        }
        Duration::ZERO
    }

    fn wait_for(&mut self, goal: Goal, wait: Wait, world: &World) -> Duration {
        let flip = match wait {
            Wait::Flip(side) => Some(side),
            Wait::Store(_)
            | Wait::Lag(_)
            | Wait::LongTransaction
            | Wait::SchemaChanged
            | Wait::StreamLost(_)
            | Wait::Forced
            | Wait::NotNext(_) => None,
        };
        self.tell(world, |state| {
            (state.settled, state.flip_to) = (false, flip);
            state.waits_for = Some(wait.to_string());
        });
        match (flip, goal) {
            (Some(_), _) => FLIP_TICK,
            (None, Goal::Stay) => TICK,
            (None, Goal::Move(_) | Goal::Try(_) | Goal::Force(_)) => EAGER_TICK,
        }
    }

    /// What a step's success changes beyond the world.
    fn after(&mut self, goal: Goal, step: Step, orders: &Orders) {
        match step {
            Step::Commit(_) => {
                self.failures = 0;
                self.not_before = None;
                self.flipped_before = orders.flipped;
            }
            Step::Open(term) if self.conductor.clients == Clients::NoProxy => self.moved(term),
            Step::Resume => match goal {
                Goal::Move(term) | Goal::Force(term)
                    if self.conductor.held_since.is_some() && self.conductor.known >= term =>
                {
                    self.moved(term);
                }
                Goal::Move(_) | Goal::Force(_) | Goal::Try(_) | Goal::Stay => {}
            },
            Step::Lift => {
                if let Goal::Try(term) = goal {
                    self.tried = Some(term);
                    self.attempt(term, AttemptOutcome::Tried, None);
                }
            }
            Step::Open(_)
            | Step::Guard(_)
            | Step::Mend(_)
            | Step::Prepare(_)
            | Step::Drop(_)
            | Step::Enable(_)
            | Step::Intend(_)
            | Step::Pause
            | Step::Fence(_)
            | Step::CatchUp
            | Step::Sequences
            | Step::Advance(_)
            | Step::Force(_)
            | Step::ShutLate(_) => {}
        }
    }

    fn moved(&mut self, term: u32) {
        self.attempt(term, AttemptOutcome::Moved, None);
        self.state.send_modify(|state| state.flip_to = None);
    }

    fn attempt(&mut self, term: u32, outcome: AttemptOutcome, why: Option<String>) {
        let held = self.conductor.held_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let held_millis = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(term, ?outcome, held_millis, why, "an attempt is over");
        self.state.send_modify(|state| {
            state.version += 1;
            state.retreats += u32::from(outcome == AttemptOutcome::GivenUp);
            state.last_attempt = Some(Attempt { term, outcome, held_millis, why });
        });
    }

    async fn failed(&mut self, goal: Goal, step: Step, error: &StepError) -> Duration {
        let text = chain(error);
        tracing::warn!(%step, error = text, "not done");
        self.state.send_modify(|state| {
            state.version += 1;
            state.trouble = Some(text.clone());
        });
        let (Goal::Move(term) | Goal::Try(term) | Goal::Force(term)) = goal else { return STEP_BACKOFF };
        let is_commit = matches!(step, Step::Commit(_));
        if self.conductor.known >= term || is_commit || self.conductor.held_since.is_none() {
            // After the commit point there is only forward; with its answer lost, the row is read first.
            return if is_commit { Duration::ZERO } else { STEP_BACKOFF };
        }
        self.retreat(term, text).await;
        Duration::ZERO
    }

    async fn retreat(&mut self, term: u32, why: String) {
        self.attempt(term, AttemptOutcome::GivenUp, Some(why));
        if let Err(error) = self.conductor.retreat().await {
            tracing::warn!(error = chain(&error), "clients may still wait; tries again");
        }
        let delay = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + delay);
    }

    async fn measure_what_stays(&mut self, step: Step) {
        let Step::Force(term) = step else { return };
        let bytes = self.conductor.not_carried(Side::serving(term).other()).await;
        self.state.send_modify(|state| state.left_behind = Some(LeftBehind { term, bytes }));
    }

    async fn rest(&mut self, pause: Duration) {
        if pause.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.cancelled() => {}
            changed = self.orders.changed() => {
                if changed.is_err() {
                    // Nobody can ask any more; the clock still can.
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// What was seen goes to the report.
    fn tell_sight(&self, sight: &Sight, orders: &Orders) {
        let world = sight.world;
        self.tell(&world, |state| {
            state.epoch = orders.epoch;
            state.asked = match orders.goal {
                Goal::Stay => None,
                Goal::Move(term) | Goal::Try(term) | Goal::Force(term) => Some(term).filter(|term| *term > world.known),
            };
            state.stage = Stage::Conducting;
            state.clients = Some(world.clients);
            if let Some(trouble) = &sight.trouble {
                state.trouble = Some(trouble.text.clone());
            }
        });
        // Figures that always change are no news.
        self.state.send_modify(|state| {
            (state.forward, state.reverse) = (sight.forward, sight.reverse);
            state.lag_millis = sight.lag.map(|lag| i64::try_from(lag.as_millis()).unwrap_or(i64::MAX));
        });
    }

    /// Changes the report, and its version if anything has changed.
    fn tell(&self, world: &World, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            let before = state.clone();
            let serving = Side::serving(world.known);
            let is_open = |seen: course::Seen| seen.gate.open && seen.gate.lets_in && seen.gate.term == world.known;
            state.term = world.term().or(Some(world.known).filter(|known| *known > 0));
            state.open = world.sides.of(serving).is_some_and(is_open).then_some(serving);
            change(state);
            let changed = *state != before;
            state.version += u64::from(changed);
            changed
        });
    }
}
