//! Replication slots: made with the snapshot that belongs to them, advanced, watched and dropped.
//!
//! Only the replication protocol makes a slot *and* exports the snapshot of the very point from which it streams. A slot
//! made by `pg_create_logical_replication_slot` and a snapshot taken beside it differ by whatever commits between the
//! two: rows copied twice or not at all. The client library doesn't speak that protocol, but an ordinary session whose
//! startup message carries `replication=database` takes its commands as simple queries; [`WithParameter`] adds that to
//! the message on its way out, under TLS or without.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_postgres::{
    Client, Config, SimpleQueryMessage,
    config::Host,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};

use super::{
    connect::{ConnectError, Postgres, chain},
    session::{QueryError, Session},
};

/// How long a slot may take to be made: it waits for every transaction that is open at that moment.
const CREATE_TIMEOUT: Duration = Duration::from_mins(10);
/// How often a slot's reader is asked whether it is gone.
const READER_POLL: Duration = Duration::from_millis(20);
/// How often at most.
const READER_POLLS: u32 = 500;
/// What begins a startup message of protocol 3.0, after its length.
const PROTOCOL: [u8; 4] = [0, 3, 0, 0];
/// What begins a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;
const PARAMETER: &[u8] = b"replication\0database\0";

/// Why there is no slot.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// No connection for it.
    #[error("could not connect for replication")]
    Connect(#[from] ConnectError),
    /// The server says no.
    #[error("could not make the replication slot {slot}: {why}")]
    Create {
        /// Its name.
        slot: String,
        /// What the server said.
        why: String,
    },
    /// The slot wasn't made in time.
    #[error(
        "the replication slot {slot} was not made within {} s: it waits for every transaction that was open when it began",
        CREATE_TIMEOUT.as_secs()
    )]
    Late {
        /// Its name.
        slot: String,
    },
}

