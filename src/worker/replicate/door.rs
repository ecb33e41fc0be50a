//! The way into one of the two stores for the process that conducts, and for no predecessor of it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::stores::postgres::{
    ConnectError, Postgres, QueryError, Session, conductor,
    replication::{self, Identity, Names},
};

/// How long a question of ours may wait for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A store, and who we are to it.
#[derive(Clone, Debug)]
pub struct Door {
    /// The store.
    pub postgres: Postgres,
    /// What our own objects are called.
    pub names: Names,
    /// Our number, once we have taken over.
    pub generation: Option<i64>,
    /// Who the server was when the first conductor came: its system identifier and timeline.
    pub known: Option<(String, i32)>,
}

/// Why a door stays shut.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// No connection.
    #[error("could not connect")]
    Connect(#[from] ConnectError),
    /// A question was refused, or the connection was lost.
    #[error("could not open the session")]
    Query(#[from] QueryError),
    /// Another process conducts.
    #[error("another process has taken over (generation {current}, ours is {ours})")]
    Superseded {
        /// Ours.
        ours: i64,
        /// The store's.
        current: i64,
    },
    /// It is another server than the one that was copied, or has been promoted since.
    #[error(
        "the store is not the server that it was: system identifier {} and timeline {} became {} and {}; what was \
         committed there may be lost, and its slots are gone before PostgreSQL 17", was.0, was.1, is.0, is.1
    )]
    OtherServer {
        /// As it was.
        was: (String, i32),
        /// As it is.
        is: (String, i32),
    },
}

impl DoorError {
    /// Whether waiting may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connect(error) => error.may_pass(),
            Self::Query(error) => matches!(error, QueryError::Lost { .. }),
            Self::Superseded { .. } | Self::OtherServer { .. } => false,
        }
    }
}

impl Door {
    /// To a store that nobody has taken over yet.
    pub fn new(postgres: Postgres, names: Names) -> Self {
        Self { postgres, names, generation: None, known: None }
    }

    /// A session, unless somebody else conducts by now or it leads to another server.
    pub async fn open(&self, stop: &CancellationToken) -> Result<Session, DoorError> {
        let session = self.postgres.connect(stop).await?;
        session.reset(LOCK_TIMEOUT, None).await?;
        self.admit(&session).await?;
        Ok(session)
    }

    async fn admit(&self, session: &Session) -> Result<(), DoorError> {
        if let Some(was) = &self.known {
            let identity = replication::identity(session).await?;
            let is = (identity.system_identifier, identity.timeline);
            if *was != is {
                return Err(DoorError::OtherServer { was: was.clone(), is });
            }
        }
        let Some(ours) = self.generation else { return Ok(()) };
        let current = match conductor::current(session, &self.names).await {
            Ok(current) => current,
            // 3F000, 42P01: whoever has taken everything away has taken over, too.
            Err(QueryError::Refused(refusal)) if matches!(refusal.sqlstate.as_str(), "3F000" | "42P01") => 0,
            Err(error) => return Err(error.into()),
        };
        if current == ours { Ok(()) } else { Err(DoorError::Superseded { ours, current }) }
    }

    /// Takes over: ends every session of a predecessor, and admits none of its any more. `own` is the name that our
    /// sessions show.
    pub async fn take_over(&mut self, session: &Session, own: &str) -> Result<Identity, DoorError> {
        let identity = replication::identity(session).await?;
        let claim = conductor::take_over(session, &self.names, &identity, own).await?;
        let was = (claim.system_identifier, claim.timeline);
        let is = (identity.system_identifier.clone(), identity.timeline);
        if was != is {
            return Err(DoorError::OtherServer { was, is });
        }
        self.generation = Some(claim.generation);
        self.known = Some(is);
        Ok(identity)
    }
}
