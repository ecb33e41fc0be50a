//! The inventory's table in Postgres, and a small pool of connections to it. Touches the network.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

/// Reads one item. `$1` its id. Locks nothing; returns 0 or 1 rows.
const GET_V1: &str = "
SELECT id, name, stock, taken
FROM items
WHERE id = $1";

/// As `GET_V1`, with the column that the expand migration adds.
const GET_V2: &str = "
SELECT id, name, stock, taken, sku
FROM items
WHERE id = $1";

/// Takes one piece of an item. `$1` its id. Locks one row; returns 0 rows where there is no such
/// item or none left, else 1.
const TAKE_V1: &str = "
UPDATE items
SET stock = stock - 1, taken = taken + 1
WHERE id = $1 AND stock > 0
RETURNING id, name, stock, taken";

/// As `TAKE_V1`, and fills the column that the expand migration adds where it is still empty.
const TAKE_V2: &str = "
UPDATE items
SET stock = stock - 1, taken = taken + 1, sku = coalesce(sku, 'SKU-' || id)
WHERE id = $1 AND stock > 0
RETURNING id, name, stock, taken, sku";

/// Counts what has been taken in all. Locks nothing; returns 1 row.
const TOTALS: &str = "
SELECT count(*) AS items, coalesce(sum(taken), 0)::bigint AS taken
FROM items";

/// Which form of the table the service speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Version {
    /// The table as `shop init-db` makes it.
    V1,
    /// The table with the column `sku`.
    V2,
}

impl Version {
    /// The name as labels and headers show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    fn get(self) -> &'static str {
        match self {
            Self::V1 => GET_V1,
            Self::V2 => GET_V2,
        }
    }

    fn take(self) -> &'static str {
        match self {
            Self::V1 => TAKE_V1,
            Self::V2 => TAKE_V2,
        }
    }

    fn item(self, row: &Row) -> Item {
        Item {
            id: row.get("id"),
            name: row.get("name"),
            stock: row.get("stock"),
            taken: row.get("taken"),
            sku: match self {
                Self::V1 => None,
                Self::V2 => row.get("sku"),
            },
        }
    }
}

/// Where the database is.
#[derive(Args, Clone)]
#[group(id = "database", required = true, multiple = false)]
pub struct Source {
    /// The database's URL.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// A file that holds the database's URL, such as a mounted Secret; read again for each
    /// connection, so that a new password is picked up.
    #[arg(long, env = "DATABASE_URL_FILE")]
    database_url_file: Option<PathBuf>,
}

impl Source {
    fn config(&self) -> Result<Config, DatabaseError> {
        let text = match (&self.database_url, &self.database_url_file) {
            (Some(url), _) => url.clone(),
            (None, Some(file)) => {
                std::fs::read_to_string(file).map_err(|source| DatabaseError::ReadUrl { file: file.clone(), source })?
            }
            (None, None) => unreachable!("clap demands one of the two"),
        };
        text.trim().parse().map_err(DatabaseError::Url)
    }

    /// Opens one connection.
    pub async fn connect(&self) -> Result<Client, DatabaseError> {
        let mut config = self.config()?;
        config.application_name("shop");
        let (client, connection) = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls))
            .await
            .map_err(|_| DatabaseError::Timeout)?
            .map_err(DatabaseError::Connect)?;
        // Its error reaches the statement that it belongs to; between statements it only means
        // closed, and the pool asks for that.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }
}

