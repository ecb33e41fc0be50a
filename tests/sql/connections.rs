//! Behaviour 26: after a lost connection the store is asked what happened before anything is tried again.

use std::sync::Arc;

use alongside::{
    api::Span,
    worker::{ladder::Ladder, task::Task, verdict::Outcome},
};
use futures::StreamExt as _;
use rustix::process::{Pid, Signal};

use crate::{
    bench::{Bench, attempt, back, ends, run, succeed, versions},
    support::{
        postgres::{Server, free_port},
        proxy::{Cut, Proxy},
    },
};

/// Done twice, it would count twice.
const COUNT: &str = "INSERT INTO counter VALUES (1);";
/// No rollback takes this back.
const TRY: &str = "SELECT nextval('tries');";
const TRIES: &str = "SELECT last_value FROM tries";
const COUNTED: &str = "SELECT count(*) FROM counter";
const AT_THE_GATE: &str = "SELECT count(*) = 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE datname = current_database() AND locktype = 'advisory' AND objid = 1 AND NOT granted";

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE counter (n int)").await;
    bench
}

/// The same bench behind a proxy.
async fn behind(bench: &Bench, cut: Cut, times: u32) -> Proxy {
    let proxy = Proxy::start(bench.database.server().port(), cut, times).await;
    // Without TLS, so that the proxy can read along.
    bench.write_uri(&format!("{}?sslmode=disable", bench.database.uri_at(proxy.port())));
    proxy
}

