//! Who works the two stores: holds the sessions and the fence, looks, and does one step at a time. What to do is
//! [`super::course`]'s to say.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::course::{Clients, Pair, Side, Step};
use crate::{
    api::Span,
    stores::postgres::{
        Postgres, QueryError, Session,
        gate::{Fence, FenceError},
        pgbouncer::{BouncerError, PgBouncers},
        replication::{self, Identity, Names, SubscribeError, Table},
    },
    worker::replicate::{
        ReplicateTask,
        door::{Door, DoorError},
    },
};

/// How long making a slot may wait for the transactions that are open; then it is tried again.
pub(super) const PREPARE_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a step that nobody waits for may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that hasn't answered for so long is taken for gone.
pub(super) const SILENCE: Duration = Duration::from_secs(3);
/// At the end of its deadline, a step may take this long to fail by itself: the server's own timeouts come first.
const GRACE: Duration = Duration::from_millis(250);
/// A server that was silent isn't asked again for this long: each try costs those who wait.
pub(super) const QUIET: Duration = Duration::from_secs(2);

/// Why a step wasn't done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A store isn't reached, or isn't ours any more.
    #[error("could not reach {}", .side.as_str())]
    Door {
        /// Which.
        side: Side,
        /// Why.
        #[source]
        source: DoorError,
    },
    /// A store said no, or the connection was lost.
    #[error("{} did not do it", .side.as_str())]
    Query {
        /// Which.
        side: Side,
        /// Why.
        #[source]
        source: QueryError,
    },
    /// No fence.
    #[error("could not hold the writes on {}", .side.as_str())]
    Fence {
        /// On which side.
        side: Side,
        /// Why.
        #[source]
        source: FenceError,
    },
    /// No subscription.
    #[error("could not subscribe {}", .side.as_str())]
    Subscribe {
        /// Which side.
        side: Side,
        /// Why.
        #[source]
        source: SubscribeError,
    },
    /// PgBouncer said no.
    #[error("could not make clients wait, or go on")]
    Bouncer(#[from] BouncerError),
    /// The time that clients may be made to wait is over.
    #[error("writes were held for {} and the other side had not caught up", Span(*.0))]
    Deadline(Duration),
    /// What was copied isn't all there is.
    #[error("the tables are not those that were copied: {0}")]
    Changed(String),
    /// A server doesn't answer.
    #[error("no answer within {}", Span(*.0))]
    Silent(Duration),
    /// The fence isn't held any more.
    #[error("the fence is gone")]
    Unfenced,
}

/// Works both stores.
pub struct Conductor {
    pub(super) names: Names,
    pub(super) patterns: Vec<String>,
    pub(super) doors: Pair<Door>,
    sessions: Pair<Option<Session>>,
    pub(super) tables: Pair<Vec<Table>>,
    pub(super) identities: Pair<Option<Identity>>,
    pub(super) bouncers: Option<PgBouncers>,
    probe: Option<Pair<Postgres>>,
    /// How long writes may be held.
    pub(super) deadline: Duration,
    pub(super) spare: Option<Session>,
    pub(super) fence: Option<Fence>,
    /// Since when clients wait.
    pub(super) held_since: Option<Instant>,
    pub(super) marks: Marks,
    pub(super) known: u32,
    pub(super) clients: Clients,
    /// When the lag was measured last, and what it was.
    pub(super) last_lag: Option<(Instant, Duration)>,
    /// When the tables were looked at last, and whether they had changed.
    pub(super) last_schema: Option<(Instant, bool)>,
    /// What subscriptions that read from a side were told last, and when that was looked at.
    pub(super) credentials: Pair<Option<[u8; 32]>>,
    pub(super) looked_at_credentials: Option<Instant>,
    /// When a side last was silent.
    pub(super) silent: Pair<Option<Instant>>,
    /// Ends what waits for a stranger's transactions.
    pub(super) stop: CancellationToken,
}

/// What was done under the fence that is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub caught_up: bool,
    pub sequences: bool,
    pub advanced: bool,
}

impl Conductor {
    /// For a task whose stores were taken over through these doors.
    pub fn new(
        task: &ReplicateTask,
        doors: Pair<Door>,
        tables: Pair<Vec<Table>>,
        identities: Pair<Option<Identity>>,
        own_name: &str,
        stop: CancellationToken,
    ) -> Self {
        let switch = task.switch.as_ref();
        let bouncers = switch.and_then(|switch| {
            let (file, bouncer) = (switch.pgbouncer_uri_file.as_ref()?, switch.fence.pgbouncer.as_ref()?);
            let admin = Postgres::new(file, own_name);
            Some(PgBouncers::new(admin, bouncer.service.clone(), bouncer.database.clone()))
        });
        let probe = switch.map(|switch| {
            let at = |door: &Door| door.postgres.at(&switch.service.host, switch.service.port);
            Pair { blue: at(&doors.blue), green: at(&doors.green) }
        });
        let clients = if bouncers.is_some() { Clients::Unknown } else { Clients::NoProxy };
        Self {
            names: task.names(),
            patterns: task.action.tables.clone(),
            doors,
            sessions: Pair::default(),
            tables,
            identities,
            bouncers,
            probe,
            deadline: switch.map(|switch| switch.fence.clone()).unwrap_or_default().deadline().0,
            spare: None,
            fence: None,
            held_since: None,
            marks: Marks::default(),
            known: 0,
            clients,
            last_lag: None,
            last_schema: None,
            credentials: Pair::default(),
            looked_at_credentials: None,
            silent: Pair::default(),
            stop,
        }
    }

