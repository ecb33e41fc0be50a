//! The course of a cut-over and of the way back (design section 9, P1): what is true, in; the next step, out. Pure.
//!
//! ```text
//!  settled ─▶ Intend ─▶ Pause ─▶ Fence ─▶ CatchUp ─▶ Sequences ─▶ Advance ─▶ Commit
//!     ▲          any failure up to here: Lift, Resume, and again later          │ the one arbiter
//!     └── Prepare ◀─ Enable ◀─ Drop ◀─ Resume ◀─ Open ◀─ (the flip, outside) ◀──┘
//! ```
//!
//! Every move has a term, counted from 1; odd terms serve from green, even ones from blue. The term that is committed is
//! the higher of the two that the gates' rows hold, and a move commits by the row of the side that it leaves, in the
//! session that holds the fence. Nothing else decides: whoever comes after a crash reads the rows and takes the next step
//! from there.

pub use super::world::{Clients, Pair, Seen, Side, StreamState, World, source};
use crate::stores::postgres::{gate::Gate, replication::Stream};

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The side that serves goes on serving.
    Stay,
    /// The move to this term.
    Move(u32),
    /// The same up to its commit point, and then nothing: to measure how long clients would wait.
    Try(u32),
    /// Traffic moves in this term without a fence, and what has not been replicated stays behind.
    Force(u32),
}

/// What the spec says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The side that does not serve is fed by the side that does.
    pub way_back: bool,
}

/// A thing to do. Each may be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put the gate's trigger on each table.
    Guard(Side),
    /// Make what writers are told agree with what was committed.
    Mend(Side),
    /// Give up the fence.
    Lift,
    /// Let clients go on.
    Resume,
    /// Make slot and subscription of a stream, applying nothing yet.
    Prepare(Stream),
    /// Take a stream away with its slot.
    Drop(Stream),
    /// Let a stream apply.
    Enable(Stream),
    /// Write down that the move to this term begins.
    Intend(u32),
    /// Make clients wait.
    Pause,
    /// Hold writes on the side that serves.
    Fence(u32),
    /// Wait until the other side shows everything, and have it on disk.
    CatchUp,
    /// Raise the other side's sequences.
    Sequences,
    /// Move the stream back past what is there.
    Advance(Stream),
    /// Commit the move.
    Commit(u32),
    /// Let writers in on the side that serves now.
    Open(u32),
    /// Stop the stream into the side that traffic goes to by force, and open its gate.
    Force(u32),
    /// Shut the gate of the side that traffic was taken away from by force.
    ShutLate(u32),
}

