//! `shop load` over flips, ends and crashes of what it is sent to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::eventually;
use crate::postgres::Postgres;
use crate::process::{Shop, init_db, run};
use crate::service::Service;
use crate::wire::{Wire, ask};

/// Patient, so that a slow machine is no failure.
const GENTLE: [&str; 4] = ["--rate=200", "--keep-alive=8", "--items=100", "--timeout=30s"];

/// Both versions over one table that has been expanded, as patient.
async fn both_versions(options: &[&str]) -> (Postgres, Shop, Shop) {
    let postgres = Postgres::running().await;
    init_db(&postgres);
    postgres.execute("ALTER TABLE items ADD COLUMN sku text").await;
    let options = [&["--database-timeout=20s", "--drain-idle=20s"], options].concat();
    let [v1, v2] = ["v1", "v2"].map(|version| Shop::serve(&postgres, version, &options));
    (postgres, v1, v2)
}

async fn stats(load: &Shop) -> Value {
    ask(load.address, "GET /stats").await.json()
}

fn answers(stats: &Value, kind: &str, version: &str) -> u64 {
    let version = &stats["connections"][kind]["versions"][version];
    version["ok"].as_u64().unwrap_or(0) + version["failed"].as_u64().unwrap_or(0)
}

/// Waits until `version` has given a number of answers on both kinds of connections.
async fn is_answered_by(load: &Shop, version: &str) {
    let look = async || {
        let stats = stats(load).await;
        ["new", "keep-alive"].iter().all(|kind| answers(&stats, kind, version) >= 50).then_some(())
    };
    eventually("both kinds of connections are answered by the version", look).await;
}

/// Waits until each kept connection has been given its answers by `version` alone.
async fn is_answered_only_by(load: &Shop, version: &str) {
    ask(load.address, "POST /mark?name=only").await;
    is_answered_by(load, version).await;
    let stats = stats(load).await;
    for kind in ["new", "keep-alive"] {
        let versions = stats["connections"][kind]["versions"].as_object().unwrap();
        assert_eq!(versions.keys().collect::<Vec<_>>(), [version], "{kind}");
    }
}

/// Stops the load and returns its last account, which is complete.
async fn stop(load: &mut Shop) -> Value {
    let last = ask(load.address, "POST /stop").await.json();
    assert!(load.ended().await.success());
    assert!(is_complete(&last), "{last:#}");
    last
}

/// Returns the account of a window that was closed, once all that was due in it has ended.
async fn account_of(load: &Shop, window: &str) -> Value {
    let look = async || {
        let account = ask(load.address, &format!("GET /stats?window={window}")).await.json();
        is_complete(&account).then_some(account)
    };
    eventually("the window's last request ends", look).await
}

fn is_complete(account: &Value) -> bool {
    let total = &account["total"];
    count(total, "waiting") == 0 && count(total, "in_flight") == 0
}

fn count(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap()
}

fn adds_up(account: &Value) {
    let (new, kept) = (&account["connections"]["new"], &account["connections"]["keep-alive"]);
    for sums in [&account["total"], new, kept] {
        let begun = count(sums, "sent") + count(sums, "missed") + count(sums, "waiting");
        assert_eq!(count(sums, "due"), begun, "{sums}");
        let ended = count(sums, "ok") + count(sums, "failed") + count(sums, "in_flight");
        assert_eq!(count(sums, "sent"), ended, "{sums}");
    }
    assert_eq!(count(&account["total"], "sent"), count(new, "sent") + count(kept, "sent"));
}