/// How long one connection may take to open. A Service without endpoints may never answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the database gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file with the URL can't be read.
    #[error("could not read the database's URL from {}", file.display())]
    ReadUrl {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The URL doesn't parse. Its text isn't shown: it holds a password.
    #[error("the database's URL is not valid")]
    Url(#[source] tokio_postgres::Error),
    /// No connection.
    #[error("could not connect to the database")]
    Connect(#[source] tokio_postgres::Error),
    /// The table isn't there.
    #[error("there is no table items: `shop init-db` has not run")]
    NoTable,
    /// The table lacks a column.
    #[error("the table items has no column sku: the expand migration has not run")]
    NoColumn,
    /// A statement failed.
    #[error("a statement failed")]
    Statement(#[source] tokio_postgres::Error),
    /// Nothing within the time.
    #[error("the database did not answer in time")]
    Timeout,
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if *code == SqlState::UNDEFINED_TABLE => Self::NoTable,
            Some(code) if *code == SqlState::UNDEFINED_COLUMN => Self::NoColumn,
            Some(_) | None => Self::Statement(error),
        }
    }
}

/// One item. `sku` is there for v2 only.
#[derive(Debug, Serialize)]
pub struct Item {
    id: i64,
    name: String,
    stock: i64,
    taken: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sku: Option<String>,
}

/// What all rows add up to: the database's side of the load's account.
#[derive(Debug, Serialize)]
pub struct Totals {
    items: i64,
    taken: i64,
}

/// What became of a request to take an item.
#[derive(Debug)]
pub enum Taken {
    /// One was taken; this is what remains.
    One(Item),
    /// There is none left.
    NoneLeft,
    /// There is no such item.
    NoSuchItem,
}

/// A connection with its statements prepared.
struct Session {
    client: Client,
    get: Statement,
    take: Statement,
}

/// The pool. Connections are opened when they are needed, so it exists before Postgres does.
pub struct Database {
    source: Source,
    version: Version,
    patience: Duration,
    permits: Semaphore,
    idle: Mutex<Vec<Session>>,
}

impl Database {
    /// Makes a pool of at most `connections`, none of them open yet. A statement has `patience` for
    /// its connection and its answer.
    pub fn new(source: Source, version: Version, connections: usize, patience: Duration) -> Self {
        Self { source, version, patience, permits: Semaphore::new(connections), idle: Mutex::default() }
    }

    /// Reads an item.
    pub async fn get(&self, id: i64) -> Result<Option<Item>, DatabaseError> {
        self.with_session(async |session| {
            let row = session.client.query_opt(&session.get, &[&id]).await?;
            Ok(row.map(|row| self.version.item(&row)))
        })
        .await
    }

    /// Takes one piece of an item.
    pub async fn take(&self, id: i64) -> Result<Taken, DatabaseError> {
        self.with_session(async |session| {
            if let Some(row) = session.client.query_opt(&session.take, &[&id]).await? {
                return Ok(Taken::One(self.version.item(&row)));
            }
            let there = session.client.query_opt(&session.get, &[&id]).await?;
            Ok(match there {
                Some(_) => Taken::NoneLeft,
                None => Taken::NoSuchItem,
            })
        })
        .await
    }

    /// Adds all rows up.
    pub async fn totals(&self) -> Result<Totals, DatabaseError> {
        self.with_session(async |session| {
            let row = session.client.query_one(TOTALS, &[]).await?;
            Ok(Totals { items: row.get("items"), taken: row.get("taken") })
        })
        .await
    }

    /// Runs `work` on a session of the pool, opening one where none is idle.
    ///
    /// The session goes back only after success: one that failed may be broken, or prepared
    /// against a table that has changed, and one whose future was dropped still owes an answer.
    async fn with_session<T>(
        &self,
        work: impl AsyncFnOnce(&Session) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let whole = async {
            let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
            let session = match self.idle_session() {
                Some(session) => session,
                None => self.open().await?,
            };
            let done = work(&session).await?;
            self.lock_idle().push(session);
            Ok(done)
        };
        tokio::time::timeout(self.patience, whole).await.map_err(|_| DatabaseError::Timeout)?
    }

    /// Returns an idle session that is still connected, and forgets those that aren't.
    fn idle_session(&self) -> Option<Session> {
        let mut idle = self.lock_idle();
        idle.retain(|session| !session.client.is_closed());
        idle.pop()
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self) -> Result<Session, DatabaseError> {
        let client = self.source.connect().await?;
        Ok(Session {
            get: client.prepare(self.version.get()).await?,
            take: client.prepare(self.version.take()).await?,
            client,
        })
    }
}
