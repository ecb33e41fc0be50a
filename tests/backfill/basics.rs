//! Behaviours 29 to 31, and what a run leaves and takes away.

use alongside::worker::{backfill::task::Role, verdict::Outcome};

use crate::bench::{Bench, again, ends, role, run, succeed};

#[tokio::test]
async fn every_row_is_filled_and_the_verdict_says_how_many() {
    let bench = Bench::with_customers(20_000).await;
    let verdict = succeed(&bench.split()).await;
    bench.all_split().await;
    let summary = verdict.backfill.expect("figures");
    assert_eq!((summary.rows_scanned, summary.rows_changed, summary.rows_swept), (20_000, 20_000, 0));
    assert!(summary.chunks > 1 && summary.transactions >= summary.chunks, "{summary:?}");
    assert!(verdict.message.starts_with("Filled 20000 rows"), "{}", verdict.message);
    assert_eq!(bench.ours().await, 4, "three triggers and their function stay");
}

#[tokio::test]
async fn an_empty_table_and_one_of_one_row_finish() {
    for rows in [0, 1] {
        let bench = Bench::with_customers(rows).await;
        let summary = succeed(&bench.split()).await.backfill.expect("figures");
        assert_eq!((summary.rows_changed, summary.chunks), (rows, rows));
        bench.all_split().await;
    }
}

#[tokio::test]
async fn a_run_that_is_done_is_not_done_again() {
    let bench = Bench::with_customers(3_000).await;
    let first = succeed(&bench.split()).await.backfill.expect("figures");
    let second = succeed(&again(&bench.split())).await.backfill.expect("figures");
    assert_eq!((second.rows_changed, second.transactions), (first.rows_changed, first.transactions));
}

#[tokio::test]
async fn what_a_new_version_has_written_stays() {
    let bench = Bench::with_customers(100).await;
    bench.database.run("UPDATE customers SET first_name = 'Mary Ann', last_name = 'Smith' WHERE id = 7").await;
    succeed(&bench.split()).await;
    let kept = "SELECT count(*) FROM customers WHERE id = 7 AND first_name = 'Mary Ann' AND last_name = 'Smith'";
    assert_eq!(bench.database.count(kept).await, 1);
    assert_eq!(bench.database.count("SELECT count(*) FROM customers WHERE first_name IS NULL").await, 0);
}

#[tokio::test]
async fn undo_removes_trigger_function_and_chunks_and_keeps_the_values() {
    let bench = Bench::with_customers(3_000).await;
    let task = bench.split();
    succeed(&task).await;
    let verdict = succeed(&role(&task, Role::Undo)).await;
    assert!(verdict.message.contains("looked that they are gone"), "{}", verdict.message);
    assert_eq!(bench.ours().await, 0);
    assert_eq!(bench.database.count("SELECT count(*) FROM alongside.backfill_chunk").await, 0);
    bench.all_split().await;
    succeed(&again(&role(&task, Role::Undo))).await;
    ends(&task, Outcome::Refused, "came late and did nothing").await;
    assert_eq!(bench.ours().await, 0);
}

#[tokio::test]
async fn undo_with_delete_puts_the_columns_back_where_they_were() {
    let bench = Bench::with_customers(3_000).await;
    bench.database.run("ALTER TABLE customers ALTER last_name SET DEFAULT 'nobody'").await;
    let mut task = bench.split();
    task.action.on_rollback = alongside::api::backfill::FilledValues::Delete;
    succeed(&task).await;
    let verdict = succeed(&role(&task, Role::Undo)).await;
    assert!(verdict.message.contains("Cleared 3000 rows"), "{}", verdict.message);
    let blank = "SELECT count(*) FROM customers WHERE first_name IS NULL AND last_name = 'nobody'";
    assert_eq!(bench.database.count(blank).await, 3_000);
    let mut next = task.clone();
    next.attempt = 2;
    succeed(&next).await;
    bench.all_split().await;
}

#[tokio::test]
async fn values_that_went_out_of_date_between_two_attempts_are_computed_again() {
    let bench = Bench::with_customers(3_000).await;
    let task = bench.split();
    succeed(&task).await;
    succeed(&role(&task, Role::Undo)).await;
    // The old version goes on alone, and no trigger keeps the new columns true.
    bench.database.run("UPDATE customers SET full_name = 'new name' || id WHERE id % 3 = 0").await;
    let mut next = task.clone();
    next.attempt = 2;
    let verdict = succeed(&next).await;
    bench.all_split().await;
    assert!(verdict.message.contains("computed again"), "{}", verdict.message);
}

#[tokio::test]
async fn finish_removes_all_but_the_values() {
    let bench = Bench::with_customers(100).await;
    let task = bench.split();
    succeed(&task).await;
    succeed(&role(&task, Role::Finish)).await;
    assert_eq!(bench.ours().await, 0);
    bench.all_split().await;
    let verdict = run(&again(&role(&task, Role::Finish))).await;
    assert_eq!(verdict.outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn preflight_changes_nothing() {
    let bench = Bench::with_customers(100).await;
    let verdict = succeed(&role(&bench.split(), Role::Preflight)).await;
    assert!(verdict.message.starts_with("Nothing stands in the way"), "{verdict:?}");
    assert_eq!(bench.ours().await, 0);
    assert_eq!(bench.database.count("SELECT count(*) FROM pg_namespace WHERE nspname = 'alongside'").await, 0);
    assert_eq!(bench.database.count("SELECT count(*) FROM customers WHERE first_name IS NULL").await, 100);
}
