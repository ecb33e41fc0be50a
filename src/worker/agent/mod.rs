//! The agent of a migration between two stores: one process from the first copy to the end of the bake, which reports lag,
//! works the fence and the flip of the streams' direction (design sections 6, 8 and 9).
//!
//! It can be killed, frozen or cut off at any moment. What counts is in the stores: the gates' rows say where writes
//! belong, and a successor goes on from there after it has ended its predecessor's sessions. It takes nothing away unless
//! it is told to leave: a stop alone leaves slots and streams as they are, for the successor.

mod conductor;
pub mod course;
mod credentials;
mod http;
mod observe;
mod run;
pub mod state;
mod steps;
mod words;
mod world;

use std::time::{Duration, Instant};

use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use self::{
    conductor::Conductor,
    course::{Goal, Pair, Side},
    http::Desk,
    run::{End, Run},
    state::{CopyReport, Orders, Stage, State},
};
use super::{
    replicate::{
        ReplicateTask,
        copy::{BothTables, Copy, CopyHalt, CopyProgress},
        door::{Door, DoorError},
        preflight,
        task::Role,
    },
    signed::Verifier,
    verdict::{Outcome, Verdict},
};
use crate::{
    api::OnFenceTimeout,
    stores::postgres::{
        Postgres, QueryError, conductor as claims,
        connect::chain,
        replication::{self, Names, Stream, Table},
    },
};

/// Between two tries to begin, and to leave.
const RETRY: Duration = Duration::from_millis(500);
/// How often leaving is tried before it is reported as failed.
const LEAVE_TRIES: u32 = 40;
/// How often the copy's progress is told.
const PROGRESS: Duration = Duration::from_millis(500);

/// Does the task to its end. A stop ends it within seconds, and then nothing of ours is taken away.
pub async fn execute(task: &ReplicateTask, stop: &CancellationToken) -> Verdict {
    let agent = Agent::new(task);
    match task.role {
        Role::Preflight => agent.preflight(stop).await,
        Role::Leave => agent.leave(stop).await,
        Role::Conduct => agent.conduct(stop).await,
    }
}

struct Agent<'a> {
    task: &'a ReplicateTask,
    names: Names,
    /// What our sessions show in the servers' activity views; no two processes have the same.
    own_name: String,
}

/// Why the agent can't begin, or go on.
#[derive(Debug, thiserror::Error)]
enum Halt {
    #[error("could not reach {}", .side.as_str())]
    Door {
        side: Side,
        #[source]
        source: DoorError,
    },
    #[error("{} refused what the move needs", .side.as_str())]
    Query {
        side: Side,
        #[source]
        source: QueryError,
    },
    #[error("could not copy")]
    Copy(#[from] CopyHalt),
    #[error("could not listen at {at}")]
    Listen {
        at: String,
        #[source]
        source: std::io::Error,
    },
}

impl Halt {
    fn may_pass(&self) -> bool {
        match self {
            Self::Door { source, .. } => source.may_pass(),
            Self::Query { source, .. } => match source {
                QueryError::Lost { .. } => true,
                QueryError::Refused(refusal) => refusal.may_pass(),
                QueryError::Unexpected { .. } | QueryError::Stopped => false,
            },
            Self::Copy(halt) => halt.may_pass(),
            Self::Listen { .. } => false,
        }
    }
}

/// Both stores, taken over.
struct Taken {
    doors: Pair<Door>,
    tables: Pair<Vec<Table>>,
    identities: Pair<Option<replication::Identity>>,
}

impl<'a> Agent<'a> {
    fn new(task: &'a ReplicateTask) -> Self {
        let names = task.names();
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let own_name = format!("{} {:x}-{:x}", names.conductor(), std::process::id(), since.as_nanos());
        Self { task, names, own_name }
    }

    fn doors(&self) -> Pair<Door> {
        let door = |file| Door::new(Postgres::new(file, &self.own_name), self.names.clone());
        Pair { blue: door(&self.task.from.uri_file), green: door(&self.task.to.uri_file) }
    }

    async fn preflight(&self, stop: &CancellationToken) -> Verdict {
        let doors = self.doors();
        let mut findings = match preflight::preflight(self.task, &doors.blue, &doors.green, stop).await {
            Ok(findings) => findings,
            Err(error) if stop.is_cancelled() => return Verdict::new(Outcome::Stopped, format!("{}.", chain(&error))),
            Err(error) => return Verdict::new(Outcome::Failed, format!("{}.", chain(&error))),
        };
        findings.sort_by_key(|finding| !finding.is_error());
        let outcome = match findings.first() {
            Some(first) if first.is_error() => {
                Verdict::new(Outcome::Refused, format!("{} {}", first.message, first.advice))
            }
            Some(_) | None => Verdict::new(Outcome::Succeeded, "Both stores are fit for the move."),
        };
        Verdict { findings, ..outcome }
    }