/// A bench whose own tables are made, so that the next COMMIT is the script's.
async fn prepared() -> Bench {
    let bench = bench().await;
    bench.database.run("CREATE SEQUENCE tries").await;
    succeed(&Task { phase: "earlier".into(), ..bench.inline("SELECT 1;", None) }).await;
    bench
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_repeated() {
    let bench = prepared().await;
    let proxy = behind(&bench, Cut::AfterAnswerTo("COMMIT\0"), 1).await;
    let verdict = succeed(&bench.inline(&format!("{TRY} {COUNT}"), None)).await;
    assert_eq!(proxy.cuts(), 1);
    assert_eq!((bench.database.count(TRIES).await, bench.database.count(COUNTED).await), (1, 1));
    assert_eq!((verdict.applied, verdict.message.as_str()), (versions(&["expand"]), "Applied expand."));
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_repeated_once() {
    let bench = prepared().await;
    let proxy = behind(&bench, Cut::Before("COMMIT\0"), 1).await;
    succeed(&bench.inline(&format!("{TRY} {COUNT}"), None)).await;
    assert_eq!(proxy.cuts(), 1);
    assert_eq!((bench.database.count(TRIES).await, bench.database.count(COUNTED).await), (2, 1));
}

#[tokio::test]
async fn wherever_the_connection_is_cut_the_script_takes_effect_once() {
    let texts = [
        "BEGIN\0",
        "INSERT INTO counter VALUES",
        "INSERT INTO alongside.script_history",
        "UPDATE alongside.script_history",
        "INSERT INTO alongside.script_claim",
        "SELECT pg_catalog.pg_try_advisory_lock",
        "CREATE INDEX CONCURRENTLY counter_n",
        "DROP INDEX CONCURRENTLY counter_n",
        "VACUUM;",
        "COMMIT\0",
        "CREATE SCHEMA alongside",
    ];
    let up = format!(
        "{COUNT}\nCREATE INDEX CONCURRENTLY counter_n ON counter (n);\nDROP INDEX CONCURRENTLY counter_n;\nVACUUM;\n{COUNT}"
    );
    let cuts = texts.into_iter().flat_map(|text| [Cut::Before(text), Cut::AfterAnswerTo(text)]);
    futures::stream::iter(cuts).for_each_concurrent(4, |cut| takes_effect_once(&up, cut)).await;
}

async fn takes_effect_once(up: &str, cut: Cut) {
    let bench = bench().await;
    // Twice in a row: the second time hits what mends the first.
    let proxy = behind(&bench, cut, 2).await;
    let verdict = run(&bench.inline(up, None)).await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{cut:?}: {verdict:?}");
    assert!(proxy.cuts() > 0, "{cut:?} came never by");
    assert_eq!(bench.database.count(COUNTED).await, 2, "{cut:?}");
    assert_eq!(bench.database.count("SELECT count(*) FROM alongside.script_history").await, 1, "{cut:?}");
    assert_eq!(bench.database.count("SELECT count(*) FROM pg_index WHERE NOT indisvalid").await, 0, "{cut:?}");
}

#[tokio::test]
async fn a_backend_ended_by_somebody_in_the_midst_of_a_script_costs_a_new_try() {
    let bench = bench().await;
    let gate = bench.database.connect().await;
    gate.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let task = Task {
        lock_timeout: Span::secs(60),
        ..bench.inline(&format!("{COUNT} SELECT pg_advisory_xact_lock(1);"), None)
    };
    let worker = tokio::spawn(async move { run(&task).await });
    bench.until("the script stands at the gate", AT_THE_GATE).await;
    let ended = gate
        .query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name LIKE 'alongside %'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(ended.len(), 1);
    gate.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    let verdict = worker.await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    assert_eq!(bench.database.count(COUNTED).await, 1);
}

#[tokio::test]
async fn a_server_that_crashes_in_the_midst_of_a_script_is_waited_for() {
    let server = Arc::new(Server::start());
    let bench = Bench::on(server.database().await);
    bench.database.run("CREATE TABLE counter (n int)").await;
    let gate = bench.database.connect().await;
    gate.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let task = Task {
        lock_timeout: Span::secs(60),
        ..bench.inline(&format!("{COUNT} SELECT pg_advisory_xact_lock(1);"), None)
    };
    let worker = tokio::spawn(async move { run(&task).await });
    bench.until("the script stands at the gate", AT_THE_GATE).await;
    let backend =
        bench.database.rows("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'alongside %'", &[]).await[0]
            .get(0);
    // A killed backend takes the whole server down, which then recovers; the gate's lock is gone with it.
    rustix::process::kill_process(Pid::from_raw(backend).expect("a process"), Signal::KILL)
        .expect("it is our server's");
    let verdict = worker.await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    assert_eq!(bench.database.count(COUNTED).await, 1);
}

#[tokio::test]
async fn a_store_that_stays_away_after_a_lost_commit_leaves_the_outcome_unknown_and_the_next_try_asks() {
    let bench = prepared().await;
    let _proxy = behind(&bench, Cut::ForGoodAfterAnswerTo("COMMIT\0"), 1).await;
    let retry = Ladder { give_up_after: Span::millis(500), ..bench.inline(COUNT, None).retry };
    let task = Task { retry, ..bench.inline(COUNT, None) };
    let verdict = ends(&task, Outcome::Unknown, "What happened to the last step isn't known").await;
    assert!(!verdict.is_terminal());
    bench.write_uri(&bench.database.uri());
    let verdict = succeed(&Task { try_: 2, ..task }).await;
    assert_eq!(verdict.message, "Everything was in effect already.");
    assert_eq!(bench.database.count(COUNTED).await, 1);
}

#[tokio::test]
async fn a_store_that_is_away_fails_the_try_without_telling_the_password() {
    let bench = bench().await;
    bench.write_uri(&bench.database.uri_at(free_port()));
    let retry = Ladder { give_up_after: Span::millis(300), ..Ladder::default() };
    let task = Task { retry, ..bench.inline(COUNT, None) };
    let verdict = ends(&task, Outcome::Failed, "could not connect to 127.0.0.1:").await;
    assert_eq!(verdict.applied, None, "not known");
    assert!(!verdict.to_json().contains("s3cr"), "{verdict:?}");
}

#[tokio::test]
async fn a_secret_rotated_in_mid_flight_is_picked_up() {
    let bench = bench().await;
    let gate = bench.database.connect().await;
    gate.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let role = format!("app_{}", bench.database.name());
    let database = bench.database.name();
    bench
        .database
        .run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'first'; GRANT CREATE ON DATABASE {database} TO {role}"))
        .await;
    bench.database.run(&format!("GRANT ALL ON counter TO {role}")).await;
    let port = bench.database.server().port();
    let uri = |password: &str| format!("postgres://{role}:{password}@127.0.0.1:{port}/{database}");
    bench.write_uri(&uri("first"));
    let task = Task {
        lock_timeout: Span::secs(60),
        ..bench.inline(&format!("{COUNT} SELECT pg_advisory_xact_lock(1);"), None)
    };
    let worker = tokio::spawn({
        let task = task.clone();
        async move { run(&task).await }
    });
    bench.until("the script stands at the gate", AT_THE_GATE).await;
    bench.database.run(&format!("ALTER ROLE {role} PASSWORD 'second'")).await;
    bench.write_uri(&uri("second"));
    gate.query(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"), &[])
        .await
        .unwrap();
    gate.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    assert_eq!(worker.await.unwrap().outcome, Outcome::Succeeded);
    assert_eq!(bench.database.count(COUNTED).await, 1);
    succeed(&attempt(&task, 2)).await;
    ends(&back(&attempt(&task, 2)), Outcome::Refused, "has no down script").await;
    bench.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_at_once_and_not_shown() {
    let bench = bench().await;
    let port = bench.database.server().port();
    bench.write_uri(&format!("postgres://postgres:wrong-Pa55@127.0.0.1:{port}/postgres"));
    let verdict = ends(&bench.inline(COUNT, None), Outcome::Failed, "refused the connection").await;
    assert!(verdict.message.contains("SQLSTATE 28P01"), "{verdict:?}");
    assert!(!verdict.to_json().contains("wrong-Pa55"), "{verdict:?}");
}
