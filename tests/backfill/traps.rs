//! Behaviours 32 and 33, and each way that looks simpler: it must fail here, or these tests prove nothing.

use std::time::Duration;

use alongside::{
    api::Span,
    worker::{backfill::controls::Controls, verdict::Outcome},
};

use crate::{
    bench::{Bench, Running, WRONG, ends, succeed},
    load::Load,
};

#[tokio::test]
async fn inserts_that_never_stop_do_not_keep_it_from_ending() {
    let bench = Bench::with_customers(5_000).await;
    let client = bench.database.connect().await;
    let inserting = tokio::spawn(async move {
        for id in 1_000_000_i64.. {
            let sql = "INSERT INTO customers (id, full_name) VALUES ($1, 'new born')";
            client.execute(sql, &[&id]).await.expect("inserts go through");
        }
    });
    let summary = succeed(&bench.split()).await.backfill.expect("figures");
    assert!(!inserting.is_finished(), "they go on");
    inserting.abort();
    assert!(summary.rows_changed >= 5_000);
    bench.all_split().await;
}

#[tokio::test]
async fn under_live_writes_no_client_fails_and_every_row_is_right() {
    let bench = Bench::with_customers(20_000).await;
    let load = Load::start(&bench.database, 4, 7).await;
    let mut task = bench.split();
    task.action.workers = Some(3);
    task.action.rate = Some(10_000);
    succeed(&task).await;
    let written = load.stop().await;
    assert!(written.writes > 100 && written.failed == 0, "{written:?}");
    bench.all_split().await;
}

/// The trap: the bound is read, then the trigger made. A row that comes between is nobody's.
#[tokio::test]
async fn a_bound_read_before_the_trigger_loses_rows_and_one_read_after_it_does_not() {
    let simpler = Bench::with_customers(100).await;
    let bound = simpler.database.count("SELECT max(id) FROM customers").await;
    let between = "INSERT INTO customers (id, full_name) VALUES (101, 'in between')";
    simpler.database.run(between).await;
    // The trigger alone: a run over an empty stretch.
    let mut task = simpler.split();
    task.action.filter = Some("first_name IS NULL AND id < 0".to_owned());
    succeed(&task).await;
    simpler
        .database
        .run(&format!("UPDATE customers SET first_name = split_part(full_name, ' ', 1), last_name = split_part(full_name, ' ', 2) WHERE id <= {bound}"))
        .await;
    assert_eq!(simpler.database.count(WRONG).await, 1, "the simpler way has lost a row");

    let ours = Bench::with_customers(100).await;
    // The trigger waits for a writer; its row comes after any bound that was read before.
    let writer = ours.database.connect().await;
    writer.batch_execute(&format!("BEGIN; {between}")).await.expect("a writer");
    let running = Running::start(&ours.split(), Controls::default());
    ours.until("the trigger waits", "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'relation'")
        .await;
    writer.batch_execute("COMMIT").await.expect("a writer");
    assert_eq!(running.end().await.outcome, Outcome::Succeeded);
    ours.all_split().await;
}

/// The trap: a plain UPDATE of a chunk waits for a row that a client has, while it holds the rows before it.
#[tokio::test]
async fn a_plain_update_deadlocks_with_a_client_and_a_claim_that_skips_does_not() {
    let simpler = Bench::with_customers(1_000).await;
    let (client, chunk) = (simpler.database.connect().await, simpler.database.connect().await);
    let touch = |id: i64| format!("UPDATE customers SET visits = visits + 1 WHERE id = {id}");
    client.batch_execute(&format!("BEGIN; {}", touch(900))).await.expect("a client");
    let update = tokio::spawn(async move {
        chunk.batch_execute("UPDATE customers SET first_name = 'x' WHERE id BETWEEN 1 AND 1000").await
    });
    simpler.until("the chunk waits", "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted").await;
    let client_ends = client.batch_execute(&touch(1)).await;
    let chunk_ends = update.await.expect("it doesn't panic");
    let deadlocks = [client_ends.err(), chunk_ends.err()].into_iter().flatten();
    let codes: Vec<_> = deadlocks.filter_map(|error| error.code().map(|code| code.code().to_owned())).collect();
    assert_eq!(codes, ["40P01"], "the simpler way deadlocks");

    let ours = Bench::with_customers(1_000).await;
    let client = ours.database.connect().await;
    client.batch_execute(&format!("BEGIN; {}", touch(900))).await.expect("a client");
    // The trigger would wait for the client's transaction; this is about chunks.
    let mut task = ours.split();
    task.action.sync = alongside::api::backfill::Sync::None;
    let running = Running::start(&task, Controls::default());
    ours.until("all others are done", "SELECT count(*) = 1 FROM customers WHERE first_name IS NULL").await;
    client
        .batch_execute(&format!("SET lock_timeout = '1ms'; {}; COMMIT", touch(1)))
        .await
        .expect("nobody is in its way");
    let verdict = running.end().await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    // The row that the client had came in a later pass, or in the sweep.
    let summary = verdict.backfill.expect("figures");
    assert_eq!(summary.rows_changed + summary.rows_swept, 1_000, "{summary:?}");
    ours.all_split().await;
}