    /// What our own objects are called.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// A store, as the other's server is to connect to it.
    pub(super) fn source(&self, side: Side) -> &Postgres {
        &self.doors.of(side).postgres
    }

    /// Which tables the migration names.
    pub(super) fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether this process holds the fence, as far as it knows: its deadline may have ended it.
    pub(super) fn is_fenced(&self) -> bool {
        self.fence.is_some()
    }

    /// Opens a side's session, if there is none.
    pub(super) async fn reach(&mut self, side: Side) -> Result<(), StepError> {
        if self.sessions.of(side).is_none() {
            let session = self.open(side).await?;
            *self.sessions.of_mut(side) = Some(session);
        }
        Ok(())
    }

    pub(super) async fn open(&self, side: Side) -> Result<Session, StepError> {
        // Not the stop's: a step that was begun is done, or given up by its own deadline.
        let opened = self.doors.of(side).open(&CancellationToken::new()).await;
        opened.map_err(|source| StepError::Door { side, source })
    }

    /// A side's session, which [`Self::reach`] has opened.
    pub(super) fn session(&self, side: Side) -> Result<&Session, StepError> {
        let gone = || StepError::Query { side, source: QueryError::Lost { why: "there is no session".to_owned() } };
        self.sessions.of(side).as_ref().ok_or_else(gone)
    }

    /// Forgets a side's session.
    pub(super) fn forget(&mut self, side: Side) {
        *self.sessions.of_mut(side) = None;
    }

    /// Forgets both sides' sessions.
    pub(super) fn forget_both(&mut self) {
        self.sessions = Pair::default();
    }

    /// Forgets the sessions that an error has ended.
    pub(super) fn forget_lost(&mut self, error: &StepError) {
        if let StepError::Query { side, source: QueryError::Lost { .. } | QueryError::Unexpected { .. } } = error {
            *self.sessions.of_mut(*side) = None;
        }
    }

    pub(super) async fn both(&mut self) -> Result<(), StepError> {
        self.reach(Side::Blue).await?;
        self.reach(Side::Green).await
    }

    /// Does one step. Each can be done again. Whatever a server that doesn't answer keeps open is let go.
    pub async fn perform(&mut self, step: Step) -> Result<(), StepError> {
        let limit = self.limit(step);
        let done = tokio::time::timeout(limit, self.try_step(step)).await.unwrap_or_else(|_| {
            // Half of an answer may be on its way: nothing can be asked in these sessions any more.
            self.forget_both();
            Err(StepError::Silent(limit))
        });
        if let Err(error) = &done {
            self.forget_lost(error);
        }
        done
    }

    /// How long a step may take.
    fn limit(&self, step: Step) -> Duration {
        match step {
            // It waits for strangers' transactions, and ends by itself.
            Step::Prepare(_) => PREPARE_TIMEOUT + SILENCE,
            Step::Guard(_) | Step::Drop(_) | Step::Enable(_) | Step::Intend(_) | Step::Mend(_) | Step::ShutLate(_) => {
                STEP_TIMEOUT
            }
            // Clients wait.
            Step::Pause | Step::Fence(_) | Step::CatchUp | Step::Sequences | Step::Advance(_) | Step::Commit(_) => {
                self.left().unwrap_or_default() + GRACE
            }
            Step::Lift | Step::Resume | Step::Open(_) | Step::Force(_) => SILENCE,
        }
    }

    /// Gives an attempt up: writes go on where they went before.
    pub async fn retreat(&mut self) -> Result<(), StepError> {
        self.lift().await?;
        self.spare = None;
        self.held_since = None;
        match self.clients {
            Clients::NoProxy | Clients::Flowing => Ok(()),
            Clients::Paused | Clients::Unknown | Clients::Unreachable => self.resume().await,
        }
    }

    /// Closes every session at once: another process conducts.
    pub fn drop_everything(&mut self) {
        (self.spare, self.fence, self.sessions) = (None, None, Pair::default());
    }

    /// Which side answers where the Service leads, asked as the one that should.
    pub(super) async fn probe(&self, expected: Side) -> Option<Side> {
        let door = self.probe.as_ref()?.of(expected);
        let asking = async {
            let session = door.connect(&CancellationToken::new()).await.ok()?;
            replication::identity(&session).await.ok()
        };
        let identity = tokio::time::timeout(SILENCE, asking).await.ok()??;
        let is = |side: Side| {
            self.identities.of(side).as_ref().is_some_and(|known| {
                known.system_identifier == identity.system_identifier && known.database == identity.database
            })
        };
        Side::ALL.into_iter().find(|side| is(*side))
    }

    /// Whether there is a Service to look at; without one the flip is whoever calls `POST /flipped`.
    pub(super) fn has_service(&self) -> bool {
        self.probe.is_some()
    }
}
