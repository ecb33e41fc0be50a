//! Steps and waits in the words that the report and the log use.

use std::fmt;

use super::course::{Side, Step, Wait, source};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guard(side) => write!(f, "put the gate on {}", side.as_str()),
            Self::Mend(side) => write!(f, "put {}'s gate right", side.as_str()),
            Self::Lift => f.write_str("lift the fence"),
            Self::Resume => f.write_str("let clients go on"),
            Self::Prepare(stream) => write!(f, "prepare the stream from {}", source(*stream).as_str()),
            Self::Drop(stream) => write!(f, "drop the stream from {}", source(*stream).as_str()),
            Self::Enable(stream) => write!(f, "enable the stream from {}", source(*stream).as_str()),
            Self::Intend(term) => write!(f, "begin the move of term {term}"),
            Self::Pause => f.write_str("make clients wait"),
            Self::Fence(_) => f.write_str("hold writes"),
            Self::CatchUp => f.write_str("let the other side catch up"),
            Self::Sequences => f.write_str("raise the sequences"),
            Self::Advance(stream) => write!(f, "move the stream from {} on", source(*stream).as_str()),
            Self::Commit(term) => write!(f, "commit the move of term {term}"),
            Self::Open(term) => write!(f, "open {}'s gate", Side::serving(*term).as_str()),
            Self::Force(term) => write!(f, "move to {} by force", Side::serving(*term).as_str()),
            Self::ShutLate(term) => write!(f, "shut {}'s gate", Side::serving(*term).other().as_str()),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(side) => write!(f, "{} to answer", side.as_str()),
            Self::Flip(side) => write!(f, "the Service to lead to {}", side.as_str()),
            Self::Lag(stream) => write!(f, "the stream from {} to catch up", source(*stream).as_str()),
            Self::SchemaChanged => f.write_str(
                "a person: tables were made, dropped or changed since the copy; change them back, or leave and copy again",
            ),
            Self::LongTransaction => f.write_str("a transaction that writes and is open for long"),
            Self::StreamLost(stream) => write!(
                f,
                "a person: the stream from {} is gone; copy or verify the other side again",
                source(*stream).as_str()
            ),
            Self::Forced => {
                f.write_str("a person: traffic was moved by force, and what stayed behind is theirs to judge")
            }
            Self::NotNext(term) => write!(f, "another request: term {term} isn't the next"),
        }
    }
}
