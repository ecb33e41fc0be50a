//! The connections of the service: each is known by its number, so that those which existed at
//! some moment can be asked to close and later ones left alone. Touches the network.
//!
//! ```text
//! open --(asked to close)--> its next answer says `Connection: close` --> closed
//!                        \-> no request for `drain_idle`              --> closed
//! ```
//!
//! A connection that has only carried probes, metrics or the drain hook itself counts as none:
//! else Prometheus, which opens a new one after each that was closed, would keep a drain from
//! ever reporting 0.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::inventory;

/// How long a connection that nobody asked to close may be idle. Longer than a client keeps one
/// without using it (the load: 1 s; Go: 90 s, but that closes its side on reading the end).
const KEEP_IDLE: Duration = Duration::from_mins(2);

/// How long to wait after `accept` failed, which it does when the process has no file left to
/// open; trying again at once would only burn the CPU that closing connections needs.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(20);

/// All connections, and which of them are asked to close.
pub struct Connections {
    open: Mutex<Open>,
    asked: watch::Sender<Asked>,
    count: watch::Sender<usize>,
    drain_idle: Duration,
}

#[derive(Default)]
struct Open {
    next: u64,
    by_number: BTreeMap<u64, Arc<Mutex<Activity>>>,
}

/// Who is asked to close.
#[derive(Clone, Copy, Default)]
struct Asked {
    /// Connections with traffic and a number below this one.
    traffic_below: u64,
    /// All of them, whatever they carry.
    all: bool,
}

/// What a connection has carried so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    /// No request yet.
    Nothing,
    /// Only probes, metrics and the like.
    Operations,
    /// At least one request of a client.
    Traffic,
}

#[derive(Clone, Copy)]
struct Activity {
    carries: Carries,
    /// When its last request began or ended.
    since: Instant,
}

impl Connections {
    /// No connection yet. One that is asked to close and idle is closed after `drain_idle`.
    pub fn new(drain_idle: Duration) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            asked: watch::Sender::default(),
            count: watch::Sender::default(),
            drain_idle,
        })
    }

    /// Asks the connections that exist at this moment to close, and returns how many of them
    /// carry traffic or may still come to.
    pub fn drain(&self) -> usize {
        let open = self.lock();
        self.asked.send_modify(|asked| asked.traffic_below = open.next);
        open.by_number.values().filter(|activity| lock(activity).carries != Carries::Operations).count()
    }

    /// Asks all connections to close, those included that are still to be opened.
    pub fn ask_all_to_close(&self) {
        self.asked.send_modify(|asked| asked.all = true);
    }

    /// Says whether the whole service is about to end.
    pub fn is_stopping(&self) -> bool {
        self.asked.borrow().all
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        *self.count.borrow()
    }

    /// Returns once no connection is open.
    pub async fn all_closed(&self) {
        self.count.subscribe().wait_for(|open| *open == 0).await.expect("the sender lives in self");
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        lock(&self.open)
    }

    fn opened(self: &Arc<Self>) -> Connection {
        let activity = Arc::new(Mutex::new(Activity { carries: Carries::Nothing, since: Instant::now() }));
        let mut open = self.lock();
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, Arc::clone(&activity));
        self.count.send_replace(open.by_number.len());
        Connection { number, activity, all: Arc::clone(self) }
    }
}

/// One open connection. Dropped, it is counted no more.
struct Connection {
    number: u64,
    activity: Arc<Mutex<Activity>>,
    all: Arc<Connections>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.all.lock();
        open.by_number.remove(&self.number);
        self.all.count.send_replace(open.by_number.len());
    }
}

impl Connection {
    fn activity(&self) -> MutexGuard<'_, Activity> {
        lock(&self.activity)
    }

    fn is_asked_by(&self, asked: Asked) -> bool {
        let drained = self.number < asked.traffic_below && self.activity().carries != Carries::Operations;
        drained || asked.all
    }

    fn is_asked_to_close(&self) -> bool {
        self.is_asked_by(*self.all.asked.borrow())
    }

    fn begin(&self, path: &str) {
        let mut activity = self.activity();
        activity.since = Instant::now();
        activity.carries = match (activity.carries, inventory::is_traffic(path)) {
            (Carries::Traffic, _) | (_, true) => Carries::Traffic,
            (Carries::Nothing | Carries::Operations, false) => Carries::Operations,
        };
    }

    fn end(&self) {
        self.activity().since = Instant::now();
    }

    /// Returns once this connection has been asked to close and has then been left alone for long
    /// enough that no client which reuses connections in time can be about to use it.
    async fn has_idled_out(&self) {
        let mut asked = self.all.asked.subscribe();
        asked.wait_for(|asked| self.is_asked_by(*asked)).await.expect("the sender lives in self");
        let asked_at = Instant::now();
        loop {
            let idle = self.activity().since.max(asked_at).elapsed();
            match self.all.drain_idle.checked_sub(idle) {
                Some(rest) if !rest.is_zero() => sleep(rest).await,
                Some(_) | None => return,
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts connections and serves each of them.
pub struct Acceptor {
    /// Where connections come in.
    pub listener: TcpListener,
    /// What answers their requests.
    pub router: Router,
    /// The value of `x-served-by`.
    pub served_by: String,
    /// Where they are counted.
    pub connections: Arc<Connections>,
}

impl Acceptor {
    /// Accepts until the future is dropped, between two connections; those that were accepted go on.
    pub async fn accept_for_ever(&self) -> Infallible {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => self.serve(accepted),
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    sleep(AFTER_FAILED_ACCEPT).await;
                }
            }
        }
    }

    /// Serves what the kernel has already accepted, then closes the listener: the kernel resets
    /// connections that wait in a listener's queue when it closes.
    pub async fn close(self) {
        while let Ok(Ok(accepted)) = timeout(Duration::ZERO, self.listener.accept()).await {
            self.serve(accepted);
        }
    }

    fn serve(&self, (stream, _): (TcpStream, SocketAddr)) {
        let connection = self.connections.opened();
        let router = TowerToHyperService::new(self.router.clone());
        let served_by = HeaderValue::from_str(&self.served_by).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        tokio::spawn(async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "the connection was gone before its first request");
                return;
            }
            let answer = service_fn(|request| answer(&connection, &router, &served_by, request));
            let mut serving = pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(KEEP_IDLE)
                    .serve_connection(TokioIo::new(stream), answer)
            );
            let ended = tokio::select! {
                ended = serving.as_mut() => ended,
                () = connection.has_idled_out() => {
                    // A request in flight for all that time is finished first.
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
}

async fn answer(
    connection: &Connection,
    router: &TowerToHyperService<Router>,
    served_by: &HeaderValue,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    connection.begin(request.uri().path());
    let mut response = router.call(request).await?;
    let headers = response.headers_mut();
    headers.insert("x-served-by", served_by.clone());
    if connection.is_asked_to_close() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    connection.end();
    Ok(response)
}
