//! Seeded schedules of what can go wrong at each step of a move: the agent is killed or frozen, its connections are cut, a
//! server crashes. At the end every acknowledged write is there once on the side that serves, and the other side agrees.
//!
//! `ALONGSIDE_SCHEDULES=200` runs that many instead of 20, `ALONGSIDE_SEED=17` that one alone.

use std::time::{Duration, Instant};

use alongside::worker::{agent::course::Side, verdict::Outcome};
use rustix::process::Signal;

use crate::{
    bench::{Agent, Bench, DEADLINE, Servers},
    support::{
        load::Load,
        pgbouncer::{PgBouncer, PoolMode},
        wait::within,
    },
};

/// Schedules in a run that nobody asked for more of.
const SCHEDULES: u64 = 20;
/// How long connections stay cut.
const CUT: Duration = Duration::from_millis(700);

/// How long nothing arrives.
const SILENCE: Duration = Duration::from_secs(4);

/// The steps of a move, as the agent's log names them.
const STEPS: [&str; 13] = [
    "begin the move of term",
    "make clients wait",
    "hold writes",
    "let the other side catch up",
    "raise the sequences",
    "move the stream from",
    "commit the move of term",
    "open",
    "let clients go on",
    "drop the stream from",
    "enable the stream from",
    "prepare the stream from",
    "nothing: it goes well",
];

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL; a successor comes.
    Kill,
    /// SIGSTOP; a successor comes, then the frozen one thaws.
    Freeze,
    /// Its connections to both servers are cut, and the streams', for a while.
    Cut,
    /// The same, but nobody is told: what is sent just doesn't arrive, for longer than a server's silence is borne.
    Silence,
    /// Blue crashes and comes up again.
    CrashBlue,
    /// Green does.
    CrashGreen,
}

const FAULTS: [Fault; 6] =
    [Fault::Kill, Fault::Freeze, Fault::Cut, Fault::CrashBlue, Fault::CrashGreen, Fault::Silence];

/// What happens in one schedule.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    /// In the move to this term...
    term: u32,
    /// ... at this step ...
    step: &'static str,
    /// ... after so many milliseconds ...
    after: u64,
    /// ... this happens.
    fault: Fault,
}

