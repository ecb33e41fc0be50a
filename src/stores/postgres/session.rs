//! One connection, whose statements can be cancelled and whose errors say how much is known.
//!
//! The one question after an error is whether the statement took effect. [`QueryError::Refused`]: it did not, the
//! server said so. [`QueryError::Lost`]: nobody knows until a new session has asked the store.

use std::{
    error::Error as _,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_postgres::{
    CancelToken, Client, Connection, Row, SimpleQueryMessage, Socket, Statement, ToStatement,
    error::{DbError, ErrorPosition, Severity},
    types::{FromSql, ToSql},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use super::{connect::chain, redact::Redactor};

/// How long a cancelled statement, or a COMMIT under way, may take to answer once the worker was told to stop. A pod has
/// 30 s between SIGTERM and SIGKILL unless it asks for more.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// A transaction in which nothing happens for this long is ended by the server, so that a frozen worker can't keep its
/// locks.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(30);

/// Until the end of the transaction; what the script has set for its session comes back then.
const AS_OURSELVES: &str = "SET LOCAL session_authorization TO DEFAULT; SET LOCAL role TO DEFAULT";

/// A connection to a store. Dropping it closes the connection, and with it go its locks and its open transaction.
pub struct Session {
    client: Client,
    cancel: CancelToken,
    connector: MakeRustlsConnect,
    driver: JoinHandle<()>,
    redactor: Redactor,
    stop: CancellationToken,
    winding_up: AtomicBool,
}

/// Why a statement has no result. Free of credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The server refused it: it has not taken effect, and the session lives on.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection is gone: whether it took effect isn't known.
    #[error("the connection was lost: {why}")]
    Lost {
        /// What is known of the cause.
        why: String,
    },
    /// The server answered something that the statement has no use for.
    #[error("the server gave an unexpected answer: {why}")]
    Unexpected {
        /// What the library makes of it.
        why: String,
    },
    /// The worker was told to stop and has cancelled it.
    #[error("stopped")]
    Stopped,
}

/// What a server says when it refuses a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLSTATE {sqlstate})")]
pub struct Refusal {
    /// Its code.
    pub sqlstate: String,
    /// Its message with detail and hint.
    pub message: String,
    /// Where in the statement's text, in characters from 1.
    pub position: Option<u32>,
}

impl Refusal {
    /// Whether the same statement may well go through in a while: a lock not granted in time, a deadlock or a conflict.
    pub fn may_pass(&self) -> bool {
        // 55P03 lock_not_available, 40P01 deadlock_detected, 40001 serialization_failure.
        matches!(self.sqlstate.as_str(), "55P03" | "40P01" | "40001")
    }
}

impl Session {
    pub(super) fn new<S>(
        client: Client,
        connection: Connection<Socket, S>,
        connector: MakeRustlsConnect,
        redactor: Redactor,
        stop: CancellationToken,
    ) -> Self
    where
        S: tokio_postgres::tls::TlsStream + Send + Unpin + 'static,
    {
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer hears of the end by itself.
            let _ = connection.await;
        });
        Self {
            cancel: client.cancel_token(),
            client,
            connector,
            driver,
            redactor,
            stop,
            winding_up: AtomicBool::new(false),
        }
    }

    /// Sets what each script begins with: settings as the role has them, bounded waits, and a server that notices when
    /// the worker is gone. `None` is no limit.
    pub async fn reset(&self, lock_timeout: Duration, statement_timeout: Option<Duration>) -> Result<(), QueryError> {
        self.run("RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL").await?;
        let lock = milliseconds(Some(lock_timeout));
        let statement = milliseconds(statement_timeout);
        let idle = milliseconds(Some(IDLE_IN_TRANSACTION));
        self.rows(include_str!("sql/session_settings.sql"), &[&lock, &statement, &idle]).await?;
        // Older than 14, or on a system that can't tell: then keepalives notice it, later.
        match self.rows(include_str!("sql/session_liveness.sql"), &[]).await {
            Ok(_) | Err(QueryError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Bounds each statement from here on. What a transaction has set is gone again where it is rolled back.
    pub async fn limit_statements(&self, to: Duration) -> Result<(), QueryError> {
        self.run(&format!("SET statement_timeout = {}", milliseconds(Some(to)))).await
    }

    /// Sets the lock timeout (milliseconds, or with a unit) from here on and returns the one before.
    pub async fn set_lock_timeout(&self, timeout: &str) -> Result<String, QueryError> {
        let before = self.value(include_str!("sql/lock_timeout.sql"), &[]).await?;
        self.rows(include_str!("sql/set_lock_timeout.sql"), &[&timeout]).await?;
        Ok(before)
    }

    /// The server's process behind this session at this moment. Without a prepared statement, which a pooler could send
    /// somewhere else than its execution.
    pub async fn backend(&self) -> Result<String, QueryError> {
        self.text(include_str!("sql/backend_pid.sql")).await
    }

    /// Runs text of several statements in one round trip, without a prepared statement, and returns the first value that
    /// any of them answers with.
    pub async fn text(&self, sql: &str) -> Result<String, QueryError> {
        let answer = self.cancellable(self.client.simple_query(sql)).await?;
        let value = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        value.ok_or_else(|| QueryError::Unexpected { why: "no value where there must be one".to_owned() })
    }

    /// Begins a transaction and returns its id.
    pub async fn begin(&self) -> Result<String, QueryError> {
        self.run("BEGIN").await?;
        self.transaction().await
    }

    /// The id of the transaction that is open; outside of one, an id of its own.
    pub async fn transaction(&self) -> Result<String, QueryError> {
        self.value(include_str!("sql/transaction_id.sql"), &[]).await
    }

    /// Leaves whatever role a script has taken on, until the transaction ends: our own tables belong to the connection's.
    pub async fn as_ourselves(&self) -> Result<(), QueryError> {
        self.run(AS_OURSELVES).await
    }

    /// Runs text as it is, throwing its rows away.
    pub async fn run(&self, sql: &str) -> Result<(), QueryError> {
        self.cancellable(self.client.batch_execute(sql)).await
    }

    /// Prepares one statement of ours, for running it many times without its text going over the wire again.
    pub async fn prepare(&self, sql: &str) -> Result<Statement, QueryError> {
        self.cancellable(self.client.prepare(sql)).await
    }

    /// Runs one statement of ours, as text or prepared, with bound values.
    pub async fn rows<S>(&self, sql: &S, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, QueryError>
    where
        S: ?Sized + ToStatement + Sync,
    {
        self.cancellable(self.client.query(sql, values)).await
    }

    /// The first column of the only row.
    pub async fn value<T>(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<T, QueryError>
    where
        T: for<'a> FromSql<'a>,
    {
        let row = self.cancellable(self.client.query_one(sql, values)).await?;
        row.try_get(0).map_err(|error| self.classify(&error))
    }

    /// Commits. A stop doesn't cut this short at once: a COMMIT without an answer is the one thing to avoid. The only
    /// certain "no" is [`QueryError::Refused`].
    pub async fn commit(&self) -> Result<(), QueryError> {
        match self.graceful("COMMIT").await {
            Err(QueryError::Stopped) => Err(QueryError::Lost { why: "stopped before COMMIT was answered".to_owned() }),
            Err(QueryError::Unexpected { why }) => Err(QueryError::Lost { why }),
            other => other,
        }
    }

    /// Rolls back, also while stopping. Without an answer the session is of no use any more, and its end rolls back.
    pub async fn roll_back(&self) -> Result<(), QueryError> {
        self.graceful("ROLLBACK").await
    }

    /// Runs text that shouldn't be cut short, also while stopping; then for [`STOP_GRACE`] at most.
    pub async fn graceful(&self, sql: &str) -> Result<(), QueryError> {
        let running = self.client.batch_execute(sql);
        tokio::pin!(running);
        let answer = tokio::select! {
            biased;
            answer = &mut running => answer,
            () = self.stop.cancelled() => match tokio::time::timeout(STOP_GRACE, running).await {
                Ok(answer) => answer,
                Err(_) => return Err(QueryError::Stopped),
            },
        };
        answer.map_err(|error| self.classify(&error))
    }

    /// From here on statements run although the worker was told to stop, each for [`STOP_GRACE`] at most: for tidying up.
    pub fn wind_up(&self) {
        self.winding_up.store(true, Ordering::Relaxed);
    }

    /// The library's session, for what this one has no word for. Its statements aren't cancelled by a stop.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What an error of the library's session means.
    pub(super) fn explain(&self, error: &tokio_postgres::Error) -> QueryError {
        self.classify(error)
    }

    /// Text without this connection's credentials.
    pub fn redact(&self, text: &str) -> String {
        self.redactor.redact(text)
    }

    /// Waits for an answer; once told to stop, asks the server to cancel and waits a little longer.
    async fn cancellable<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, QueryError> {
        tokio::pin!(answer);
        if self.winding_up.load(Ordering::Relaxed) {
            return match tokio::time::timeout(STOP_GRACE, answer).await {
                Ok(answer) => answer.map_err(|error| self.classify(&error)),
                Err(_) => Err(QueryError::Stopped),
            };
        }
        if self.stop.is_cancelled() {
            return Err(QueryError::Stopped);
        }
        tokio::select! {
            answer = &mut answer => return answer.map_err(|error| self.classify(&error)),
            () = self.stop.cancelled() => {}
        }
        let cancelled = async {
            let _ = self.cancel.cancel_query(self.connector.clone()).await;
            answer.await
        };
        match tokio::time::timeout(STOP_GRACE, cancelled).await {
            // It was done before the cancellation came.
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => match self.classify(&error) {
                QueryError::Refused(refusal) if refusal.sqlstate == "57014" => Err(QueryError::Stopped),
                other => Err(other),
            },
            Err(_) => Err(QueryError::Stopped),
        }
    }

    fn classify(&self, error: &tokio_postgres::Error) -> QueryError {
        match error.as_db_error() {
            Some(db) if !ends_session(db) => QueryError::Refused(Refusal {
                sqlstate: db.code().code().to_owned(),
                message: self.redactor.redact(&sentence(db)),
                position: match db.position() {
                    Some(ErrorPosition::Original(position)) => Some(*position),
                    Some(ErrorPosition::Internal { .. }) | None => None,
                },
            }),
            Some(db) => QueryError::Lost { why: self.redactor.redact(&sentence(db)) },
            None => {
                let why = self.redactor.redact(&chain(error));
                let cause = error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
                if error.is_closed() || cause { QueryError::Lost { why } } else { QueryError::Unexpected { why } }
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The socket closes with the driver, whatever the client still waits for.
        self.driver.abort();
    }
}

/// FATAL and PANIC end the session. Such an end can hit a COMMIT that is done but for its answer.
fn ends_session(db: &DbError) -> bool {
    matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) || db.code().code().starts_with("08")
}

fn sentence(db: &DbError) -> String {
    let mut text = db.message().to_owned();
    for more in [db.detail(), db.hint()].into_iter().flatten() {
        text = format!("{text}. {}", more.trim_end_matches('.'));
    }
    text
}

fn milliseconds(limit: Option<Duration>) -> String {
    // 0 means no limit to the server, so the shortest limit is one millisecond.
    limit.map_or_else(|| "0".to_owned(), |limit| limit.as_millis().max(1).to_string())
}
