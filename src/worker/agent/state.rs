//! What the agent tells of itself, and what it is told.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::course::{Clients, Goal, Side, StreamState};
use crate::{
    api::{OnFenceTimeout, Span},
    stores::postgres::replication::Identity,
    worker::replicate::copy::CopyProgress,
};

/// What `GET /state` answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Grows with each change; ask with `?after=` to wait for the next.
    pub version: u64,
    /// The migration's UID.
    pub uid: String,
    /// Highest epoch that was heard of.
    pub epoch: u64,
    /// The term that it was told to move to and hasn't reached; absent while it is told to stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<u32>,
    /// What it is at.
    pub stage: Stage,
    /// What went wrong last, free of credentials; absent once something has gone right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How far the first copy is.
    pub copy: CopyReport,
    /// The term that is committed; odd ones serve from the new store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<u32>,
    /// The side whose gate lets writers in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<Side>,
    /// The Service must be made to lead to this side now: the move is committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip_to: Option<Side>,
    /// The last step, or the one under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// All is as it was asked to be: another move could begin at once.
    pub settled: bool,
    /// How far the side that does not serve is behind, at most, in milliseconds; absent where nothing feeds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_millis: Option<i64>,
    /// Either stream.
    pub forward: StreamReport,
    /// Likewise.
    pub reverse: StreamReport,
    /// Either store's server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blue: Option<Identity>,
    /// Likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub green: Option<Identity>,
    /// Clients that come through PgBouncer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<Clients>,
    /// The last attempt at a move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Attempt>,
    /// Attempts at moves that were given up before their commit point, since the agent began.
    pub retreats: u32,
    /// Traffic was moved by force; bytes of WAL that the side it left had not replicated, if it could be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_behind: Option<LeftBehind>,
}

/// What the agent is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Connecting, and taking over from a predecessor.
    #[default]
    Beginning,
    /// The first copy.
    Copying,
    /// In step; moves when it is told.
    Conducting,
    /// Taking everything of ours away.
    Leaving,
}

/// How far the first copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyReport {
    /// It is done, and followed up by the stream.
    pub done: bool,
    /// Parts to copy.
    pub parts: u64,
    /// Parts committed.
    pub parts_done: u64,
    /// Rows committed.
    pub rows: u64,
    /// Bytes on the source's disk.
    pub bytes_to_copy: u64,
    /// Bytes that went over.
    pub bytes_copied: u64,
    /// How often it had to begin anew.
    pub restarts: u64,
}

impl CopyReport {
    /// Reads what the copiers have counted.
    pub fn read(progress: &CopyProgress, done: bool) -> Self {
        Self {
            done,
            parts: progress.parts.load(Ordering::Relaxed),
            parts_done: progress.parts_done.load(Ordering::Relaxed),
            rows: progress.rows.load(Ordering::Relaxed),
            bytes_to_copy: progress.bytes_to_copy.load(Ordering::Relaxed),
            bytes_copied: progress.bytes_copied.load(Ordering::Relaxed),
            restarts: progress.restarts.load(Ordering::Relaxed),
        }
    }
}

/// What is known of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamReport {
    /// Absent where a side didn't answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StreamState>,
    /// WAL that its source keeps for it, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retained_bytes: Option<i64>,
    /// Changes that the target could not apply so far.
    pub errors: i64,
    /// Something applies right now.
    pub applying: bool,
}

/// One attempt at a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The term that it was to lead to.
    pub term: u32,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// How long writes were held, in milliseconds: from PAUSE, or the fence, to RESUME, or the gate's opening.
    pub held_millis: u64,
    /// Why it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How an attempt at a move ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptOutcome {
    /// Traffic is on the other side.
    Moved,
    /// Nothing has moved; it is tried again for as long as it is wanted.
    GivenUp,
    /// It was only to be tried: all went well, and nothing has moved.
    Tried,
}

/// What a forced move has left on the side that traffic was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftBehind {
    /// The term of the move.
    pub term: u32,
    /// WAL that had not been replicated, in bytes; absent where the side could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// The migration's UID.
    pub uid: String,
    /// The operator's number of the request; one with a lower number than was heard is refused.
    pub epoch: u64,
    /// The term to move to: one more than the one that is committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u32>,
    /// Only try: fence, drain, measure, and let go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_try: bool,
    /// Time from the request after which `onFenceTimeout` decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// What happens then. Default: what the task says, else the traffic stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_fence_timeout: Option<OnFenceTimeout>,
}

/// What is wanted of the conductor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orders {
    /// Highest epoch heard of.
    pub epoch: u64,
    /// Where to go.
    pub goal: Goal,
    /// When it was asked for.
    pub since: std::time::Instant,
    /// Time from then after which traffic moves by force; absent: never.
    pub force_after: Option<std::time::Duration>,
    /// Grows with each `POST /flipped`, so that the Service is looked at at once.
    pub flipped: u64,
    /// Take everything away and end.
    pub leave: bool,
}
