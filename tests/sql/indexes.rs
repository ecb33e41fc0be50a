//! Behaviour 22: an index that was left INVALID is found, dropped and built again.

use alongside::worker::{task::Task, verdict::Outcome};
use rustix::process::Signal;

use crate::bench::{Bench, back, ends, run, succeed};

const BUILD: &str = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS items_sku ON items (sku);";
const VALID: &str = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('items_sku') AND indisvalid";
const INVALID: &str = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
/// Whether a build has gone as far as waiting for transactions older than its index.
const BUILDS: &str = "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE datname = current_database()
    AND phase LIKE 'waiting for %' AND index_relid = to_regclass('items_sku'))";

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE items (id int, sku text); INSERT INTO items VALUES (1, 'a')").await;
    bench
}

/// A bench on which somebody's build has failed on duplicates and left its index.
async fn bench_with_a_leftover() -> Bench {
    let bench = bench().await;
    bench.database.run("INSERT INTO items VALUES (2, 'a')").await;
    let client = bench.database.connect().await;
    client.batch_execute(BUILD).await.expect_err("'a' is there twice");
    assert_eq!(bench.database.count(INVALID).await, 1);
    bench
}

#[tokio::test]
async fn an_invalid_index_that_if_not_exists_would_accept_is_built_again() {
    let bench = bench_with_a_leftover().await;
    bench.database.run("DELETE FROM items WHERE id = 2").await;
    bench.database.run(BUILD).await;
    assert_eq!(bench.database.count(VALID).await, 0, "the server by itself is content with the leftover");
    succeed(&bench.inline(BUILD, None)).await;
    assert_eq!((bench.database.count(VALID).await, bench.database.count(INVALID).await), (1, 0));
}

#[tokio::test]
async fn an_invalid_index_that_would_be_in_the_way_is_built_again() {
    let bench = bench_with_a_leftover().await;
    bench.database.run("DELETE FROM items WHERE id = 2").await;
    succeed(&bench.inline(&BUILD.replace("IF NOT EXISTS ", ""), None)).await;
    assert_eq!((bench.database.count(VALID).await, bench.database.count(INVALID).await), (1, 0));
}

#[tokio::test]
async fn a_build_that_fails_leaves_no_index_that_would_slow_down_writes() {
    let bench = bench().await;
    bench.database.run("INSERT INTO items VALUES (2, 'a')").await;
    let verdict = ends(&bench.inline(BUILD, None), Outcome::Failed, "Key (sku)=(a) is duplicated").await;
    assert_eq!(verdict.sqlstate.as_deref(), Some("23505"));
    assert!(!verdict.message.contains("left"), "{verdict:?}");
    assert_eq!(bench.database.count(INVALID).await, 0);
}

#[tokio::test]
async fn names_that_need_quotes_are_found_too() {
    let bench = Bench::new().await;
    bench.database.run("CREATE SCHEMA \"My Shop\"; CREATE TABLE \"My Shop\".\"Items\" (\"Sku\" text)").await;
    bench.database.run("INSERT INTO \"My Shop\".\"Items\" VALUES ('a'), ('a')").await;
    let build = "CREATE UNIQUE INDEX CONCURRENTLY \"Items \"\"Sku\"\"\" ON \"My Shop\".\"Items\" (\"Sku\");";
    bench.database.connect().await.batch_execute(build).await.expect_err("'a' is there twice");
    bench.database.run("DELETE FROM \"My Shop\".\"Items\"").await;
    succeed(&bench.inline(build, None)).await;
    let valid = "SELECT count(*) FROM pg_indexes JOIN pg_class ON relname = indexname JOIN pg_index ON oid = indexrelid
        WHERE indexname = 'Items \"Sku\"' AND indisvalid";
    assert_eq!(bench.database.count(valid).await, 1);
}

#[tokio::test]
async fn a_name_that_something_else_has_is_no_index_of_this_table() {
    let bench = bench().await;
    bench.database.run("CREATE TABLE other (sku text); CREATE INDEX items_sku ON other (sku)").await;
    // By itself the server would skip the statement and report success.
    ends(&bench.inline(BUILD, None), Outcome::Failed, "exists and isn't an index of items").await;
}

