//! Cut-over and the way back, with every acknowledged write accounted for.

use alongside::{
    api::{OnFenceTimeout, Span},
    worker::{
        agent::{
            course::{Side, StreamState},
            state::{AttemptOutcome, Command, State},
        },
        replicate::task::{ReplicateTask, Role},
        verdict::Outcome,
    },
};
use tokio_postgres::error::SqlState;

use crate::{
    bench::{Agent, Bench, DEADLINE, Servers, connect_as, run},
    support::{
        load::Load,
        pgbouncer::{PgBouncer, PoolMode},
        wait::within,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_over_and_the_way_back_lose_no_write_and_clients_behind_pgbouncer_see_no_error() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let bouncers = [
        PgBouncer::in_front_of(bench.service.port(), PoolMode::Transaction).await,
        PgBouncer::in_front_of(bench.service.port(), PoolMode::Transaction).await,
    ];
    let ports = bouncers.each_ref().map(PgBouncer::port);
    let load = Load::start(&bench.places(&ports), 8);
    let agent = bench.settled_agent(&bench.task_behind(&ports)).await;
    let _operator = bench.operator(&agent.caller);
    for term in 1..=3 {
        load.go_on_for(200).await;
        agent.caller.order(if term % 2 == 1 { "/cut-over" } else { "/back" }, Some(term)).await;
        let state = agent.until_settled_in(term).await;
        let attempt = state.last_attempt.expect("an attempt was made");
        println!("term {term}: {attempt:?}, retreats {}", state.retreats);
        assert_eq!((attempt.term, attempt.outcome), (term, AttemptOutcome::Moved));
        assert_eq!(state.open, Some(Side::serving(term)));
    }
    load.go_on_for(200).await;
    let account = load.stop().await;
    println!("longest {:?}, refused {:?}", account.longest, account.refusals);
    let count = account.settle(&bench.connect(Side::serving(3)).await, "three moves behind PgBouncer").await;
    assert!(count > 800, "{count}");
    assert!(account.refusals.is_empty(), "{:?}", account.refusals);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_a_pooler_are_told_to_try_again_and_lose_nothing() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let load = Load::start(&bench.places(&[bench.service.port()]), 6);
    let agent = bench.settled_agent(&bench.task()).await;
    let _operator = bench.operator(&agent.caller);
    load.go_on_for(200).await;
    agent.caller.order("/cut-over", Some(1)).await;
    let state = agent.until_settled_in(1).await;
    println!("{:?}", state.last_attempt);
    load.go_on_for(200).await;
    let account = load.stop().await;
    println!("refused: {:?}", account.refusals);
    let count = account.settle(&bench.connect(Side::Green).await, "cut-over without a pooler").await;
    assert!(count > 400, "{count}");
    assert!(account.refusals.iter().all(|code| code == "25006"), "{:?}", account.refusals);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_does_not_end_holds_clients_up_no_longer_than_the_deadline_and_the_move_is_made_later() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let load = Load::start(&bench.places(&[bench.service.port()]), 4);
    let mut task = bench.task();
    task.switch.as_mut().unwrap().fence.deadline = Some(Span::millis(300));
    let agent = bench.settled_agent(&task).await;
    let _operator = bench.operator(&agent.caller);
    let writer = bench.connect(Side::Blue).await;
    run(&writer, "BEGIN; INSERT INTO gone VALUES (0, 'still open')").await;
    agent.caller.order("/cut-over", Some(1)).await;
    let state = agent.until("an attempt is given up", |state| state.retreats > 0).await;
    let attempt = state.last_attempt.unwrap();
    assert_eq!(attempt.outcome, AttemptOutcome::GivenUp);
    assert!(attempt.why.unwrap().contains("did not end within"), "{:?}", state.trouble);
    load.go_on_for(50).await;
    agent
        .until("it waits", |state| state.waits_for.as_deref().is_some_and(|what| what.contains("a transaction")))
        .await;
    run(&writer, "DELETE FROM gone WHERE op = 0; COMMIT").await;
    agent.until_settled_in(1).await;
    load.go_on_for(50).await;
    load.stop().await.settle(&bench.connect(Side::Green).await, "a move after one that was given up").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_goes_up_to_the_commit_point_and_moves_nothing() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let bouncer = PgBouncer::in_front_of(bench.service.port(), PoolMode::Transaction).await;
    let load = Load::start(&bench.places(&[bouncer.port()]), 4);
    let agent = bench.settled_agent(&bench.task_behind(&[bouncer.port()])).await;
    load.go_on_for(50).await;
    let trial = Command { only_try: true, ..agent.caller.command(Some(1)) };
    assert_eq!(agent.caller.post("/cut-over", &trial).await.unwrap().0, 202);
    let tried =
        |state: &State| state.last_attempt.as_ref().is_some_and(|attempt| attempt.outcome == AttemptOutcome::Tried);
    let state = agent.until("it was tried", |state| tried(state) && state.settled).await;
    assert_eq!((state.term.unwrap_or(0), state.open), (0, Some(Side::Blue)));
    load.go_on_for(50).await;
    let account = load.stop().await;
    assert!(account.refusals.is_empty(), "{:?}", account.refusals);
    account.settle(&bench.connect(Side::Blue).await, "a trial").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_opens_once_the_service_leads_there_and_not_because_somebody_says_so() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let agent = bench.settled_agent(&bench.task()).await;
    agent.caller.order("/cut-over", Some(1)).await;
    agent.until("the flip is asked for", |state| state.flip_to == Some(Side::Green)).await;
    agent.caller.order("/flipped", None).await;
    let state = agent.until("it has looked", |state| state.waits_for.is_some()).await;
    assert_eq!((state.waits_for.as_deref(), state.open), (Some("the Service to lead to green"), None));
    bench.service.lead_to(bench.port(Side::Green));
    let state = agent.until_settled_in(1).await;
    assert_eq!((state.open, state.flip_to), (Some(Side::Green), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_made_after_the_copy_is_not_left_behind_in_silence() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let agent = bench.settled_agent(&bench.task()).await;
    let _operator = bench.operator(&agent.caller);
    let blue = bench.connect(Side::Blue).await;
    run(&blue, "CREATE TABLE late (id bigint PRIMARY KEY); INSERT INTO late VALUES (1)").await;
    agent.caller.order("/cut-over", Some(1)).await;
    let state = agent
        .until("a person is asked", |state| {
            state.waits_for.as_deref().is_some_and(|what| what.contains("a person: tables were made"))
        })
        .await;
    assert_eq!((state.term.unwrap_or(0), state.open), (0, Some(Side::Blue)));
    run(&blue, "DROP TABLE late").await;
    agent.until_settled_in(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_told_to_stop_leaves_everything_to_its_successor() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let load = Load::start(&bench.places(&[bench.service.port()]), 3);
    let mut agent = bench.settled_agent(&bench.task()).await;
    let operator = bench.operator(&agent.caller);
    agent.caller.order("/cut-over", Some(1)).await;
    agent.until_settled_in(1).await;
    drop(operator);
    agent.signal(rustix::process::Signal::TERM);
    assert_eq!(agent.end().await.outcome, Outcome::Stopped);
    assert!(!bench.leftovers().await.is_empty());
    load.go_on_for(50).await;
    let successor = bench.settled_agent(&bench.task()).await;
    let _operator = bench.operator(&successor.caller);
    let state = successor.until_settled_in(1).await;
    assert!(state.copy.done && state.copy.restarts == 0, "{state:#?}");
    successor.caller.order("/back", Some(2)).await;
    successor.until_settled_in(2).await;
    load.go_on_for(50).await;
    load.stop().await.settle(&bench.connect(Side::Blue).await, "a move by each of two agents").await;
}

/// Cuts over, then has green fall silent, with a write on it that can't have come to blue.
async fn on_a_green_that_is_gone(bench: &Bench, agent: &Agent) -> i64 {
    agent.caller.order("/cut-over", Some(1)).await;
    agent.until_settled_in(1).await;
    bench.agents_way.1.fall_silent();
    let green = bench.connect(Side::Green).await;
    run(&green, "INSERT INTO ledger (op) VALUES (424242)").await;
    424_242
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_back_from_a_side_that_is_silent_waits_where_data_is_preferred() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let agent = bench.settled_agent(&bench.task()).await;
    let _operator = bench.operator(&agent.caller);
    let written = on_a_green_that_is_gone(&bench, &agent).await;
    let back = Command { deadline: Some(Span::millis(200)), ..agent.caller.command(Some(2)) };
    assert_eq!(agent.caller.post("/back", &back).await.unwrap().0, 202);
    agent.until("it waits for green", |state| state.waits_for.as_deref() == Some("green to answer")).await;
    bench.agents_way.1.mend();
    agent.until_settled_in(2).await;
    let sql = format!("SELECT count(*) FROM ledger WHERE op = {written}");
    let count: i64 = bench.connect(Side::Blue).await.query_one(&sql, &[]).await.unwrap().get(0);
    assert_eq!(count, 1, "nothing was left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_back_from_a_side_that_is_silent_is_forced_where_traffic_is_preferred_and_what_stays_is_kept() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let mut task = bench.task();
    task.switch.as_mut().unwrap().on_fence_timeout = Some(OnFenceTimeout::PreferTraffic);
    let agent = bench.settled_agent(&task).await;
    let _operator = bench.operator(&agent.caller);
    let written = on_a_green_that_is_gone(&bench, &agent).await;
    let back = Command { deadline: Some(Span::millis(200)), ..agent.caller.command(Some(2)) };
    assert_eq!(agent.caller.post("/back", &back).await.unwrap().0, 202);
    let state = agent.until("blue serves", |state| state.open == Some(Side::Blue)).await;
    assert_eq!(state.left_behind.map(|left| left.term), Some(2));
    let blue = bench.connect(Side::Blue).await;
    run(&blue, "INSERT INTO ledger (op) VALUES (434343)").await;
    bench.agents_way.1.mend();
    let green = bench.connect(Side::Green).await;
    within(DEADLINE, "green's gate is shut", async || {
        match green.batch_execute("DELETE FROM gone WHERE false").await {
            Err(error) if error.code().map(SqlState::code) == Some("25006") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let state = agent
        .until("a person is asked", |state| state.waits_for.as_deref().is_some_and(|what| what.contains("a person")))
        .await;
    assert_eq!(state.term, Some(2));
    // What stayed behind is still on green, and its slot is kept.
    let kept = format!("SELECT count(*) FROM ledger WHERE op = {written}");
    assert_eq!(green.query_one(&kept, &[]).await.unwrap().get::<_, i64>(0), 1);
    let slot = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
    assert_eq!(green.query_one(slot, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn what_is_not_signed_is_for_another_migration_or_is_of_an_older_epoch_is_refused() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let agent = bench.settled_agent(&bench.task()).await;
    let bare = reqwest::get(format!("http://{}/state", agent.caller.at)).await.unwrap();
    assert_eq!(bare.status().as_u16(), 401);
    let alive = reqwest::get(format!("http://{}/healthz", agent.caller.at)).await.unwrap();
    assert_eq!(alive.status().as_u16(), 200);
    let command = agent.caller.command(Some(1));
    let newer = Command { epoch: 5, ..command.clone() };
    assert_eq!(command.epoch, 2);
    assert_eq!(agent.caller.post("/lift", &newer).await.unwrap().0, 202);
    let (code, why) = agent.caller.post("/cut-over", &command).await.unwrap();
    assert_eq!(
        (code, why["error"].as_str()),
        (409, Some("the request is of epoch 2, and another of 5 was heard before"))
    );
    let (code, _) = agent.caller.post("/cut-over", &Command { epoch: 5, ..command }).await.unwrap();
    assert_eq!(code, 409, "of two commands with one number the first is obeyed");
    let other = Command { uid: "another".into(), ..newer.clone() };
    assert_eq!(agent.caller.post("/lift", &other).await.unwrap().0, 409);
    assert_eq!(agent.caller.post("/nonsense", &newer).await.unwrap().0, 400);
    let far = Command { term: Some(7), epoch: 6, ..newer };
    assert_eq!(agent.caller.post("/cut-over", &far).await.unwrap().0, 202);
    agent
        .until("it says no", |state| state.waits_for.as_deref().is_some_and(|what| what.contains("isn't the next")))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pgbouncer_that_does_not_answer_puts_the_move_off_and_clients_of_the_other_go_on() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let there = PgBouncer::in_front_of(bench.service.port(), PoolMode::Transaction).await;
    let gone = PgBouncer::in_front_of(bench.service.port(), PoolMode::Transaction).await;
    let load = Load::start(&bench.places(&[there.port()]), 4);
    let agent = bench.settled_agent(&bench.task_behind(&[there.port(), gone.port()])).await;
    let _operator = bench.operator(&agent.caller);
    drop(gone);
    agent.caller.order("/cut-over", Some(1)).await;
    let state = agent.until("attempts are given up", |state| state.retreats > 1).await;
    assert!(state.last_attempt.unwrap().why.unwrap().contains("could not reach PgBouncer"));
    load.go_on_for(100).await;
    // As the headless Service does: its addresses are those of replicas that are there.
    bench.task_behind(&[there.port()]);
    agent.until_settled_in(1).await;
    load.go_on_for(100).await;
    let account = load.stop().await;
    assert!(account.refusals.is_empty(), "{:?}", account.refusals);
    account.settle(&bench.connect(Side::Green).await, "a move with a replica gone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_to_leave_ends_the_agent_that_still_conducts_and_leaves_nothing() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let mut agent = bench.settled_agent(&bench.task()).await;
    let verdict = bench.agent(&ReplicateTask { role: Role::Leave, ..bench.task() }).end().await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    let ended = agent.end().await;
    assert_ne!(ended.outcome, Outcome::Succeeded, "{ended:?}");
    assert_eq!(bench.leftovers().await, [""; 0]);
    // Twice is once.
    let verdict = bench.agent(&ReplicateTask { role: Role::Leave, ..bench.task() }).end().await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_way_back_no_stream_and_no_slot_is_left_after_the_cut_over() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let load = Load::start(&bench.places(&[bench.service.port()]), 3);
    let mut task = bench.task();
    task.action.way_back = false;
    let agent = bench.settled_agent(&task).await;
    let _operator = bench.operator(&agent.caller);
    agent.caller.order("/cut-over", Some(1)).await;
    let state = agent.until_settled_in(1).await;
    assert_eq!((state.forward.state, state.reverse.state), (Some(StreamState::Absent), Some(StreamState::Absent)));
    load.go_on_for(50).await;
    load.stop().await.settle(&bench.connect(Side::Green).await, "a move for good").await;
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
    for side in Side::ALL {
        let count: i64 = bench.connect(side).await.query_one(slots, &[]).await.unwrap().get(0);
        assert_eq!(count, 0, "{}", side.as_str());
    }
    agent.caller.order("/back", Some(2)).await;
    agent
        .until("it says why not", |state| state.waits_for.as_deref() == Some("the stream from green to catch up"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pgbouncer_that_comes_back_unpaused_in_the_midst_lets_nobody_past_the_gate() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let bouncer = PgBouncer::in_front_of(bench.service.port(), PoolMode::Transaction).await;
    let load = Load::start(&bench.places(&[bouncer.port()]), 4);
    let agent = bench.settled_agent(&bench.task_behind(&[bouncer.port()])).await;
    load.go_on_for(50).await;
    // Nobody flips the Service yet: clients wait, until somebody lets them go on.
    agent.caller.order("/cut-over", Some(1)).await;
    agent.until("the flip is asked for", |state| state.flip_to == Some(Side::Green)).await;
    let console = connect_as("admin", bouncer.port(), "pgbouncer").await;
    console.simple_query(&format!("RESUME {}", bench.database)).await.unwrap();
    within(DEADLINE, "clients are told to try again", async || {
        let told = load.refused_with("25006");
        if told > 10 { Ok(()) } else { Err(told.to_string()) }
    })
    .await;
    let _operator = bench.operator(&agent.caller);
    agent.until_settled_in(1).await;
    load.go_on_for(50).await;
    load.stop().await.settle(&bench.connect(Side::Green).await, "a pooler that came back unpaused").await;
}