    async fn conduct(&self, stop: &CancellationToken) -> Verdict {
        let (state, told) = watch::channel(State { uid: self.task.migration.uid.clone(), ..State::default() });
        let (orders, heard) = watch::channel(Orders {
            epoch: u64::from(self.task.attempt),
            goal: Goal::Stay,
            since: Instant::now(),
            force_after: None,
            flipped: 0,
            leave: false,
        });
        let listener = match listen(&self.task.listen).await {
            Ok(listener) => listener,
            Err(source) => {
                let halt = Halt::Listen { at: self.task.listen.clone(), source };
                return Verdict::new(Outcome::Failed, format!("{}.", chain(&halt)));
            }
        };
        let prefer = self.task.switch.as_ref().and_then(|switch| switch.on_fence_timeout);
        let desk = Desk {
            verifier: Verifier { keys: self.task.operator_keys.clone(), uid: self.task.migration.uid.clone() },
            state: told,
            orders,
            on_fence_timeout: prefer.unwrap_or(OnFenceTimeout::PreferData),
        };
        let shut = CancellationToken::new();
        let serving = tokio::spawn(http::serve(listener, desk, shut.clone()));
        let verdict = self.live(&state, heard, stop).await;
        shut.cancel();
        serving.abort();
        verdict
    }

    async fn live(
        &self,
        state: &watch::Sender<State>,
        mut orders: watch::Receiver<Orders>,
        stop: &CancellationToken,
    ) -> Verdict {
        let taken = loop {
            let wants_to_leave = orders.borrow().leave;
            if wants_to_leave {
                return self.leave(stop).await;
            }
            // The copy ends with a request to leave, too.
            let begun = tokio::select! {
                begun = self.begin(state, stop) => begun,
                () = left(&mut orders) => continue,
            };
            let halt = match begun {
                Ok(taken) => break taken,
                Err(halt) => halt,
            };
            if stop.is_cancelled() {
                return Verdict::new(Outcome::Stopped, "Stopped before the copy was done; it begins anew.");
            }
            let text = chain(&halt);
            if !halt.may_pass() {
                return Verdict::new(Outcome::Refused, format!("{text}."));
            }
            tracing::warn!(error = text, "tries again");
            state.send_modify(|state| {
                state.version += 1;
                state.trouble = Some(text);
            });
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => {}
            }
        };
        let Taken { doors, tables, identities } = taken;
        let conductor = Conductor::new(self.task, doors, tables, identities, &self.own_name, stop.clone());
        let mut run = Run {
            task: self.task,
            conductor,
            orders,
            state,
            stop,
            failures: 0,
            not_before: None,
            tried: None,
            flipped_before: 0,
        };
        match run.conduct().await {
            End::Stopped => Verdict::new(Outcome::Stopped, "Stopped; streams and gates stay as they are."),
            End::Superseded => Verdict::new(Outcome::Stopped, "Another agent has taken over."),
            End::Leave => {
                state.send_modify(|state| {
                    state.version += 1;
                    state.stage = Stage::Leaving;
                });
                drop(run);
                self.leave(stop).await
            }
        }
    }

    /// Takes both stores over and sees that the copy is there.
    async fn begin(&self, state: &watch::Sender<State>, stop: &CancellationToken) -> Result<Taken, Halt> {
        let mut doors = self.doors();
        let door = |side| move |source| Halt::Door { side, source };
        let query = |side| move |source| Halt::Query { side, source };
        let blue = doors.blue.open(stop).await.map_err(door(Side::Blue))?;
        let green = doors.green.open(stop).await.map_err(door(Side::Green))?;
        let done = claims::copy_done(&green, &self.names).await.map_err(query(Side::Green))? == Some(true);
        let patterns = &self.task.action.tables;
        let tables = if done {
            BothTables::read_again(&blue, &green, patterns).await?
        } else {
            BothTables::read(&blue, &green, patterns).await?
        };
        replication::install(&blue, &self.names, &tables.source, true).await.map_err(query(Side::Blue))?;
        replication::install(&green, &self.names, &tables.target, false).await.map_err(query(Side::Green))?;
        // Both, before anything is decided from what either says.
        let blue_identity = doors.blue.take_over(&blue, &self.own_name).await.map_err(door(Side::Blue))?;
        let green_identity = doors.green.take_over(&green, &self.own_name).await.map_err(door(Side::Green))?;
        state.send_modify(|state| {
            state.version += 1;
            state.stage = Stage::Copying;
            (state.blue, state.green) = (Some(blue_identity.clone()), Some(green_identity.clone()));
        });
        self.copy(state, &doors, stop).await?;
        let identities = Pair { blue: Some(blue_identity), green: Some(green_identity) };
        Ok(Taken { doors, tables: Pair { blue: tables.source, green: tables.target }, identities })
    }

