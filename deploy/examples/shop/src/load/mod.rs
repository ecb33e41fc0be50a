//! `shop load`: requests at a fixed rate, on new and on kept connections, each accounted for.

mod account;
mod control;
mod latencies;
mod ledger;
mod ports;
mod record;
mod schedule;
mod sender;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::Endpoint;
use crate::share::Share;
use crate::stop::Stop;
use crate::times::duration;
use ledger::Ledger;
use schedule::{Kind, Mix, Schedule};
use sender::{Due, Kept, Sending, Target};

/// What `shop load` is told.
#[derive(Args)]
pub struct Options {
    /// Where the inventory is.
    #[arg(long, env = "LOAD_URL", default_value = "http://inventory")]
    url: Endpoint,
    /// Requests per second, over both kinds of connections.
    #[arg(long, env = "LOAD_RATE", value_parser = rate, default_value = "500")]
    rate: f64,
    /// How many connections are kept open.
    #[arg(long, env = "LOAD_KEEP_ALIVE", default_value = "20")]
    keep_alive: NonZeroU64,
    /// The share of requests that open a connection of their own, from 0 to 1.
    #[arg(long, env = "LOAD_NEW_SHARE", default_value = "0.5")]
    new_share: Share,
    /// The share of requests that write, from 0 to 1.
    #[arg(long, env = "LOAD_TAKE_SHARE", default_value = "0.5")]
    take_share: Share,
    /// How many items there are.
    #[arg(long, env = "LOAD_ITEMS", default_value = "1000")]
    items: NonZeroU64,
    /// How long a request may take, connecting included.
    #[arg(long, env = "LOAD_TIMEOUT", value_parser = duration, default_value = "2s")]
    timeout: Duration,
    /// How long a kept connection may be idle and still be used. Below what the server grants one
    /// that it drains (`shop serve --drain-idle`).
    #[arg(long, env = "LOAD_IDLE_LIMIT", value_parser = duration, default_value = "1s")]
    idle_limit: Duration,
    /// How long to go on. Without it: until SIGTERM or `POST /stop`.
    #[arg(long = "for", value_parser = duration)]
    span: Option<Duration>,
    /// Where the account can be read.
    #[arg(long, env = "LOAD_LISTEN", default_value = "0.0.0.0:9090")]
    listen: SocketAddr,
}

/// The highest rate. A client has about 28,000 ports for one address, and each connection of its
/// own keeps one for a minute: past some 450 of them a second, connections begin to fail here.
const HIGHEST_RATE: f64 = 100_000.0;

fn rate(text: &str) -> Result<f64, &'static str> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= HIGHEST_RATE => Ok(rate),
        Ok(_) | Err(_) => Err("a rate is a number above 0 and at most 100000"),
    }
}

/// Why the load ended.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The port could not be had.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A signal could not be waited for.
    #[error("could not wait for signals")]
    Signals(#[source] io::Error),
}

/// How far the load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Requests become due.
    Running,
    /// No request becomes due any more; some are in flight.
    Stopping,
    /// None is in flight.
    Done,
}

/// Only ever forward: a load that is already done stays done.
fn ask_to_stop(stage: &watch::Sender<Stage>) {
    stage.send_if_modified(|stage| match stage {
        Stage::Running => {
            *stage = Stage::Stopping;
            true
        }
        Stage::Stopping | Stage::Done => false,
    });
}

/// How long the last answers of the control port may take once the load is done.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Sends requests until it is told to stop, waits for those in flight, and prints the account of
/// the last window.
pub async fn run(options: Options) -> Result<(), LoadError> {
    let mut stop = Stop::new().map_err(LoadError::Signals)?;
    let listen = options.listen;
    let control = TcpListener::bind(listen).await.map_err(|source| LoadError::Listen { address: listen, source })?;
    if let Ok(address) = control.local_addr() {
        tracing::info!(%address, "listening");
    }
    let ledger = Arc::new(Ledger::new("start"));
    let stage = watch::Sender::new(Stage::Running);
    let router = control::router(Arc::clone(&ledger), stage.clone());
    let mut done = stage.subscribe();
    let server = axum::serve(control, router).with_graceful_shutdown(async move {
        drop(done.wait_for(|stage| *stage == Stage::Done).await);
    });
    let server = tokio::spawn(server.into_future());
    let stopping = stage.clone();
    tokio::spawn(async move {
        stop.asked().await;
        ask_to_stop(&stopping);
    });

    let mut stopped = stage.subscribe();
    let until_stopped = async move {
        drop(stopped.wait_for(|stage| *stage != Stage::Running).await);
    };
    generate(options, &ledger, until_stopped).await;
    stage.send_replace(Stage::Done);
    println!("{}", control::text(&ledger.report()));
    // An error means that a client of the control port holds on to its connection: not waited for.
    drop(timeout(LAST_ANSWERS, server).await);
    Ok(())
}

