//! How a request is sent, on each kind of connection, and what counts as its failure. Touches the
//! network.
//!
//! A kept connection is given up here before it has been idle for as long as a server that drains
//! keeps it, and right after an answer with `Connection: close`. So a server that behaves never
//! closes one under a request, and a reset is the server's fault. The one thing that is repeated
//! is what HTTP allows: a request of which no byte was written, and, once, a read on a connection
//! that had been used before.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::account::{End, Failure, Turn};
use super::ledger::{Entry, Sent};
use super::ports::Ports;
use super::schedule::{Operation, Slot};
use crate::client::{After, Answer, Connection, Endpoint, Outgoing, SendError};

/// How often the target's name is looked up again. A Service keeps its address for life; this is
/// for one that was replaced.
const RESOLVE_EVERY: Duration = Duration::from_secs(2);

/// Where requests go, with its addresses at hand: looking the name up for each new connection
/// would measure the cluster's DNS.
pub struct Target {
    endpoint: Endpoint,
    addresses: watch::Receiver<Vec<SocketAddr>>,
    ports: Ports,
}

impl Target {
    /// Waits until the name has an address, and looks it up again from time to time from then on.
    pub async fn resolved(endpoint: Endpoint) -> Self {
        let (found, addresses) = watch::channel(first_addresses(&endpoint).await);
        let name = endpoint.clone();
        tokio::spawn(async move {
            while !found.is_closed() {
                tokio::time::sleep(RESOLVE_EVERY).await;
                // A name that can't be looked up for a while keeps its last address.
                if let Ok(now) = name.resolve().await {
                    found.send_replace(now);
                }
            }
        });
        Self { endpoint, addresses, ports: Ports::from_anywhere() }
    }

    fn request(&self, slot: &Slot, after: After) -> Outgoing {
        let Slot { operation, item, .. } = slot;
        let (method, path) = match operation {
            Operation::Read => (Method::GET, format!("/items/{item}")),
            Operation::Take => (Method::POST, format!("/items/{item}/take")),
        };
        self.endpoint.request(method, &path, Bytes::new(), after)
    }

    async fn connect(&self, sent: &Sent) -> Result<Connection, Failure> {
        let addresses = self.addresses.borrow().clone();
        let opened = Connection::over(self.ports.connect(&addresses).await).await;
        opened.inspect(|_| sent.turned(Turn::Opened)).map_err(|error| {
            tracing::debug!(error = crate::chain(&error), "no connection");
            Failure::Connect
        })
    }
}

async fn first_addresses(endpoint: &Endpoint) -> Vec<SocketAddr> {
    loop {
        match endpoint.resolve().await {
            Ok(addresses) => return addresses,
            Err(error) => wait_for_name(&error).await,
        }
    }
}

async fn wait_for_name(error: &io::Error) {
    tracing::warn!(%error, "waiting for the target's name to resolve");
    tokio::time::sleep(RESOLVE_EVERY).await;
}

/// A request that is due.
pub struct Due {
    /// What it is.
    pub slot: Slot,
    /// When it was due.
    pub at: Instant,
    /// Its place in the account.
    pub entry: Entry,
}

/// What both kinds of senders share.
pub struct Sending {
    /// Where to.
    pub target: Target,
    /// How long a request may take from being sent, and how late it may be sent at all.
    pub timeout: Duration,
    /// How long a kept connection may be idle and still be used.
    pub idle_limit: Duration,
}

impl Sending {
    /// Says whether a request is so late that its user would have given up before it is sent.
    fn is_too_late(&self, due: &Due) -> bool {
        due.at.elapsed() > self.timeout
    }

    /// Sends a request on a connection of its own.
    pub async fn send_on_new(&self, due: Due) {
        let Due { slot, at, entry } = due;
        let sent = entry.sent();
        let mut connected = false;
        let exchange = async {
            let mut connection = self.target.connect(&sent).await?;
            connected = true;
            let request = self.target.request(&slot, After::Close);
            connection.send(request).await.map_err(|error| {
                tracing::debug!(error = crate::chain(&error), "no answer");
                Failure::Reset
            })
        };
        let answer = timeout(self.timeout, exchange).await;
        let answer = answer.unwrap_or(Err(timed_out(connected)));
        sent.ended(end(answer.as_ref(), None, at));
    }
}