impl Schedule {
    /// So that few seeds meet many pairs of step and fault, in both moves.
    fn of(seed: u64) -> Self {
        let at = |number: u64, of: usize| usize::try_from(number).expect("small") % of;
        Self {
            term: 1 + u32::try_from(seed / 3 % 2).expect("0 or 1"),
            step: STEPS[at(seed, STEPS.len() - usize::from(seed % 7 != 6))],
            after: seed * 7 % 11,
            fault: FAULTS[at(seed * 5 + seed / 6, FAULTS.len())],
        }
    }
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("ALONGSIDE_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("ALONGSIDE_SCHEDULES").unwrap_or(SCHEDULES)).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_or_freezes_at_whichever_step_no_acknowledged_write_is_lost_or_doubled() {
    let mut servers = Servers::start();
    for seed in seeds() {
        let schedule = Schedule::of(seed);
        let began = Instant::now();
        let told = play(&mut servers, schedule, seed).await;
        println!("seed {seed}: {schedule:?}: {told}, {} ms", began.elapsed().as_millis());
    }
}

async fn play(servers: &mut Servers, schedule: Schedule, seed: u64) -> String {
    let bench = Bench::new(servers).await;
    let bouncer = PgBouncer::in_front_of(bench.service.port(), PoolMode::Transaction).await;
    // Half of the clients wait at PgBouncer, half are told to try again.
    let load = Load::start(&bench.places(&[bouncer.port(), bench.service.port()]), 6);
    let task = bench.task_behind(&[bouncer.port()]);
    let mut agent = bench.settled_agent(&task).await;
    let mut operator = bench.operator(&agent.caller);
    let mut frozen = None;
    let sentence = format!("seed {seed}, {schedule:?}");
    for term in 1..=2 {
        load.go_on_for(50).await;
        let log = std::fs::read_to_string(&agent.log).expect("it logs").len();
        agent.caller.order(path(term), Some(term)).await;
        if term == schedule.term && reaches(&agent, log, schedule.step, term).await {
            tokio::time::sleep(Duration::from_millis(schedule.after)).await;
            match schedule.fault {
                Fault::Kill => agent.signal(Signal::KILL),
                Fault::Freeze => agent.signal(Signal::STOP),
                Fault::Cut => {
                    bench.agents_way.0.cut();
                    bench.agents_way.1.cut();
                    tokio::time::sleep(CUT).await;
                    bench.agents_way.0.mend();
                    bench.agents_way.1.mend();
                }
                Fault::Silence => {
                    bench.agents_way.0.fall_silent();
                    bench.agents_way.1.fall_silent();
                    tokio::time::sleep(SILENCE).await;
                    bench.agents_way.0.mend();
                    bench.agents_way.1.mend();
                }
                Fault::CrashBlue => tokio::task::block_in_place(|| servers.blue.crash_and_restart()),
                Fault::CrashGreen => tokio::task::block_in_place(|| servers.green.crash_and_restart()),
            }
            if matches!(schedule.fault, Fault::Kill | Fault::Freeze) {
                let successor = bench.agent(&bench.task_behind(&[bouncer.port()]));
                operator = bench.operator(&successor.caller);
                let predecessor = std::mem::replace(&mut agent, successor);
                if matches!(schedule.fault, Fault::Freeze) {
                    frozen = Some(predecessor);
                }
                agent.caller.order(path(term), Some(term)).await;
            }
        }
        let state = agent.until_settled_in(term).await;
        assert_eq!(state.open, Some(Side::serving(term)), "{sentence}");
    }
    if let Some(mut thawed) = frozen {
        thawed.signal(Signal::CONT);
        load.go_on_for(50).await;
        let verdict = thawed.end().await;
        assert!(verdict.message.contains("Another agent has taken over"), "{sentence}: {verdict:?}");
    }
    load.go_on_for(50).await;
    let account = load.stop().await;
    drop(operator);
    let serving = bench.connect(Side::serving(2)).await;
    let count = account.settle(&serving, &sentence).await;
    agrees(&bench, &sentence).await;
    agent.caller.order("/leave", None).await;
    let verdict = agent.end().await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{sentence}: {verdict:?}");
    assert_eq!(bench.leftovers().await, [""; 0], "{sentence}");
    let others: Vec<_> = account.refusals.iter().filter(|code| !["25006", "lost"].contains(&code.as_str())).collect();
    format!(
        "{count} acknowledged, {} unknown, {} told to try again, others {others:?}, longest {} ms",
        account.unknown.len(),
        account.refused_with("25006"),
        account.longest.as_millis()
    )
}

fn path(term: u32) -> &'static str {
    if term % 2 == 1 { "/cut-over" } else { "/back" }
}

/// Waits until the agent's log tells of the step, or until the move is over.
async fn reaches(agent: &Agent, from: usize, step: &str, term: u32) -> bool {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        let log = std::fs::read_to_string(&agent.log).expect("it logs");
        if log[from..].contains(&format!("\"step\":\"{step}")) {
            return true;
        }
        let is_over = agent.caller.state().await.is_some_and(|state| state.settled && state.term == Some(term));
        if is_over {
            return log.contains(&format!("\"step\":\"{step}"));
        }
    }
    false
}

/// The side that doesn't serve is fed all there is.
async fn agrees(bench: &Bench, sentence: &str) {
    let sql = "SELECT (SELECT md5(string_agg(l::text, ',' ORDER BY id)) FROM ledger AS l) || (SELECT \
               md5(string_agg(c::text, ',' ORDER BY id)) FROM counters AS c) || (SELECT md5(string_agg(m::text, ',' ORDER \
               BY id)) FROM movers AS m) || (SELECT md5(string_agg(g::text, ',' ORDER BY op)) FROM gone AS g)";
    let (blue, green) = (bench.connect(Side::Blue).await, bench.connect(Side::Green).await);
    within(DEADLINE, &format!("{sentence}: both sides agree"), async || {
        let blue: String = blue.query_one(sql, &[]).await.expect("it answers").get(0);
        let green: String = green.query_one(sql, &[]).await.expect("it answers").get(0);
        if blue == green { Ok(()) } else { Err("they differ") }
    })
    .await;
}