    async fn copy(
        &self,
        state: &watch::Sender<State>,
        doors: &Pair<Door>,
        stop: &CancellationToken,
    ) -> Result<(), Halt> {
        let progress = CopyProgress::default();
        let copy = Copy {
            source: &doors.blue,
            target: &doors.green,
            names: &self.names,
            action: &self.task.action,
            stop,
            progress: &progress,
        };
        let copying = copy.ensure();
        tokio::pin!(copying);
        loop {
            tokio::select! {
                done = &mut copying => {
                    done?;
                    tell_copy(state, &progress, true);
                    return Ok(());
                }
                () = tokio::time::sleep(PROGRESS) => tell_copy(state, &progress, false),
            }
        }
    }

    /// Takes everything of ours out of both stores, and sees that nothing is left.
    async fn leave(&self, stop: &CancellationToken) -> Verdict {
        let mut last = String::new();
        for _ in 0..LEAVE_TRIES {
            match self.try_to_leave(stop).await {
                Ok(left) if left.is_empty() => {
                    return Verdict::new(Outcome::Succeeded, "Nothing of the move is left in either store.");
                }
                Ok(left) => last = format!("still there: {}", left.join(", ")),
                Err(halt) => last = chain(&halt),
            }
            if stop.is_cancelled() {
                return Verdict::new(Outcome::Stopped, format!("Stopped while leaving: {last}."));
            }
            tracing::warn!(error = last, "tries again to leave");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => {}
            }
        }
        Verdict::new(Outcome::Failed, format!("Could not take everything away: {last}."))
    }

    async fn try_to_leave(&self, stop: &CancellationToken) -> Result<Vec<String>, Halt> {
        let mut doors = self.doors();
        let door = |side| move |source| Halt::Door { side, source };
        let query = |side| move |source| Halt::Query { side, source };
        let blue = doors.blue.open(stop).await.map_err(door(Side::Blue))?;
        let green = doors.green.open(stop).await.map_err(door(Side::Green))?;
        let sides = [(Side::Blue, &blue), (Side::Green, &green)];
        // An agent that still conducts would make anew what is taken away.
        for (side, session) in sides {
            if claims::has_been(session, &self.names).await.map_err(query(side))? {
                match doors.of_mut(side).take_over(session, &self.own_name).await {
                    // Another server than it was has something of ours all the same, if it was copied from the first.
                    Ok(_) | Err(DoorError::OtherServer { .. }) => {}
                    Err(source) => return Err(Halt::Door { side, source }),
                }
            }
        }
        // Subscriptions first, of both: each would read again from the other's slot.
        for (side, session) in sides {
            for stream in Stream::ALL {
                replication::drop_subscription(session, &self.names, stream).await.map_err(query(side))?;
            }
        }
        let mut left = Vec::new();
        for (side, session) in sides {
            let found = replication::uninstall(session, &self.names).await.map_err(query(side))?;
            left.extend(found.into_iter().map(|what| format!("{what} on {}", side.as_str())));
        }
        Ok(left)
    }
}

fn tell_copy(state: &watch::Sender<State>, progress: &CopyProgress, done: bool) {
    state.send_modify(|state| {
        state.version += 1;
        state.copy = CopyReport::read(progress, done);
    });
}

/// Listens at an address; a kernel without IPv6 has the same of IPv4.
async fn listen(at: &str) -> std::io::Result<TcpListener> {
    match (TcpListener::bind(at).await, at.strip_prefix("[::]")) {
        (Err(error), Some(port)) => TcpListener::bind(format!("0.0.0.0{port}")).await.map_err(|_| error),
        (bound, _) => bound,
    }
}

/// Until somebody asks to leave.
async fn left(orders: &mut watch::Receiver<Orders>) {
    if orders.wait_for(|orders| orders.leave).await.is_err() {
        // Nobody can ask any more.
        std::future::pending::<()>().await;
    }
}