/// Sends what the schedule says until `stopped` or the end of its span, then waits for the last
/// request. Each request that is due is sent or entered as missed.
async fn generate(options: Options, ledger: &Arc<Ledger>, stopped: impl Future<Output = ()>) {
    let Options { url, rate, keep_alive, new_share, take_share, items, timeout, idle_limit, span, listen: _ } = options;
    let mut stopped = pin!(stopped);
    let target = tokio::select! {
        target = Target::resolved(url) => target,
        () = &mut stopped => return,
    };
    let senders = Senders::new(Sending { target, timeout, idle_limit }, keep_alive, in_flight_at(rate, timeout));
    let schedule = Schedule::new(Mix { rate, new: new_share, takes: take_share, items: items.get() });
    let began = Instant::now();
    for slot in schedule.take_while(|slot| span.is_none_or(|span| slot.due < span)) {
        let at = began + slot.due;
        tokio::select! {
            () = sleep_until(at) => (),
            () = &mut stopped => break,
        }
        let entry = ledger.due(slot.kind, slot.operation);
        senders.hand_over(Due { slot, at, entry });
    }
    senders.finish().await;
}

/// How many requests are in flight at most where none is answered before its timeout, with some
/// room above it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is at most 100,000 and a timeout is in seconds; beyond, the cast saturates"
)]
fn in_flight_at(rate: f64, timeout: Duration) -> usize {
    let most = (rate * timeout.as_secs_f64()).ceil() as usize;
    (most + 64).min(Semaphore::MAX_PERMITS)
}

/// All that send: a worker for each kept connection, and room for connections of their own.
struct Senders {
    sending: Arc<Sending>,
    kept: Vec<mpsc::Sender<Due>>,
    workers: JoinSet<()>,
    next: AtomicUsize,
    room: Arc<Semaphore>,
    rooms: usize,
}

impl Senders {
    fn new(sending: Sending, keep_alive: NonZeroU64, rooms: usize) -> Self {
        let sending = Arc::new(sending);
        let mut workers = JoinSet::new();
        let kept = (0..keep_alive.get())
            .map(|_| {
                let (queue, mut due) = mpsc::channel(rooms);
                let mut connection = Kept::new(Arc::clone(&sending));
                workers.spawn(async move {
                    while let Some(due) = due.recv().await {
                        connection.send(due).await;
                    }
                });
                queue
            })
            .collect();
        Self { sending, kept, workers, next: AtomicUsize::new(0), room: Arc::new(Semaphore::new(rooms)), rooms }
    }

    /// Hands a request to its sender without waiting; where there is no room it is missed.
    fn hand_over(&self, due: Due) {
        match due.slot.kind {
            // In turn, so that each connection is used at an even rate and none idles out.
            Kind::KeepAlive => {
                let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.kept.len();
                if let Err(full) = self.kept[turn].try_send(due) {
                    full.into_inner().entry.missed();
                }
            }
            Kind::New => match Arc::clone(&self.room).try_acquire_owned() {
                Ok(room) => {
                    let sending = Arc::clone(&self.sending);
                    tokio::spawn(async move {
                        sending.send_on_new(due).await;
                        drop(room);
                    });
                }
                Err(_) => due.entry.missed(),
            },
        }
    }

    /// Waits for every request that was handed over.
    async fn finish(mut self) {
        self.kept.clear();
        while self.workers.join_next().await.is_some() {}
        let rooms = u32::try_from(self.rooms).unwrap_or(u32::MAX);
        drop(self.room.acquire_many(rooms).await);
    }
}
