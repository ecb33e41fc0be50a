//! One run from its lock to its verdict. A lost connection ends a pass; the next one reads what the store remembers and
//! remembers nothing else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    controls::{Live, MOST_WORKERS},
    halt::{Halt, Patience, connect},
    hand::Hand,
    look,
    monitor::{Monitor, check_sync, sync_lost},
    summary::Summary,
    sweep::sweep,
    task::Task,
    work::{Counters, Orders, Work},
};
use crate::{
    api::backfill::Sync as SyncKind,
    stores::{
        Finding,
        postgres::{
            Postgres, QueryError, Session,
            assignments::{Assignment, Derivation},
            chunk_statements::Statements,
            chunks::{Chunks, FORMAT_VERSION, Need, Run, RunState, settle_session},
            history::{History, Layout, Scope, Way},
            server,
            sync::Sync,
        },
    },
    worker::progress::Progress,
};

/// Whether another worker has ended is asked at least this often: it may end at any moment.
const LONGEST_TURN_POLL: Duration = Duration::from_secs(2);
/// How often chunks that another process holds are looked at.
const WAIT_FOR_OTHERS: Duration = Duration::from_millis(100);
/// From SIGTERM to the end of what is under way. A chunk takes far less.
const STOP_GRACE: Duration = Duration::from_secs(8);

/// What a pass needs of the outside.
#[derive(Clone)]
pub(super) struct Outside {
    pub live: watch::Receiver<Live>,
    pub progress: Progress,
    pub stop: CancellationToken,
}

/// Runs to the end: no row is in need, and the trigger is what it was all the time.
pub(super) async fn run(task: &Task, outside: &Outside) -> Result<Summary, Halt> {
    passes(task, outside, Aim::Fill).await
}

/// Puts the columns back to their defaults in the rows that the backfill is about. Its trigger is gone by then.
pub(super) async fn blank(task: &Task, outside: &Outside) -> Result<Summary, Halt> {
    passes(task, outside, Aim::Blank).await
}

/// What the rows are to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// What the expressions say.
    Fill,
    /// What they held before anybody wrote them.
    Blank,
}

impl Aim {
    /// A run of its own for each.
    fn scope(self, task: &Task) -> Scope {
        let mut scope = task.scope();
        if self == Self::Blank {
            scope.phase.push_str("/blank");
        }
        scope
    }

    fn of(self, of: Derivation) -> Derivation {
        match self {
            Self::Fill => of,
            Self::Blank => {
                let blank = |mut set: Assignment| {
                    set.expression.clone_from(&set.blank);
                    set
                };
                Derivation { assignments: of.assignments.into_iter().map(blank).collect(), ..of }
            }
        }
    }
}

async fn passes(task: &Task, outside: &Outside, aim: Aim) -> Result<Summary, Halt> {
    let began = Instant::now();
    let mut patience = Patience::new(task.retry, &outside.stop);
    let mut got_to = 0;
    loop {
        let (why, far) = match pass(task, outside, aim, began).await {
            Ok(summary) => return Ok(summary),
            Err((Halt::Lost { why }, far)) => (why, far),
            Err((halt, _)) => return Err(halt),
        };
        // A pass that got further starts the patience anew: rows are finite, so this ends.
        if far > got_to {
            (patience, got_to) = (Patience::new(task.retry, &outside.stop), far);
        }
        tracing::warn!(%why, "the connection was lost; goes on from what the store remembers");
        if !patience.again(&why).await? {
            return Err(Halt::Lost { why });
        }
    }
}

/// One pass; with an error, how many rows the run had looked at.
async fn pass(task: &Task, outside: &Outside, aim: Aim, began: Instant) -> Result<Summary, (Halt, i64)> {
    let hard = hard_stop(&outside.stop);
    let (session, work, sync) = match prepare(task, outside, aim, &hard.token).await {
        Ok(prepared) => prepared,
        Err(halt) => return Err((halt, 0)),
    };
    let outcome = labour(&session, &work, sync.as_ref(), outside, &hard.token).await;
    let chunks = Chunks::new(&session, &work.scope);
    match outcome {
        Ok(()) => {
            let settled = async {
                let tally = chunks.tally().await?;
                if aim == Aim::Blank {
                    // Nothing is filled any more, so there is nothing that a later run should know of.
                    chunks.set_state(RunState::Finished).await?;
                    chunks.delete_chunks().await?;
                }
                Ok::<_, QueryError>(tally)
            };
            let tally = settled.await.map_err(|error| (error.into(), i64::MAX))?;
            let progress = &work.progress;
            Ok(Summary::new(&work, tally, Counters::get(&progress.swept), began.elapsed(), progress.paused_for()))
        }
        Err(halt) => {
            let far = Counters::get(&work.progress.scanned);
            Err((halt, far))
        }
    }
}