fn none_failed(account: &Value) {
    adds_up(account);
    assert_eq!(account["total"]["failed"], json!(0), "{account:#}");
    assert_eq!(account["total"]["missed"], json!(0), "{account:#}");
    assert_eq!(account["connections"]["keep-alive"]["reads_retried"], json!(0), "{account:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_over_a_flip_a_drain_and_the_way_back() {
    let (postgres, v1, v2) = both_versions(&[]).await;
    let service = Service::to(v1.address).await;
    let mut load = Shop::load(service.address, &GENTLE);
    is_answered_by(&load, "v1").await;
    for (from, to, version) in [(&v1, &v2, "v2"), (&v2, &v1, "v1")] {
        service.flip(to.address);
        let drained = async || (ask(from.address, "POST /drain").await.json()["connections"] == 0).then_some(());
        eventually("the old side is drained", drained).await;
        ask(load.address, &format!("POST /mark?name=on-{version}")).await;
        is_answered_by(&load, version).await;
    }
    for window in ["start", "on-v2"] {
        none_failed(&account_of(&load, window).await);
    }
    let last = stop(&mut load).await;
    none_failed(&last);
    let versions = last["connections"]["keep-alive"]["versions"].as_object().unwrap();
    assert_eq!(versions.keys().collect::<Vec<_>>(), ["v1"], "each kept connection went along");
    assert!(postgres.taken().await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_drain_kept_connections_stay_where_they_are() {
    let (_postgres, v1, v2) = both_versions(&[]).await;
    let service = Service::to(v1.address).await;
    let mut load = Shop::load(service.address, &GENTLE);
    is_answered_by(&load, "v1").await;
    service.flip(v2.address);
    ask(load.address, "POST /mark?name=flipped").await;
    let look = async || {
        let stats = stats(&load).await;
        (answers(&stats, "new", "v2") >= 50 && answers(&stats, "keep-alive", "v1") >= 50).then_some(stats)
    };
    let stats = eventually("new connections have moved", look).await;
    assert_eq!(answers(&stats, "keep-alive", "v2"), 0);
    none_failed(&stop(&mut load).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_over_a_termination_that_clients_hear_of_late() {
    let (_postgres, mut v1, v2) = both_versions(&["--grace=8s"]).await;
    let service = Service::to(v1.address).await;
    let mut load = Shop::load(service.address, &GENTLE);
    is_answered_by(&load, "v1").await;
    v1.terminate();
    // Still sent there, as by a node that has not heard yet.
    let look = async || (ask(v1.address, "GET /ready").await.status == 503).then_some(());
    eventually("it says that it stops", look).await;
    is_answered_by(&load, "v1").await;
    service.flip(v2.address);
    assert_eq!(v1.ended().await.code(), Some(0));
    is_answered_only_by(&load, "v2").await;
    none_failed(&account_of(&load, "start").await);
    none_failed(&stop(&mut load).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_costs_is_accounted_for() {
    let (postgres, mut v1, v2) = both_versions(&[]).await;
    let service = Service::to(v1.address).await;
    let mut load = Shop::load(service.address, &GENTLE);
    is_answered_by(&load, "v1").await;
    v1.kill();
    let look = async || {
        let failed = stats(&load).await["total"]["failed"].as_u64();
        failed.is_some_and(|failed| failed >= 20).then_some(())
    };
    eventually("requests fail", look).await;
    service.flip(v2.address);
    is_answered_by(&load, "v2").await;

    let last = stop(&mut load).await;
    adds_up(&last);
    let total = &last["total"];
    let by_kind: u64 = total["failed_by"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(count(total, "failed"), by_kind);
    assert!(count(total, "first_failure_ms") <= count(total, "last_failure_ms"));
    assert!(count(total, "last_failure_ms") <= count(total, "first_good_after_failure_ms"));
    for kind in ["new", "keep-alive"] {
        let versions = &last["connections"][kind]["versions"];
        assert!(count(&versions["v1"], "last_answer_ms") <= count(&versions["v2"], "first_answer_ms"), "{kind}");
    }

    let written = u64::try_from(postgres.taken().await).unwrap();
    let takes = &last["takes"];
    assert!(count(takes, "acknowledged") <= written && written <= count(takes, "sent"), "{written} written, {takes}");
    let totals = ask(v2.address, "GET /totals").await.json();
    assert_eq!((count(&totals, "taken"), count(&totals, "items")), (written, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_acknowledged_take_is_in_the_table_once() {
    let (postgres, v1, _v2) = both_versions(&[]).await;
    let mut load = Shop::load(v1.address, &GENTLE);
    let scraped = eventually("the load counts", async || {
        let metrics = ask(load.address, "GET /metrics").await;
        metrics.text().contains(r#"load_requests_total{connection="new",outcome="ok",version="v1"}"#).then_some(())
    });
    scraped.await;
    let last = stop(&mut load).await;
    none_failed(&last);
    assert_eq!(count(&last["takes"], "acknowledged"), u64::try_from(postgres.taken().await).unwrap());
    assert_eq!(count(&last["takes"], "acknowledged"), count(&last["takes"], "sent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_has_each_request_by_itself() {
    let (_postgres, v1, v2) = both_versions(&[]).await;
    let mut load = Shop::load(v2.address, &GENTLE);
    Wire::open(v2.admin.unwrap()).await.ask_with("POST /fault", r#"{"errors": 0.5}"#).await;
    is_answered_by(&load, "v2").await;
    let before = stats(&load).await;
    let record = ask(load.address, "GET /requests").await.text().to_owned();
    let after = stop(&mut load).await;

    let with = |end: &str| record.lines().filter(|line| line.ends_with(end)).count() as u64;
    for (end, counted) in [(",v2,ok", "ok"), (",v2,5xx", "failed")] {
        let (least, most) = (count(&before["total"], counted), count(&after["total"], counted));
        assert!((least..=most).contains(&with(end)), "{least} to {most} have {counted}, on record are {}", with(end));
    }
    assert_eq!(with(",v2,ok") + with(",v2,5xx") + 1, record.lines().count() as u64, "and one line is the head");
    drop(v1);
}

/// A server that answers the first request on each connection, and closes the connection on the
/// second without a word. Returns its address and how many requests it has read.
async fn breaks_off_each_second_request() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let read = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&read);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""] {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if stream.read_line(&mut head).await.unwrap() == 0 {
                            return;
                        }
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, read)
}

/// Sends to such a server on one kept connection, and returns the account with what it has read.
async fn over_broken_connections(take_share: &str) -> (Value, u64) {
    let (address, read) = breaks_off_each_second_request().await;
    let mut load = Shop::load(address, &["--rate=100", "--keep-alive=1", "--new-share=0", take_share]);
    let look = async || (count(&stats(&load).await["total"], "sent") >= 20).then_some(());
    eventually("20 requests have been sent", look).await;
    let last = stop(&mut load).await;
    adds_up(&last);
    (last, read.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_connection_breaks_is_a_failure_and_is_not_sent_again() {
    let (account, read) = over_broken_connections("--take-share=1").await;
    assert_eq!(count(&account["total"], "sent"), read);
    assert_eq!(count(&account["total"]["failed_by"], "reset"), read / 2);
    assert_eq!(account["connections"]["keep-alive"]["reads_retried"], json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_whose_kept_connection_breaks_is_sent_once_more() {
    let (account, read) = over_broken_connections("--take-share=0").await;
    let retried = count(&account["connections"]["keep-alive"], "reads_retried");
    assert_eq!(account["total"]["failed"], json!(0));
    assert_eq!(count(&account["total"], "sent") + retried, read);
    assert_eq!(count(&account["total"], "sent"), retried + 1, "all but the first met a connection that broke");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_with_an_end_sends_what_is_due_until_then_and_prints_its_account() {
    let (_postgres, v1, _v2) = both_versions(&[]).await;
    let url = format!("--url=http://{}", v1.address);
    let output = run(&["load", "--listen=127.0.0.1:0", "--rate=100", "--for=1s", "--items=100", &url]);
    assert!(output.status.success());
    let account: Value = serde_json::from_slice(&output.stdout).unwrap();
    adds_up(&account);
    assert_eq!(account["total"]["due"], json!(100));
    assert_eq!(account["total"]["in_flight"], json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ordered_errors_are_told_by_their_kind_and_version() {
    let (_postgres, v1, v2) = both_versions(&[]).await;
    let mut load = Shop::load(v2.address, &GENTLE);
    is_answered_by(&load, "v2").await;
    let mut admin = Wire::open(v2.admin.unwrap()).await;
    ask(load.address, "POST /mark?name=errors").await;
    none_failed(&account_of(&load, "start").await);
    admin.ask_with("POST /fault", r#"{"errors": 1}"#).await;
    let look = async || (stats(&load).await["total"]["failed"].as_u64()? >= 50).then_some(());
    eventually("requests fail", look).await;
    admin.ask_with("POST /fault", r#"{"errors": 0}"#).await;
    let look = async || stats(&load).await["total"]["first_good_after_failure_ms"].as_u64();
    eventually("requests are good again", look).await;

    let last = stop(&mut load).await;
    adds_up(&last);
    assert_eq!(last["total"]["failed_by"], json!({ "5xx": last["total"]["failed"] }));
    assert_eq!(last["window"], json!("errors"));
    for kind in ["new", "keep-alive"] {
        let versions = last["connections"][kind]["versions"].as_object().unwrap();
        assert_eq!(versions.keys().collect::<Vec<_>>(), ["v2"]);
    }
    drop(v1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stalls_is_timed_from_when_each_request_was_due() {
    let (_postgres, v1, _v2) = both_versions(&["--latency=400ms"]).await;
    // One connection and ten requests a second: each is due 100 ms after the one before it and
    // takes 400 ms, so they queue, and past the timeout they are missed.
    let options = ["--rate=10", "--keep-alive=1", "--new-share=0", "--timeout=1s", "--items=100"];
    let mut load = Shop::load(v1.address, &options);
    let look = async || (count(&stats(&load).await["total"], "due") >= 40).then_some(());
    eventually("40 requests have become due", look).await;
    let last = stop(&mut load).await;
    adds_up(&last);
    assert!(count(&last["total"], "missed") > 0);
    assert!(last["total"]["slowest_ms"].as_f64().unwrap() > 1_000.0, "waiting in the queue counts");
}