#[tokio::test]
async fn a_build_outlasts_transactions_that_are_longer_than_the_lock_timeout() {
    let bench = bench().await;
    let old = bench.database.connect().await;
    old.batch_execute("BEGIN; INSERT INTO items VALUES (9, 'old')").await.unwrap();
    let task = bench.inline(BUILD, None);
    let lock_timeout = task.lock_timeout.0;
    let worker = tokio::spawn(async move { run(&task).await });
    bench.until("the build waits for the old transaction", BUILDS).await;
    let longer = format!(
        "SELECT now() - query_start > interval '{} ms' FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'CREATE UNIQUE INDEX%' AND state = 'active'",
        2 * lock_timeout.as_millis()
    );
    bench.until("it has waited longer than the lock timeout", &longer).await;
    old.batch_execute("COMMIT").await.unwrap();
    assert_eq!(worker.await.unwrap().outcome, Outcome::Succeeded);
    assert_eq!(bench.database.count(VALID).await, 1);
}

#[tokio::test]
async fn a_build_under_way_elsewhere_is_waited_for_and_not_torn_down() {
    let bench = bench().await;
    let old = bench.database.connect().await;
    old.batch_execute("BEGIN; INSERT INTO items VALUES (9, 'old')").await.unwrap();
    let person = bench.database.connect().await;
    let build = tokio::spawn(async move { person.batch_execute(BUILD).await });
    bench.until("a person's build is under way", BUILDS).await;
    let task = bench.inline(BUILD, None);
    let worker = tokio::spawn(async move { run(&task).await });
    let asks = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'alongside %' AND query LIKE '%pg_stat_progress_create_index%' AND state = 'idle')";
    bench.until("the worker has seen it", asks).await;
    old.batch_execute("COMMIT").await.unwrap();
    build.await.unwrap().expect("nobody has torn it down");
    assert_eq!(worker.await.unwrap().outcome, Outcome::Succeeded);
    assert_eq!((bench.database.count(VALID).await, bench.database.count(INVALID).await), (1, 0));
}

#[tokio::test]
async fn a_worker_told_to_stop_in_a_build_leaves_no_index() {
    let bench = bench().await;
    let old = bench.database.connect().await;
    // It holds up the build, but has no lock on the table that would hold up dropping the index.
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    let task = bench.inline(BUILD, None);
    let mut worker = bench.spawn("stopped", &task);
    bench.until("the build waits for the old transaction", BUILDS).await;
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().await, Some(4));
    assert_eq!(worker.verdict().message, "Stopped in expand. Nothing of it has taken effect.");
    assert_eq!(bench.database.count(INVALID).await, 0);
    old.batch_execute("COMMIT").await.unwrap();
    succeed(&Task { try_: 2, ..task }).await;
    assert_eq!(bench.database.count(VALID).await, 1);
}

