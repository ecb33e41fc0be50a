//! Cut-over and the way back, with every acknowledged write accounted for.

use alongside::worker::agent::{course::Side, state::AttemptOutcome};

use crate::{
    bench::{Bench, Servers},
    load::Load,
    support::pgbouncer::{PgBouncer, PoolMode},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_over_and_the_way_back_lose_no_write_and_clients_behind_pgbouncer_see_no_error() {
    let servers = Servers::start();
    let bench = Bench::new(&servers).await;
    let bouncers = [
        PgBouncer::in_front_of(bench.service.port(), PoolMode::Transaction).await,
        PgBouncer::in_front_of(bench.service.port(), PoolMode::Transaction).await,
    ];
    let ports = bouncers.each_ref().map(PgBouncer::port);
    let load = Load::start(&ports, &bench.database, 8);
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
    println!("{}", std::fs::read_to_string(&agent.log).unwrap());
    let count = account.settle(&bench.connect(Side::serving(3)).await, "three moves behind PgBouncer").await;
    assert!(count > 800, "{count}");
    assert!(account.refusals.is_empty(), "{:?}", account.refusals);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_a_pooler_are_told_to_try_again_and_lose_nothing() {
    let servers = Servers::start();
    let bench = Bench::new(&servers).await;
    let load = Load::start(&[bench.service.port()], &bench.database, 6);
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