impl Step {
    /// Whether clients may be waiting for it: the world after it is taken as [`World::after`] says, without looking.
    pub fn is_urgent(self) -> bool {
        match self {
            Self::Pause
            | Self::Fence(_)
            | Self::CatchUp
            | Self::Sequences
            | Self::Advance(_)
            | Self::Commit(_)
            | Self::Open(_)
            | Self::Resume => true,
            Self::Guard(_)
            | Self::Mend(_)
            | Self::Lift
            | Self::Prepare(_)
            | Self::Drop(_)
            | Self::Enable(_)
            | Self::Intend(_)
            | Self::Force(_)
            | Self::ShutLate(_) => false,
        }
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A store that doesn't answer.
    Store(Side),
    /// The Service, which does not lead to the side that serves now.
    Flip(Side),
    /// The stream to the other side, which is too far behind or applies nothing.
    Lag(Stream),
    /// A transaction that writes and doesn't end.
    LongTransaction,
    /// Somebody who has made, dropped or changed a table since it was copied: it would be left behind.
    SchemaChanged,
    /// A stream that is gone: what it would have carried is lost unless it is copied and verified again.
    StreamLost(Stream),
    /// A person: traffic was moved by force, and what stayed behind is for them to judge.
    Forced,
    /// A request for this term, which isn't the next.
    NotNext(u32),
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This step.
    Do(Step),
    /// Nothing until something changes.
    Wait(Wait),
    /// Nothing: what is wanted is so.
    Settled,
}

/// The next step from what is true towards what is wanted.
pub fn next(goal: Goal, plan: Plan, world: &World) -> Next {
    if let Goal::Force(term) = goal
        && let Some(step) = force(term, world)
    {
        return step;
    }
    let sides = match known_sides(world) {
        Ok(sides) => sides,
        Err(wait) => return Next::Wait(wait),
    };
    let term = sides.blue.gate.term.max(sides.green.gate.term);
    let serving = Side::serving(term);
    let moving = match goal {
        Goal::Move(wanted) | Goal::Try(wanted) if wanted > term => Some(wanted),
        Goal::Stay | Goal::Move(_) | Goal::Try(_) | Goal::Force(_) => None,
    };
    if world.fenced && moving.is_none() {
        return Next::Do(Step::Lift);
    }
    if let Some(step) = turn_back(term, goal, &sides).or_else(|| settle_gates(term, &sides, world)) {
        return step;
    }
    if moving.is_none() && matches!(world.clients, Clients::Paused | Clients::Unknown) {
        return Next::Do(Step::Resume);
    }
    if sides.of(serving).gate.forced {
        let resume = moving.is_none() && world.clients == Clients::Unreachable;
        return if resume { Next::Do(Step::Resume) } else { Next::Wait(Wait::Forced) };
    }
    // Under the fence no stream changes but by our own steps, and clients wait.
    if !world.fenced
        && let Some(step) = settle_streams(serving, plan, &sides, world)
    {
        return step;
    }
    match moving {
        // A replica that doesn't answer holds nothing else up.
        None if world.clients == Clients::Unreachable => Next::Do(Step::Resume),
        None => Next::Settled,
        Some(wanted) if wanted != term + 1 => Next::Wait(Wait::NotNext(wanted)),
        Some(wanted) => advance(wanted, goal, plan, sides.of(serving), world),
    }
}

/// Both sides. One that traffic has left, as this process knows, needn't answer: its commit was the end of its say.
fn known_sides(world: &World) -> Result<Pair<Seen>, Wait> {
    let left = |seen: Seen| Seen {
        gate: Gate { open: false, lets_in: false, term: world.known, intent: world.known, forced: seen.gate.forced },
        guarded: true,
    };
    let serves = |side: Side, seen: Seen| Side::serving(world.known) == side && seen.gate.term <= world.known;
    match (world.sides.blue, world.sides.green) {
        (Some(blue), Some(green)) => Ok(Pair { blue, green }),
        (Some(blue), None) if world.known > 0 && serves(Side::Blue, blue) => Ok(Pair { blue, green: left(blue) }),
        (None, Some(green)) if world.known > 0 && serves(Side::Green, green) => Ok(Pair { blue: left(green), green }),
        (None, _) => Err(Wait::Store(Side::Blue)),
        (_, None) => Err(Wait::Store(Side::Green)),
    }
}

/// A move that was committed and never opened has let nobody write on the other side: it is taken back by opening the side
/// that it left. The Service may lead to either by now; whoever ordered it lets it follow, and until then the gate refuses
/// writes on the side that is left. A gate whose writers are let in before its row says so counts
/// as opened.
fn turn_back(term: u32, goal: Goal, sides: &Pair<Seen>) -> Option<Next> {
    let serving = Side::serving(term);
    let (new, old) = (sides.of(serving).gate, sides.of(serving.other()).gate);
    let was_opened = new.lets_in || new.open && new.term == term;
    (term > 0 && goal == Goal::Move(term + 1) && !was_opened && !old.open).then_some(Next::Do(Step::Open(term + 1)))
}

/// After a commit: the side that serves is open once the Service leads there, the other is shut.
fn settle_gates(term: u32, sides: &Pair<Seen>, world: &World) -> Option<Next> {
    let serving = Side::serving(term);
    let (new, old) = (sides.of(serving).gate, sides.of(serving.other()).gate);
    if old.open {
        // Only a forced move leaves the other side open.
        return Some(Next::Do(Step::ShutLate(term)));
    }
    if old.lets_in {
        return Some(Next::Do(Step::Mend(serving.other())));
    }
    if !(new.open && new.term == term) {
        // Once it was open in this term, the Service has led there.
        let flipped = world.leads_to == Some(serving);
        return Some(if flipped { Next::Do(Step::Open(term)) } else { Next::Wait(Wait::Flip(serving)) });
    }
    // The fence's own session may have set the sequence already; it isn't ours to mend then.
    (!new.lets_in && !world.fenced).then_some(Next::Do(Step::Mend(serving)))
}

/// One stream leads from the side that serves to the other; the one the other way is ready and applies nothing. Never
/// both at once: one row would go round for ever.
fn settle_streams(serving: Side, plan: Plan, sides: &Pair<Seen>, world: &World) -> Option<Next> {
    let (out, back) = (serving.feeds(), serving.other().feeds());
    let (Some(out_state), Some(back_state)) = (world.stream(out), world.stream(back)) else {
        return Some(Next::Wait(Wait::Store(serving.other())));
    };
    if matches!(back_state, StreamState::Enabled | StreamState::Broken) {
        return Some(Next::Do(Step::Drop(back)));
    }
    let wanted = plan.way_back || out == Stream::Forward && sides.of(serving).gate.term == 0;
    if wanted {
        match out_state {
            StreamState::Absent | StreamState::Broken => return Some(Next::Wait(Wait::StreamLost(out))),
            StreamState::Ready => return Some(Next::Do(Step::Enable(out))),
            StreamState::Enabled => {}
        }
    }
    if let Some(side) = Side::ALL.into_iter().find(|side| !sides.of(*side).guarded) {
        return Some(Next::Do(Step::Guard(side)));
    }
    match back_state {
        StreamState::Absent if plan.way_back => Some(Next::Do(Step::Prepare(back))),
        StreamState::Absent | StreamState::Ready | StreamState::Enabled | StreamState::Broken => None,
    }
}

/// Up to the commit point.
fn advance(term: u32, goal: Goal, plan: Plan, old: &Seen, world: &World) -> Next {
    let serving = Side::serving(term - 1);
    let (out, back) = (serving.feeds(), serving.other().feeds());
    if !world.fenced {
        if world.changed {
            return Next::Wait(Wait::SchemaChanged);
        }
        if world.stream(out) != Some(StreamState::Enabled) || !world.close {
            return Next::Wait(Wait::Lag(out));
        }
        if world.busy && world.clients != Clients::Paused {
            return Next::Wait(Wait::LongTransaction);
        }
        if old.gate.intent != term {
            return Next::Do(Step::Intend(term));
        }
        return match world.clients {
            Clients::Flowing | Clients::Unknown | Clients::Unreachable => Next::Do(Step::Pause),
            Clients::NoProxy | Clients::Paused => Next::Do(Step::Fence(term)),
        };
    }
    if !world.caught_up {
        return Next::Do(Step::CatchUp);
    }
    if !world.sequences {
        return Next::Do(Step::Sequences);
    }
    if plan.way_back && !world.advanced {
        return Next::Do(Step::Advance(back));
    }
    match goal {
        Goal::Move(_) => Next::Do(Step::Commit(term)),
        Goal::Try(_) | Goal::Stay | Goal::Force(_) => Next::Do(Step::Lift),
    }
}

/// Without a fence, as far as the side that traffic goes to allows it by itself; nothing once it is done.
fn force(term: u32, world: &World) -> Option<Next> {
    let to = Side::serving(term);
    let Some(seen) = world.sides.of(to) else { return Some(Next::Wait(Wait::Store(to))) };
    let gate = seen.gate;
    if world.fenced {
        return Some(Next::Do(Step::Lift));
    }
    if gate.term >= term && gate.open {
        if gate.term == term && !gate.lets_in {
            return Some(Next::Do(Step::Mend(to)));
        }
        return match world.clients {
            Clients::Paused | Clients::Unknown => Some(Next::Do(Step::Resume)),
            Clients::NoProxy | Clients::Flowing | Clients::Unreachable => None,
        };
    }
    // What the other side knows of a later term counts more than a wish.
    let known = world.sides.of(to.other()).map_or(gate.term, |other| gate.term.max(other.gate.term));
    if known + 1 == term || known == term {
        Some(Next::Do(Step::Force(term)))
    } else {
        Some(Next::Wait(Wait::NotNext(term)))
    }
}

impl World {
    /// What is true after a step that succeeded, for those that are [`Step::is_urgent`].
    #[must_use]
    pub fn after(mut self, step: Step) -> Self {
        match step {
            Step::Pause => self.clients = Clients::Paused,
            Step::Fence(_) => {
                self.fenced = true;
                (self.caught_up, self.sequences, self.advanced) = (false, false, false);
            }
            Step::CatchUp => self.caught_up = true,
            Step::Sequences => self.sequences = true,
            Step::Advance(_) => self.advanced = true,
            Step::Commit(term) => {
                self.fenced = false;
                self.known = term;
                if let Some(old) = self.sides.of_mut(Side::serving(term).other()) {
                    old.gate = Gate { open: false, lets_in: false, term, forced: false, ..old.gate };
                }
            }
            Step::Open(term) => {
                if let Some(new) = self.sides.of_mut(Side::serving(term)) {
                    new.gate = Gate { open: true, lets_in: true, term, forced: false, ..new.gate };
                }
            }
            Step::Resume => {
                if self.clients != Clients::NoProxy {
                    self.clients = Clients::Flowing;
                }
            }
            Step::Guard(_)
            | Step::Mend(_)
            | Step::Lift
            | Step::Prepare(_)
            | Step::Drop(_)
            | Step::Enable(_)
            | Step::Intend(_)
            | Step::Force(_)
            | Step::ShutLate(_) => {}
        }
        self
    }
}
