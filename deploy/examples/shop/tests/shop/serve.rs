//! `shop serve`: readiness, drain, faults, and its end.

use serde_json::{Value, json};

use crate::eventually;
use crate::postgres::Postgres;
use crate::process::{Shop, command, init_db, run};
use crate::wire::{Wire, ask};

async fn becomes_ready(shop: &Shop) {
    let look = async || (ask(shop.address, "GET /ready").await.status == 200).then_some(());
    eventually("the shop is ready", look).await;
}

async fn is_not_ready_since(shop: &Shop, reason: &str) {
    let look = async || {
        let reply = ask(shop.address, "GET /ready").await;
        (reply.status == 503 && reply.text().contains(reason)).then_some(())
    };
    eventually(reason, look).await;
}

/// A Postgres with the table, and a v1 that is ready.
async fn ready(options: &[&str]) -> (Postgres, Shop) {
    let postgres = Postgres::running().await;
    init_db(&postgres);
    let shop = Shop::serve(&postgres, "v1", options);
    becomes_ready(&shop).await;
    (postgres, shop)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_is_ready_once_the_table_has_its_columns() {
    let mut postgres = Postgres::stopped();
    let v1 = Shop::serve(&postgres, "v1", &[]);
    let v2 = Shop::serve(&postgres, "v2", &[]);
    is_not_ready_since(&v1, "could not connect").await;
    assert_eq!(ask(v1.address, "GET /healthz").await.status, 200);

    postgres.start().await;
    is_not_ready_since(&v1, "no table items").await;
    is_not_ready_since(&v2, "no table items").await;
    init_db(&postgres);
    becomes_ready(&v1).await;
    is_not_ready_since(&v2, "no column sku").await;

    assert_eq!(ask(v1.address, "POST /items/7/take").await.json()["taken"], json!(1));
    postgres.execute("ALTER TABLE items ADD COLUMN sku text").await;
    init_db(&postgres);
    becomes_ready(&v2).await;
    let old = ask(v1.address, "POST /items/7/take").await;
    assert_eq!(old.header("x-served-by"), Some("v1/v1-pod"));
    assert_eq!(old.json()["taken"], json!(2));
    assert_eq!(old.json().get("sku"), None);
    let new = ask(v2.address, "POST /items/7/take").await;
    assert_eq!(new.header("x-served-by"), Some("v2/v2-pod"));
    assert_eq!(new.json()["taken"], json!(3));
    assert_eq!(new.json()["sku"], json!("SKU-7"));

    postgres.execute("ALTER TABLE items DROP COLUMN sku").await;
    is_not_ready_since(&v2, "no column sku").await;
    becomes_ready(&v1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_comes_back_is_used_again() {
    let (mut postgres, shop) = ready(&[]).await;
    assert_eq!(ask(shop.address, "GET /items/1").await.status, 200);
    postgres.stop();
    assert_eq!(ask(shop.address, "GET /items/1").await.status, 503);
    postgres.start().await;
    let look = async || (ask(shop.address, "GET /items/1").await.status == 200).then_some(());
    eventually("items can be read again", look).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_databases_url_may_come_from_a_file() {
    let postgres = Postgres::running().await;
    let file = postgres.folder().join("url");
    std::fs::write(&file, format!("{}\n", postgres.url())).unwrap();
    let output = command(&["init-db"]).env("DATABASE_URL_FILE", &file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    postgres.execute("SELECT FROM items").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_is_refused() {
    let (postgres, shop) = ready(&[]).await;
    assert_eq!(ask(shop.address, "GET /items/101").await.status, 404);
    assert_eq!(ask(shop.address, "POST /items/101/take").await.status, 404);
    postgres.execute("UPDATE items SET stock = 0 WHERE id = 5").await;
    assert_eq!(ask(shop.address, "POST /items/5/take").await.status, 409);
    assert_eq!(postgres.taken().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_closes_the_connections_before_it_and_spares_those_after_it() {
    let (_postgres, shop) = ready(&["--drain-idle=3s"]).await;
    let mut busy = Wire::open(shop.address).await;
    let mut idle = Wire::open(shop.address).await;
    let mut silent = Wire::open(shop.address).await;
    let mut scrape = Wire::open(shop.address).await;
    for wire in [&mut busy, &mut idle] {
        assert!(!wire.ask("GET /items/1").await.closes());
    }
    assert!(!scrape.ask("GET /metrics").await.closes());
    // The silent one is known to be accepted: the kernel hands connections over in order.
    let drain = scrape.ask("POST /drain").await;
    assert_eq!(drain.json(), json!({ "connections": 3 }));

    let mut later = Wire::open(shop.address).await;
    assert!(busy.ask("GET /items/1").await.closes());
    busy.closed().await;
    idle.closed().await;
    silent.closed().await;
    assert!(!later.ask("GET /items/1").await.closes(), "opened after the drain");
    assert!(!scrape.ask("GET /metrics").await.closes(), "carries no traffic");

    // A client sees its connection close a moment before the server has counted it out.
    eventually("only the later one is left", async || (left(&shop).await == 1).then_some(())).await;
    later.closed().await;
    eventually("none is left", async || (left(&shop).await == 0).then_some(())).await;
}

/// How many connections the drain still waits for.
async fn left(shop: &Shop) -> u64 {
    ask(shop.address, "GET /drain").await.json()["connections"].as_u64().expect("the hook counts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_finished_before_its_connection_closes() {
    let (_postgres, shop) = ready(&["--drain-idle=1s", "--latency=2s"]).await;
    let mut busy = Wire::open(shop.address).await;
    let in_flight = tokio::spawn(async move {
        let reply = busy.ask("POST /items/1/take").await;
        busy.closed().await;
        (reply.status, reply.closes())
    });
    let look = async || (ask(shop.address, "GET /drain").await.json()["connections"] == 1).then_some(());
    eventually("the request is in flight", look).await;
    assert_eq!(in_flight.await.unwrap(), (200, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_can_be_ordered_and_are_counted() {
    let (postgres, shop) = ready(&["--errors=0.3"]).await;
    let mut wire = Wire::open(shop.address).await;
    let mut failed = 0;
    for _ in 0..100 {
        failed += u32::from(wire.ask("POST /items/1/take").await.status == 500);
    }
    assert_eq!(failed, 30);
    assert_eq!(postgres.taken().await, 70, "what was answered with 500 has not been written");

    let metrics = ask(shop.address, "GET /metrics").await;
    for line in [
        r#"http_requests_total{service="inventory",version="v1",code="200"} 70"#,
        r#"http_requests_total{service="inventory",version="v1",code="500"} 30"#,
        r#"http_request_duration_seconds_count{service="inventory",version="v1"} 100"#,
    ] {
        assert!(metrics.text().contains(line), "{line} is missing in:\n{}", metrics.text());
    }

    let mut admin = Wire::open(shop.admin.unwrap()).await;
    let fault = admin.ask_with("POST /fault", r#"{"errors": 0, "latency": "1ms"}"#).await.json();
    assert_eq!((&fault["errors"], &fault["latency_ms"]), (&json!(0.0), &json!(1)));
    assert!(fault["errors_from_ms"].as_u64() >= fault["first_request_ms"].as_u64());
    for _ in 0..100 {
        assert_eq!(wire.ask("GET /items/1").await.status, 200);
    }
    assert_eq!(admin.ask_with("POST /fault", r#"{"error": 1}"#).await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_waits_for_traffic_and_happens_in_each_life() {
    let postgres = Postgres::running().await;
    init_db(&postgres);
    for _ in 0..2 {
        let mut shop = Shop::serve(&postgres, "v1", &["--crash-after=200ms"]);
        becomes_ready(&shop).await;
        assert_eq!(ask(shop.address, "GET /items/1").await.status, 200);
        assert_eq!(shop.ended().await.code(), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_for_good_keeps_the_next_life_from_starting() {
    let postgres = Postgres::running().await;
    init_db(&postgres);
    let marker = postgres.folder().join("crashed");
    let marker = format!("--crash-marker={}", marker.display());
    let mut shop = Shop::serve(&postgres, "v1", &[&marker]);
    becomes_ready(&shop).await;
    assert_eq!(ask(shop.address, "GET /items/1").await.status, 200);
    let mut admin = Wire::open(shop.admin.unwrap()).await;
    let fault = admin.ask_with("POST /fault", r#"{"crash_after": "100ms"}"#).await.json();
    assert!(fault["crash_at_ms"].is_u64());
    assert_eq!(shop.ended().await.code(), Some(1));

    let again =
        command(&["serve", "--listen=127.0.0.1:0", &marker]).env("DATABASE_URL", postgres.url()).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("crashed before"));
}

#[tokio::test(flavor = "multi_thread")]
async fn get_and_post_print_the_body_and_fail_unless_the_status_is_good() {
    let (_postgres, shop) = ready(&[]).await;
    let url = |path: &str| format!("http://{}{path}", shop.address);
    let got = run(&["get", &url("/items/3")]);
    assert!(got.status.success());
    let item: Value = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!(item["id"], json!(3));
    let posted = run(&["post", &url("/items/3/take")]);
    let item: Value = serde_json::from_slice(&posted.stdout).unwrap();
    assert_eq!((posted.status.success(), &item["taken"]), (true, &json!(1)));
    let missing = run(&["get", &url("/items/101")]);
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stdout).contains("no such item"));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("404"));
}