/// A slot just made, and the snapshot of the point from which it streams. The snapshot can be imported until this is
/// dropped.
pub struct Exported {
    /// Name of the snapshot, for `SET TRANSACTION SNAPSHOT`.
    pub snapshot: String,
    /// Where the slot begins.
    pub consistent_point: String,
    _client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Exported {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What is known of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Somebody reads from it.
    pub active: bool,
    /// WAL that the server keeps for it, in bytes; absent if the slot has lost its WAL.
    pub retained_bytes: Option<i64>,
    /// Committed bytes that its reader has not confirmed.
    pub behind_bytes: Option<i64>,
    /// Whether what it needs is still there: `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: String,
}

/// Makes a slot for `pgoutput` and exports its snapshot. Waits for the transactions that are open.
pub async fn create_exported(postgres: &Postgres, slot: &str) -> Result<Exported, SlotError> {
    let (client, driver) = replication_session(postgres).await?;
    let refused = |why: String| SlotError::Create { slot: slot.to_owned(), why };
    let sql = format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput EXPORT_SNAPSHOT");
    let Ok(answer) = tokio::time::timeout(CREATE_TIMEOUT, client.simple_query(&sql)).await else {
        return Err(SlotError::Late { slot: slot.to_owned() });
    };
    let messages = answer.map_err(|error| refused(chain(&error)))?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or_else(|| refused("it answered nothing".to_owned()))?;
    let column = |name: &str| row.try_get(name).ok().flatten().map(str::to_owned);
    match (column("snapshot_name"), column("consistent_point")) {
        (Some(snapshot), Some(consistent_point)) => {
            Ok(Exported { snapshot, consistent_point, _client: client, driver })
        }
        _ => Err(refused("it exported no snapshot".to_owned())),
    }
}

/// Makes a slot for `pgoutput` without a snapshot; nothing if there is one of this name. Waits for the transactions that
/// are open.
pub async fn create(session: &Session, slot: &str) -> Result<(), QueryError> {
    if state(session, slot).await?.is_none() {
        session.rows(include_str!("sql/slot_create.sql"), &[&slot]).await?;
    }
    Ok(())
}

/// Moves a slot that nobody reads to the end of the WAL that is on disk, and returns where that is: what is durably
/// committed so far will not stream from it.
///
/// Not for good: the server writes the new place down at its next checkpoint, and a crash before that takes the slot back
/// to where it was. What must not stream has to be kept out on the reader's side too, by
/// [`super::replication::begin_after`].
pub async fn advance(session: &Session, slot: &str) -> Result<String, QueryError> {
    session.value(include_str!("sql/slot_advance.sql"), &[&slot]).await
}

/// Looks at a slot; nothing if there is none.
pub async fn state(session: &Session, slot: &str) -> Result<Option<SlotState>, QueryError> {
    let rows = session.rows(include_str!("sql/slot_state.sql"), &[&slot]).await?;
    Ok(rows.first().map(|row| SlotState {
        active: row.get("active"),
        retained_bytes: row.get("retained_bytes"),
        behind_bytes: row.get("behind_bytes"),
        wal_status: row.get("wal_status"),
    }))
}

/// Drops a slot and sees that it is gone; nothing if there is none. Ends whoever reads from it.
pub async fn drop_slot(session: &Session, slot: &str) -> Result<(), QueryError> {
    let mut last = None;
    for _ in 0..READER_POLLS {
        if state(session, slot).await?.is_none() {
            return Ok(());
        }
        session.rows(include_str!("sql/slot_end_reader.sql"), &[&slot]).await?;
        match session.rows(include_str!("sql/slot_drop.sql"), &[&slot]).await {
            Ok(_) => {}
            // 55006: its reader hasn't gone yet, or has come again. 42704: somebody else was faster.
            Err(QueryError::Refused(refusal)) if matches!(refusal.sqlstate.as_str(), "55006" | "42704") => {
                last = Some(refusal);
                tokio::time::sleep(READER_POLL).await;
            }
            Err(error) => return Err(error),
        }
    }
    match last {
        Some(refusal) => Err(QueryError::Refused(refusal)),
        None => Err(QueryError::Unexpected { why: format!("the slot {slot} is still there") }),
    }
}

/// Opens a session that takes replication commands, on the first of the URI's hosts that answers.
async fn replication_session(postgres: &Postgres) -> Result<(Client, JoinHandle<()>), SlotError> {
    let (target, connector) = postgres.target().await?;
    let unreachable = |why: String| ConnectError::Unreachable { place: target.place.clone(), why };
    let mut last = unreachable("no host".to_owned());
    for (name, host, port) in hosts(&target.config) {
        let stream = match TcpStream::connect((host.as_str(), port)).await {
            Ok(stream) => stream,
            Err(error) => {
                last = unreachable(error.to_string());
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let mut connector = connector.clone();
        let tls = MakeTlsConnect::<WithParameter<TcpStream>>::make_tls_connect(&mut connector, &name);
        let tls = tls.map_err(|error| unreachable(error.to_string()))?;
        match target.config.connect_raw(WithParameter::new(stream), OverTls(tls)).await {
            Ok((client, connection)) => {
                let driver = tokio::spawn(async move {
                    // Whoever waits for an answer hears of the end by itself.
                    let _ = connection.await;
                });
                return Ok((client, driver));
            }
            Err(error) => {
                last = match error.as_db_error() {
                    Some(db) => ConnectError::Refused {
                        place: target.place.clone(),
                        why: target.redactor.redact(db.message()),
                        sqlstate: db.code().code().to_owned(),
                    },
                    None => unreachable(target.redactor.redact(&chain(&error))),
                }
            }
        }
    }
    Err(last.into())
}

/// The URI's hosts: the name for TLS, where to connect, and the port.
fn hosts(config: &Config) -> Vec<(String, String, u16)> {
    let port = |at: usize| config.get_ports().get(at).or(config.get_ports().first()).copied().unwrap_or(5432);
    let addresses = config.get_hostaddrs();
    if config.get_hosts().is_empty() {
        let numbered = addresses.iter().enumerate();
        return numbered.map(|(at, address)| (address.to_string(), address.to_string(), port(at))).collect();
    }
    let numbered = config.get_hosts().iter().enumerate();
    let named = numbered.filter_map(|(at, host)| match host {
        Host::Tcp(name) => {
            let place = addresses.get(at).map_or_else(|| name.clone(), ToString::to_string);
            Some((name.clone(), place, port(at)))
        }
        Host::Unix(_) => None,
    });
    named.collect()
}

/// A stream that adds [`PARAMETER`] to the startup message that is written to it. Another layer's handshake passes
/// unchanged: then that layer's stream carries the message.
struct WithParameter<S> {
    inner: S,
    /// The message rewritten, as far as it isn't out yet.
    pending: Vec<u8>,
    watching: bool,
}

impl<S> WithParameter<S> {
    fn new(inner: S) -> Self {
        Self { inner, pending: Vec::new(), watching: true }
    }
}

/// The startup message with the parameter in it; nothing if this is some other message.
fn rewritten(message: &[u8]) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(message.get(..4)?.try_into().ok()?);
    let is_startup = message.get(4..8)? == PROTOCOL && usize::try_from(length).ok()? == message.len();
    // The list of parameters ends with a zero of its own.
    let body = message.get(8..message.len().checked_sub(1)?).filter(|_| is_startup)?;
    let longer = length.checked_add(u32::try_from(PARAMETER.len()).ok()?)?;
    Some([&longer.to_be_bytes(), PROTOCOL.as_slice(), body, PARAMETER, &[0]].concat())
}

impl<S: AsyncWrite + Unpin> WithParameter<S> {
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            match Pin::new(&mut self.inner).poll_write(cx, &self.pending) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => drop(self.pending.drain(..written)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WithParameter<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WithParameter<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.watching {
            if buf.first() == Some(&TLS_HANDSHAKE) {
                self.watching = false;
            } else if let Some(message) = rewritten(buf) {
                self.watching = false;
                self.pending = message;
                return match self.poll_pending(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    // What isn't out yet goes with the flush.
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(buf.len())),
                };
            }
        }
        match self.poll_pending(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.inner).poll_write(cx, buf),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_pending(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.inner).poll_flush(cx),
            other => other,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for WithParameter<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// TLS inside of which the startup message is watched for again.
struct OverTls<T>(T);

impl<S, T> TlsConnect<S> for OverTls<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
{
    type Stream = WithParameter<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, T::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let connecting = self.0.connect(stream);
        Box::pin(async move { connecting.await.map(WithParameter::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_startup_message_gets_the_parameter() {
        let startup = [&[0, 0, 0, 18], PROTOCOL.as_slice(), b"user\0app\0\0"].concat();
        let expected = [&[0, 0, 0, 39], PROTOCOL.as_slice(), b"user\0app\0replication\0database\0\0"].concat();
        assert_eq!(rewritten(&startup), Some(expected));
        let tls_request = [0, 0, 0, 8, 4, 210, 22, 47];
        assert_eq!(rewritten(&tls_request), None);
        assert_eq!(rewritten(&startup[..12]), None);
        assert_eq!(rewritten(&[]), None);
    }
}