/// A token that is cancelled some time after a stop, and never otherwise.
struct HardStop {
    token: CancellationToken,
    timer: tokio::task::JoinHandle<()>,
}

impl Drop for HardStop {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

fn hard_stop(stop: &CancellationToken) -> HardStop {
    let token = CancellationToken::new();
    let (stop, hard) = (stop.clone(), token.clone());
    let timer = tokio::spawn(async move {
        stop.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
        hard.cancel();
    });
    HardStop { token, timer }
}

/// A session that has the phase's lock and the newest turn, with our tables made.
pub(super) async fn take_turn(
    task: &Task,
    scope: &Scope,
    store: &Postgres,
    stop: &CancellationToken,
    hard: &CancellationToken,
) -> Result<Session, Halt> {
    let session = connect(store, task.retry, stop, hard).await?;
    let findings = server::suitability(&session, store, hard).await?;
    if findings.iter().any(Finding::is_error) {
        return Err(Halt::by_findings(findings));
    }
    session.reset(task.lock_timeout(), None).await?;
    settle_session(&session, task.lock_timeout(), None, false).await?;
    let history = History::new(&session, scope);
    wait_for_turn(task, &session, &history, scope, stop).await?;
    make_layout(task, &session, &history, scope, stop).await?;
    let turn = task.turn();
    if let Some(newer) = history.claim(turn).await? {
        let name = |way: Way| match way {
            Way::Up => "run",
            Way::Down => "end",
        };
        return Err(Halt::refused(format!(
            "Attempt {}, {} {} has been at this phase already; this worker, of attempt {}, {} {}, came late and did \
             nothing.",
            newer.attempt,
            name(newer.way),
            newer.number,
            turn.attempt,
            name(turn.way),
            turn.number
        )));
    }
    Ok(session)
}

/// Waits until no other worker is at this phase, and ends the session of one that gives no sign of life.
async fn wait_for_turn(
    task: &Task,
    session: &Session,
    history: &History<'_>,
    scope: &Scope,
    stop: &CancellationToken,
) -> Result<(), Halt> {
    let mut patience = Patience::quick(task.retry, LONGEST_TURN_POLL, stop);
    let chunks = Chunks::new(session, scope);
    while !history.try_lock().await? {
        if chunks.is_laid_out().await? && chunks.end_silent_leader(task.lease.0.as_secs_f64()).await? {
            tracing::warn!("ended the session of a leader that gave no sign of life");
        }
        let holder = history.holder().await?;
        let who = holder.map_or_else(
            || "another worker".to_owned(),
            |holder| format!("{} (backend {}, since {})", holder.application_name, holder.pid, holder.since),
        );
        if !patience.again(&who).await? {
            return Err(Halt::failed(format!("{who} is still at this phase after {}.", patience.spent())));
        }
    }
    Ok(())
}

async fn make_layout(
    task: &Task,
    session: &Session,
    history: &History<'_>,
    scope: &Scope,
    stop: &CancellationToken,
) -> Result<(), Halt> {
    let mut patience = Patience::new(task.retry, stop);
    loop {
        let made = async {
            let layout = history.make_layout().await?;
            if !matches!(layout, Layout::Newer(_)) {
                Chunks::new(session, scope).make_layout().await?;
            }
            Ok(layout)
        };
        let refusal = match made.await {
            Ok(Layout::Newer(made)) => {
                return Err(Halt::refused(format!(
                    "The schema `alongside` was made by a newer version (step {made}); use an image at least as new."
                )));
            }
            Ok(Layout::Absent | Layout::SchemaOnly | Layout::At(_)) => return Ok(()),
            Err(QueryError::Refused(refusal)) => refusal,
            Err(error) => return Err(error.into()),
        };
        if refusal.sqlstate == "42501" {
            return Err(Halt::refused(format!(
                "The role may not keep the chunk table: {refusal}. Have an administrator run CREATE SCHEMA alongside \
                 AUTHORIZATION for it, or grant it CREATE and USAGE on that schema."
            )));
        }
        if !refusal.may_pass() || !patience.again(&refusal).await? {
            return Err(QueryError::Refused(refusal).into());
        }
    }
}

type Prepared = (Session, Arc<Work>, Option<(Sync, String)>);

/// From the lock to chunks that can be claimed: trigger first, then the upper bound.
async fn prepare(task: &Task, outside: &Outside, aim: Aim, hard: &CancellationToken) -> Result<Prepared, Halt> {
    let scope = aim.scope(task);
    let store = Postgres::new(&task.store.uri_file, &task.application_name());
    let session = take_turn(task, &scope, &store, &outside.stop, hard).await?;
    let of = match look::derive(task, &session).await? {
        Ok(of) => aim.of(of),
        Err(findings) => return Err(Halt::by_findings(findings)),
    };
    if aim == Aim::Fill {
        let findings = look::rules(task, &session, &of).await?;
        if !findings.is_empty() {
            return Err(Halt::by_findings(findings));
        }
    }
    let chunks = Chunks::new(&session, &scope);
    let run = chunks.run().await?;
    if let Some(run) = &run {
        look::standing(task, &of, run).map_err(Halt::refused)?;
    }
    let run = match run {
        Some(run) if matches!(run.state, RunState::Running | RunState::Done) => {
            check_standing_sync(task, &session, &chunks, &of, &run).await?;
            run
        }
        Some(_) | None => begin(task, outside, aim, &session, &scope, &of).await?,
    };
    let leader = leader_name();
    chunks.lead(&leader).await?;
    chunks.plan(&of).await?;
    let statements = Statements::new(&of, run.need);
    let sync = run.sync.map(|print| (Sync::of(&scope.uid, &scope.phase), print));
    let work = Work {
        task: task.clone(),
        scope: scope.clone(),
        store,
        of,
        need: run.need,
        statements,
        leader,
        progress: Counters::default(),
    };
    Ok((session, Arc::new(work), sync))
}

/// A run is carried on only under the very trigger that it began with.
async fn check_standing_sync(
    task: &Task,
    session: &Session,
    chunks: &Chunks<'_>,
    of: &Derivation,
    run: &Run,
) -> Result<(), Halt> {
    let Some(print) = &run.sync else { return Ok(()) };
    let found = Sync::of(&task.migration.uid, &task.phase).print(session, of.table.oid).await?;
    if found.as_ref() == Some(print) {
        return Ok(());
    }
    chunks.set_state(RunState::SyncLost).await?;
    Err(sync_lost(&of.table.name.to_string(), found.is_some()))
}

/// Makes the trigger and notes the run in one transaction, and lets go of the table's lock between tries.
async fn begin(
    task: &Task,
    outside: &Outside,
    aim: Aim,
    session: &Session,
    scope: &Scope,
    of: &Derivation,
) -> Result<Run, Halt> {
    let chunks = Chunks::new(session, scope);
    let need = match aim {
        Aim::Fill => how_need_is_told(&chunks, of).await?,
        // The filter tells rows that aren't filled, and here it is the others that are meant.
        Aim::Blank => Need::Differing,
    };
    let mut run = Run {
        format_version: FORMAT_VERSION,
        attempt: task.turn().attempt,
        statement: task.statement(),
        relation: of.table.oid,
        columns: look::numbers(of),
        need,
        state: RunState::Running,
        sync: None,
    };
    let mut patience = Patience::new(task.retry, &outside.stop);
    loop {
        let refusal = match try_begin(task, aim, session, &chunks, of, &mut run).await {
            Ok(()) => return Ok(run),
            Err(QueryError::Refused(refusal)) => refusal,
            Err(error) => return Err(error.into()),
        };
        session.roll_back().await?;
        if !refusal.may_pass() {
            return Err(QueryError::Refused(refusal).into());
        }
        if !patience.again(&refusal).await? {
            return Err(Halt::failed(format!(
                "The sync trigger could not be made in {}: {refusal}. Nothing has been done.",
                patience.spent()
            )));
        }
    }
}

async fn how_need_is_told(chunks: &Chunks<'_>, of: &Derivation) -> Result<Need, Halt> {
    let before = chunks.before(of.table.oid, &look::numbers(of)).await?;
    if let Some(message) = look::claimed(&before) {
        return Err(Halt::refused(format!("{message} {}", look::CLAIMED)));
    }
    // Values that were filled in and then not kept in step may be out of date: what is there proves nothing.
    let stale = |state| matches!(state, RunState::Undone | RunState::SyncLost);
    Ok(if before.iter().any(|run| stale(run.state)) { Need::Differing } else { Need::Marked })
}

async fn try_begin(
    task: &Task,
    aim: Aim,
    session: &Session,
    chunks: &Chunks<'_>,
    of: &Derivation,
    run: &mut Run,
) -> Result<(), QueryError> {
    session.begin().await?;
    if task.action.sync == SyncKind::Trigger && aim == Aim::Fill {
        let sync = Sync::of(&task.migration.uid, &task.phase);
        sync.install(session, of).await?;
        let print = sync.print(session, of.table.oid).await?;
        // Without it nobody would notice that the trigger went away.
        run.sync = Some(print.ok_or_else(|| QueryError::Unexpected { why: "a trigger just made isn't there".into() })?);
    }
    chunks.begin(run).await?;
    session.commit().await
}

/// Chunks, sweep, and the proof; the monitor looks on all the while.
async fn labour(
    session: &Session,
    work: &Arc<Work>,
    sync: Option<&(Sync, String)>,
    outside: &Outside,
    hard: &CancellationToken,
) -> Result<(), Halt> {
    let sync = sync.map(|(sync, print)| (sync, print.as_str()));
    let ending = outside.stop.child_token();
    let (orders, given) = watch::channel(Orders::wait());
    let result = {
        let hands = hands_and_sweep(work, &given, &outside.live, &ending, hard);
        tokio::pin!(hands);
        let (live, shown) = (outside.live.clone(), outside.progress.clone());
        let mut monitor = Monitor { work, session, sync, live, shown, orders, stop: &outside.stop };
        tokio::select! {
            done = &mut hands => done,
            halt = monitor.watch() => {
                ending.cancel();
                // They end at their next chunk's boundary; what is wrong is told first.
                let _ = hands.await;
                Err(halt)
            }
        }
    };
    result?;
    // Last of all: only under an unbroken trigger does "no row in need" stay true.
    check_sync(session, work, sync).await?;
    Chunks::new(session, &work.scope).set_state(RunState::Done).await?;
    Ok(())
}

async fn hands_and_sweep(
    work: &Arc<Work>,
    orders: &watch::Receiver<Orders>,
    live: &watch::Receiver<Live>,
    ending: &CancellationToken,
    hard: &CancellationToken,
) -> Result<(), Halt> {
    let reader = work.reader(ending, hard).await?;
    let chunks = Chunks::new(&reader, &work.scope);
    loop {
        let tally = chunks.tally().await?;
        if tally.done == tally.chunks {
            break;
        }
        hands(work, orders, live, ending, hard).await?;
        // What is left is somebody else's, until it is done or the lease runs out.
        tokio::select! {
            () = tokio::time::sleep(WAIT_FOR_OTHERS) => {}
            () = ending.cancelled() => return Err(Halt::Stopped),
        }
    }
    drop(reader);
    sweep(work, ending, hard).await?;
    Ok(())
}

/// All that may ever be wanted, until no chunk is to be had: one that isn't wanted waits without a connection.
async fn hands(
    work: &Arc<Work>,
    orders: &watch::Receiver<Orders>,
    live: &watch::Receiver<Live>,
    ending: &CancellationToken,
    hard: &CancellationToken,
) -> Result<(), Halt> {
    let nothing_left = CancellationToken::new();
    let hands = (0..MOST_WORKERS).map(|number| {
        let one = Hand {
            work: Arc::clone(work),
            number,
            orders: orders.clone(),
            live: live.clone(),
            nothing_left: nothing_left.clone(),
            stop: ending.clone(),
            hard: hard.clone(),
        };
        async move {
            let end = one.run().await;
            if end.is_err() {
                ending.cancel();
            }
            end
        }
    });
    // The first error of its own counts; the others were only told to stop.
    let mut stopped = false;
    for end in join_all(hands).await {
        match end {
            Ok(()) => {}
            Err(Halt::Stopped) => stopped = true,
            Err(halt) => return Err(halt),
        }
    }
    if stopped { Err(Halt::Stopped) } else { Ok(()) }
}

/// Differs between processes, and between passes of one.
fn leader_name() -> String {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    format!("{host}/{}/{:x}", std::process::id(), since_epoch.as_nanos())
}
