//! What the board is told to watch, and what it tells.

use crate::{
    api::{BaselineStatus, Guard, ObserveAction, Time},
    engine::guard::{BaselineView, GuardView, ObservationView},
};

/// Whose guards these are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchKey {
    /// Namespace of the Migration.
    pub namespace: String,
    /// Name of it.
    pub name: String,
    /// Its UID: another Migration under the same name is another watch.
    pub uid: String,
}

/// Everything that is to be watched for one Migration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchSet {
    /// The guards in force, each name once.
    pub guards: Vec<Guard>,
    /// The baselines in status.
    pub baselines: Vec<BaselineStatus>,
    /// When traffic was seen on the new side.
    pub flipped_at: Option<Time>,
    /// Shortly after a flip: ask whenever a new sample is due.
    pub hot: bool,
    /// A flip is near: take the baselines that guards need and status doesn't hold.
    pub want_baselines: bool,
    /// Guards of other phases that will compare with the time before this flip: they are asked for a baseline only.
    pub baseline_guards: Vec<Guard>,
    /// The observation under way.
    pub observation: Option<ObserveAction>,
    /// The migration's metrics provider. Default: `default`.
    pub provider: Option<String>,
    /// The attempt. Another one begins with fresh guards.
    pub attempt: u32,
}

/// What the board knows of one Migration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BoardView {
    /// Each guard, in the order given. Empty for a Migration that isn't watched.
    pub guards: Vec<GuardView>,
    /// Since when every guard that isn't a dry run has passed, without a break and without a gap in polling. `None` if
    /// one doesn't pass now. Without such guards: since the watch began.
    pub guarded_since: Option<Time>,
    /// One for each guard that needs a baseline: those in force, in their order, then those of other phases.
    pub baselines: Vec<BaselineView>,
    /// The observation, if one is asked for.
    pub observation: Option<ObservationView>,
    /// What went wrong with the last poll of a guard or of the observation, in a sentence without credentials.
    pub troubles: Vec<Trouble>,
}

/// What went wrong with the last poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Name of the guard; `None` for the observation.
    pub guard: Option<String>,
    /// What went wrong.
    pub why: String,
}

/// Something that a decision should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardEvent {
    /// Whose guards.
    pub key: WatchKey,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Guards whose breach rolls back are breached: lane 1's call. Never for a dry run, nor for `onBreach: Pause`.
    Breach {
        /// Names of the guards that have newly breached.
        guards: Vec<String>,
    },
    /// A verdict has become another one, or a baseline or the observation has something new to say.
    Changed,
}
