//! What can be true of a move: the two sides, their gates and streams, the clients and the Service. Facts alone, no rule.

use crate::stores::postgres::{gate::Gate, replication::Stream};

/// One of the two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// The one that is copied: `from`.
    Blue,
    /// The copy: `to`.
    Green,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Blue, Self::Green];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// The side that serves in a term.
    pub fn serving(term: u32) -> Self {
        if term.is_multiple_of(2) { Self::Blue } else { Self::Green }
    }

    /// The stream that leads away from this side.
    pub fn feeds(self) -> Stream {
        match self {
            Self::Blue => Stream::Forward,
            Self::Green => Stream::Reverse,
        }
    }

    /// As people call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

/// The side that a stream leads away from.
pub fn source(stream: Stream) -> Side {
    match stream {
        Stream::Forward => Side::Blue,
        Stream::Reverse => Side::Green,
    }
}

/// Something of either side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair<T> {
    /// Blue's.
    pub blue: T,
    /// Green's.
    pub green: T,
}

impl<T> Pair<T> {
    /// One side's.
    pub fn of(&self, side: Side) -> &T {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }

    /// One side's, to change it.
    pub fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Blue => &mut self.blue,
            Side::Green => &mut self.green,
        }
    }
}

/// What is there of a stream: a slot on its source, a subscription on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum StreamState {
    /// Neither.
    Absent,
    /// One without the other, or a slot whose WAL is gone: of no use.
    Broken,
    /// Both, and nothing is applied.
    Ready,
    /// Both, and changes are applied.
    Enabled,
}

/// Where clients stand that come through PgBouncer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Clients {
    /// There is no PgBouncer to pause.
    NoProxy,
    /// No replica is paused.
    Flowing,
    /// At least one replica is paused.
    Paused,
    /// Nobody has asked since something may have paused them.
    Unknown,
    /// Every replica that answers was told to let clients go on; at least one doesn't answer.
    Unreachable,
}

/// What was seen of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its gate.
    pub gate: Gate,
    /// Each of its tables has the gate's trigger.
    pub guarded: bool,
}

/// What is true, as far as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct World {
    /// Each side, if it answers.
    pub sides: Pair<Option<Seen>>,
    /// The highest term that this process knows to be committed, whoever answers now.
    pub known: u32,
    /// The streams, each if both of its sides answer.
    pub forward: Option<StreamState>,
    /// Likewise.
    pub reverse: Option<StreamState>,
    /// The stream to the side that doesn't serve is close enough behind for a fence to be short.
    pub close: bool,
    /// A transaction that writes is open for so long that a fence would wait for it.
    pub busy: bool,
    /// The tables that the migration names aren't those that were copied any more.
    pub changed: bool,
    /// Where clients stand.
    pub clients: Clients,
    /// Where the Service leads, if something answered there.
    pub leads_to: Option<Side>,
    /// This process holds the fence on the side that serves.
    pub fenced: bool,
    /// Since then everything committed there shows on the other side, durably.
    pub caught_up: bool,
    /// Since then the other side's sequences were raised.
    pub sequences: bool,
    /// Since then the stream back was moved past everything that came by replication.
    pub advanced: bool,
}

impl World {
    /// What is there of a stream, if it was seen.
    pub fn stream(&self, stream: Stream) -> Option<StreamState> {
        match stream {
            Stream::Forward => self.forward,
            Stream::Reverse => self.reverse,
        }
    }

    /// The term that is committed, if both sides were seen.
    pub fn term(&self) -> Option<u32> {
        Some(self.sides.blue?.gate.term.max(self.sides.green?.gate.term))
    }
}
