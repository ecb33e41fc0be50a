//! The way into a PostgreSQL store: a file with a URI, read anew for each connection so that a rotated Secret counts.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use super::{
    session::Session,
    tls::{self, TlsError},
    uri::{self, Target, UriError},
};

/// How long one address may take to answer, where the URI doesn't say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connecting may take in all: several addresses, TLS and authentication.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// A silent connection is asked for a sign of life after this long, then every [`KEEPALIVE_INTERVAL`]: after about a
/// minute a partition counts as a lost connection, also in the midst of an index build of hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// The server cuts longer names off.
const MAX_APPLICATION_NAME: usize = 63;

/// A PostgreSQL database behind a URI in a file.
#[derive(Clone, Debug)]
pub struct Postgres {
    uri_file: PathBuf,
    application_name: String,
    elsewhere: Option<(String, u16)>,
}

/// Why there is no connection. Free of credentials.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URI's file can't be read.
    #[error("could not read the connection URI from {path}")]
    ReadUri {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The URI is no good.
    #[error("the connection URI in the Secret can't be used")]
    Uri(#[from] UriError),
    /// TLS can't be set up.
    #[error("TLS can't be used")]
    Tls(#[from] TlsError),
    /// Nobody answers, or not now.
    #[error("could not connect to {place}: {why}")]
    Unreachable {
        /// Host, port and database.
        place: String,
        /// What the system or the server said.
        why: String,
    },
    /// The server answers and says no.
    #[error("{place} refused the connection: {why} (SQLSTATE {sqlstate})")]
    Refused {
        /// Host, port and database.
        place: String,
        /// What the server said.
        why: String,
        /// Its code.
        sqlstate: String,
    },
    /// The worker was told to stop.
    #[error("stopped while connecting")]
    Stopped,
}

impl ConnectError {
    /// Whether waiting may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::ReadUri { .. } | Self::Uri(_) | Self::Tls(_) | Self::Refused { .. } | Self::Stopped => false,
        }
    }
}

impl Postgres {
    /// A store whose URI is in `uri_file`. `application_name` is what the server's activity view shows.
    pub fn new(uri_file: impl AsRef<Path>, application_name: &str) -> Self {
        let mut end = application_name.len().min(MAX_APPLICATION_NAME);
        while !application_name.is_char_boundary(end) {
            end -= 1;
        }
        let application_name = application_name[..end].to_owned();
        Self { uri_file: uri_file.as_ref().to_owned(), application_name, elsewhere: None }
    }

    /// The same database and credentials at another host and port: whatever stands there answers.
    #[must_use]
    pub fn at(&self, host: &str, port: u16) -> Self {
        Self { elsewhere: Some((host.to_owned(), port)), ..self.clone() }
    }

    /// What the URI says now, and the way to protect a connection as it asks.
    pub(super) async fn target(&self) -> Result<(Target, MakeRustlsConnect), ConnectError> {
        let text = tokio::fs::read_to_string(&self.uri_file)
            .await
            .map_err(|source| ConnectError::ReadUri { path: self.uri_file.clone(), source })?;
        let beside = self.uri_file.parent().unwrap_or(Path::new("/"));
        let mut target = uri::read(&text, beside, &self.application_name)?;
        if let Some((host, port)) = &self.elsewhere {
            target.move_to(host, *port);
        }
        if target.config.get_connect_timeout().is_none() {
            target.config.connect_timeout(CONNECT_TIMEOUT);
        }
        target.config.keepalives(true).keepalives_idle(KEEPALIVE_IDLE);
        target.config.keepalives_interval(KEEPALIVE_INTERVAL).keepalives_retries(KEEPALIVE_RETRIES);
        let connector = tls::connector(&target.tls)?;
        Ok((target, connector))
    }

    /// Connects. Statements of the session are cancelled on the server once `stop` is.
    pub async fn connect(&self, stop: &CancellationToken) -> Result<Session, ConnectError> {
        let (target, connector) = self.target().await?;
        let connecting = tokio::time::timeout(HANDSHAKE_TIMEOUT, target.config.connect(connector.clone()));
        let answer = tokio::select! {
            answer = connecting => answer,
            () = stop.cancelled() => return Err(ConnectError::Stopped),
        };
        let unreachable = |why: String| ConnectError::Unreachable { place: target.place.clone(), why };
        match answer {
            Ok(Ok((client, connection))) => {
                Ok(Session::new(client, connection, connector, target.redactor, stop.clone()))
            }
            Ok(Err(error)) => Err(match error.as_db_error() {
                // 53: too many connections; 57: starting up, shutting down, in recovery.
                Some(db) if !matches!(&db.code().code()[..2], "53" | "57") => ConnectError::Refused {
                    place: target.place.clone(),
                    why: target.redactor.redact(db.message()),
                    sqlstate: db.code().code().to_owned(),
                },
                Some(db) => unreachable(target.redactor.redact(db.message())),
                None => unreachable(target.redactor.redact(&chain(&error))),
            }),
            Err(_) => Err(unreachable(format!("no answer within {} s", HANDSHAKE_TIMEOUT.as_secs()))),
        }
    }
}

/// An error with all its causes in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