#[tokio::test]
async fn a_worker_killed_in_a_build_is_followed_by_one_that_builds_it_again() {
    let bench = bench().await;
    let old = bench.database.connect().await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    let task = bench.inline(&format!("CREATE TABLE a ();\n{BUILD}\nCREATE TABLE b ();"), None);
    let mut worker = bench.spawn("killed", &task);
    bench.until("the build waits for the old transaction", BUILDS).await;
    worker.signal(Signal::KILL);
    assert_eq!(worker.end().await, None);
    assert_eq!(bench.database.count("SELECT begun::bigint FROM alongside.script_history").await, 2);
    // The server notices within 10 s that its client is gone, and lets go of the phase's lock.
    let successor = tokio::spawn({
        let task = task.clone();
        async move { run(&task).await }
    });
    bench.until("the orphaned build has ended", &format!("SELECT NOT ({BUILDS})")).await;
    assert_eq!(bench.database.count(INVALID).await, 1, "it has left its index");
    old.batch_execute("COMMIT").await.unwrap();
    let verdict = successor.await.unwrap();
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    assert_eq!((bench.database.count(VALID).await, bench.database.count(INVALID).await), (1, 0));
    assert_eq!(bench.database.count("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await, 3);
}

#[tokio::test]
async fn a_build_that_was_done_but_not_yet_written_down_is_not_done_again() {
    let bench = bench().await;
    // Without IF NOT EXISTS: done again, it would fail.
    let up = BUILD.replace("IF NOT EXISTS ", "");
    let task = bench.inline(&format!("{up}\nDROP INDEX CONCURRENTLY items_old;\nCREATE TABLE b ();"), None);
    let old = "CREATE INDEX items_old ON items (id)";
    bench.database.run(old).await;
    succeed(&task).await;
    for (done, begun, rest) in [(0, 1, old), (1, 2, "")] {
        bench.database.run(&format!("DROP TABLE b; {rest}")).await;
        let rewind = format!(
            "UPDATE alongside.script_history SET done = {done}, begun = {begun}, applied_at = NULL, done_checksum = $$"
        );
        let beginning = task.scripts[0].up.lines().take(done).collect::<Vec<_>>().join("\n");
        let digest = alongside::stores::postgres::history::digest(&beginning);
        bench.database.run(&format!("{rewind}{digest}$$")).await;
        let verdict = succeed(&Task { try_: 2, ..task.clone() }).await;
        assert_eq!(verdict.message, "Applied expand.");
    }
    assert_eq!(bench.database.count(VALID).await, 1);
}

#[tokio::test]
async fn what_nobody_can_look_up_is_left_to_a_person_with_the_command_to_run() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE whole (id int) PARTITION BY LIST (id)").await;
    bench.database.run("CREATE TABLE part PARTITION OF whole FOR VALUES IN (1)").await;
    let task = bench.inline("ALTER TABLE whole DETACH PARTITION part CONCURRENTLY;", None);
    succeed(&task).await;
    let begun = "UPDATE alongside.script_history SET done = 0, begun = 1, applied_at = NULL, done_checksum = $$";
    let digest = alongside::stores::postgres::history::digest("");
    bench.database.run(&format!("{begun}{digest}$$")).await;
    let verdict = ends(&Task { try_: 2, ..task.clone() }, Outcome::Refused, "nobody can tell from outside").await;
    let commands: Vec<&str> = verdict.message.split('`').filter(|part| part.starts_with("UPDATE ")).collect();
    bench.database.run(commands[1]).await;
    assert_eq!(succeed(&Task { try_: 3, ..task.clone() }).await.message, "Everything was in effect already.");
    bench.database.run(&format!("{begun}{digest}$$")).await;
    bench.database.run("ALTER TABLE whole ATTACH PARTITION part FOR VALUES IN (1)").await;
    bench.database.run(commands[0]).await;
    assert_eq!(succeed(&Task { try_: 4, ..task }).await.message, "Applied expand.");
}

#[tokio::test]
async fn copies_that_a_failed_reindex_has_left_are_dropped() {
    let bench = bench().await;
    bench.database.run("CREATE INDEX items_sku ON items (sku)").await;
    let old = bench.database.connect().await;
    old.batch_execute("BEGIN; INSERT INTO items VALUES (9, 'old')").await.unwrap();
    let reindex = "REINDEX INDEX CONCURRENTLY items_sku;";
    let hasty = bench.database.connect().await;
    hasty.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    hasty.batch_execute(reindex).await.expect_err("the old transaction doesn't end in time");
    assert_eq!(bench.database.count(INVALID).await, 1, "it has left items_sku_ccnew");
    old.batch_execute("COMMIT").await.unwrap();
    succeed(&bench.inline(reindex, Some("DROP INDEX CONCURRENTLY items_sku;"))).await;
    assert_eq!((bench.database.count(VALID).await, bench.database.count(INVALID).await), (1, 0));
    succeed(&back(&bench.inline(reindex, Some("DROP INDEX CONCURRENTLY items_sku;")))).await;
    assert_eq!(bench.database.count(VALID).await, 0);
}