fn timed_out(connected: bool) -> Failure {
    if connected { Failure::Timeout } else { Failure::Connect }
}

fn end(answer: Result<&Answer, &Failure>, version_before: Option<String>, due: Instant) -> End {
    match answer {
        Ok(answer) => End { result: judge(answer.status), version: version(answer), latency: Some(due.elapsed()) },
        Err(failure) => End { result: Err(*failure), version: version_before, latency: None },
    }
}

fn judge(status: StatusCode) -> Result<(), Failure> {
    if status.is_success() {
        Ok(())
    } else if status.is_server_error() {
        Err(Failure::ServerError)
    } else {
        Err(Failure::Unexpected)
    }
}

fn version(answer: &Answer) -> Option<String> {
    let served_by = answer.served_by.as_deref()?;
    served_by.split('/').next().map(ToOwned::to_owned)
}

/// One connection that is kept open and opened again when it has closed.
pub struct Kept {
    sending: Arc<Sending>,
    connection: Option<Idle>,
    /// Which version answered last on the connection that is in use.
    version: Option<String>,
    connecting: bool,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Kept {
    /// Not open yet.
    pub fn new(sending: Arc<Sending>) -> Self {
        Self { sending, connection: None, version: None, connecting: false }
    }

    /// Sends a request, after those before it on this connection.
    pub async fn send(&mut self, due: Due) {
        if self.sending.is_too_late(&due) {
            due.entry.missed();
            return;
        }
        let Due { slot, at, entry } = due;
        let sent = entry.sent();
        let limit = self.sending.timeout;
        let answer = match timeout(limit, self.exchange(&slot, &sent)).await {
            Ok(answer) => answer,
            Err(_) => Err(timed_out(!self.connecting)),
        };
        sent.ended(end(answer.as_ref(), self.version.take(), at));
        if let Ok(answer) = &answer {
            self.version = version(answer);
        }
    }

    /// The connection is out of its place while it is in use, so that one whose exchange failed or
    /// was dropped midway is never used again.
    async fn exchange(&mut self, slot: &Slot, sent: &Sent) -> Result<Answer, Failure> {
        let mut may_repeat = true;
        loop {
            let kept = self.take_usable(sent);
            let was_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.open(sent).await?,
            };
            let request = self.sending.target.request(slot, After::Keep);
            match connection.send(request).await {
                Ok(answer) => {
                    match answer.after {
                        After::Keep => {
                            self.connection = Some(Idle { connection, since: Instant::now() });
                        }
                        After::Close => sent.turned(Turn::ClosedByServer),
                    }
                    return Ok(answer);
                }
                Err(SendError::Unsent) if may_repeat && was_kept => {
                    sent.turned(Turn::ClosedByServer);
                }
                Err(SendError::Cut(error)) if may_repeat && was_kept && slot.operation == Operation::Read => {
                    tracing::debug!(%error, "a read is sent once more");
                    sent.turned(Turn::ReadRetried);
                }
                Err(error) => {
                    tracing::debug!(error = crate::chain(&error), "no answer");
                    return Err(Failure::Reset);
                }
            }
            may_repeat = false;
        }
    }

    fn take_usable(&mut self, sent: &Sent) -> Option<Connection> {
        let Idle { connection, since } = self.connection.take()?;
        if connection.is_closed() {
            sent.turned(Turn::ClosedByServer);
            None
        } else if since.elapsed() > self.sending.idle_limit {
            sent.turned(Turn::GivenUpIdle);
            None
        } else {
            Some(connection)
        }
    }

    async fn open(&mut self, sent: &Sent) -> Result<Connection, Failure> {
        self.version = None;
        self.connecting = true;
        let opened = self.sending.target.connect(sent).await;
        self.connecting = false;
        opened
    }
}