#[tokio::test]
async fn a_row_that_stays_locked_ends_the_run_with_its_key() {
    let bench = Bench::with_customers(100).await;
    let mut task = bench.split();
    task.action.sync = alongside::api::backfill::Sync::None;
    task.retry.give_up_after = Span::secs(1);
    let client = bench.database.connect().await;
    client.batch_execute("BEGIN; UPDATE customers SET visits = 1 WHERE id = 42").await.expect("a client");
    ends(&task, Outcome::Failed, "row (42) is still to be done, but somebody keeps it locked").await;
}

#[tokio::test]
async fn without_a_trigger_writes_that_make_rows_faster_are_no_reason_to_say_done() {
    let bench = Bench::with_customers(10).await;
    // Somebody who empties the column as fast as it is filled.
    bench
        .database
        .run(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.first_name := NULL; RETURN NEW; END';
             CREATE TRIGGER meddle BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION meddle()",
        )
        .await;
    let mut task = bench.split();
    task.action.sync = alongside::api::backfill::Sync::None;
    ends(&task, Outcome::Failed, "there still are rows in need. Writes make them faster than they are swept").await;
}

#[tokio::test]
async fn a_row_that_is_refused_is_named_and_the_rows_before_it_are_done() {
    let bench = Bench::with_customers(5_000).await;
    bench
        .database
        .run("ALTER TABLE customers ADD number int; UPDATE customers SET full_name = 'x' WHERE id = 3210")
        .await;
    let mut task = bench.split();
    task.action.set = [("number".to_owned(), "substr(full_name, 6, 1)::int".to_owned())].into();
    task.action.filter = Some("number IS NULL".to_owned());
    let verdict = ends(&task, Outcome::Failed, "row (\"id\")=(3210) is refused: invalid input syntax").await;
    assert_eq!(verdict.sqlstate.as_deref(), Some("22P02"));
    let before = "SELECT count(*) FROM customers WHERE number IS NULL AND id < 3210";
    assert_eq!(bench.database.count(before).await, 0);
}

#[tokio::test]
async fn a_chunk_that_times_out_is_split_and_the_run_goes_on() {
    let bench = Bench::with_customers(400).await;
    // A millisecond a row: 400 of them never fit into what a chunk is given.
    bench
        .database
        .run(
            "CREATE FUNCTION slowly(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql
             AS 'BEGIN PERFORM pg_sleep(0.008); RETURN split_part(t, '' '', 1); END'",
        )
        .await;
    let mut task = bench.split();
    task.action.set = [("first_name".to_owned(), "slowly(full_name)".to_owned())].into();
    task.action.chunk = serde_json::from_value(serde_json::json!({"time": "10ms"})).expect("good limits");
    let summary = succeed(&task).await.backfill.expect("figures");
    assert_eq!(summary.rows_changed, 400);
    assert!(summary.transactions > 2, "{summary:?}");
}

#[tokio::test]
async fn the_trigger_lets_go_between_tries_for_the_tables_lock() {
    let bench = Bench::with_customers(100).await;
    let reader = bench.database.connect().await;
    reader.batch_execute("BEGIN; UPDATE customers SET visits = 1 WHERE id = 1").await.expect("a writer");
    let mut task = bench.split();
    task.action.lock_timeout = Some(Span::millis(100));
    let running = Running::start(&task, Controls::default());
    bench.until("it waits", "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'relation'").await;
    // Other writers get through meanwhile.
    bench.database.run("SET lock_timeout = '5s'; UPDATE customers SET visits = 2 WHERE id = 2").await;
    running.stop.cancel();
    assert_eq!(running.end().await.outcome, Outcome::Stopped);
    assert_eq!(bench.ours().await, 0);
    reader.batch_execute("COMMIT").await.expect("a writer");
    tokio::time::timeout(Duration::from_mins(1), succeed(&task)).await.expect("it gets its lock");
}
