//! The ways that look simpler, each shown to lose writes or to let them through, beside the way that was taken.

use std::{sync::Arc, time::Duration};

use alongside::{
    stores::postgres::{
        QueryError, Session,
        gate::{self, Fence, FenceError},
        replication::{self, Names, Stream, Table},
        slot, snapshot_copy,
    },
    worker::agent::course::Side,
};
use tokio_postgres::Client;

use crate::{
    bench::{Bench, DEADLINE, Servers, run},
    support::wait::within,
};

const SCHEMA: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, note text)";
const WAIT: Duration = Duration::from_secs(5);

/// One side with its gate on `orders`, open.
struct Gated {
    bench: Bench,
    names: Names,
    session: Session,
    _servers: Arc<Servers>,
}

impl Gated {
    async fn new() -> Self {
        let servers = Servers::shared();
        let bench = Bench::with_schema(&servers, SCHEMA).await;
        let (names, session) = (bench.names(), bench.session(Side::Blue).await);
        let tables = tables(&session).await;
        replication::install(&session, &names, &tables, true).await.unwrap();
        gate::install(&session, &names, &tables).await.unwrap();
        Self { bench, names, session, _servers: servers }
    }

    async fn client(&self) -> Client {
        self.bench.connect(Side::Blue).await
    }

    async fn fence(&self, term: u32, deadline: Duration) -> Result<Fence, FenceError> {
        Fence::shut(self.bench.session(Side::Blue).await, &self.names, term, WAIT, deadline).await
    }

    async fn move_away(&self) {
        self.fence(1, WAIT).await.unwrap().commit(&self.names, 1).await.unwrap();
    }
}

async fn tables(session: &Session) -> Vec<Table> {
    replication::tables(session, &["public.*".to_owned()]).await.unwrap()
}

async fn code(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => "written".to_owned(),
        Err(error) => error.code().expect("the server says so").code().to_owned(),
    }
}

/// Starts a statement, and waits until the server shows it waiting for a lock.
async fn starts_waiting(gated: &Gated, sql: &'static str) -> tokio::task::JoinHandle<String> {
    let client = gated.client().await;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let waiting = tokio::spawn(async move { code(&client, sql).await });
    let look = gated.client().await;
    within(DEADLINE, "the writer waits", async || {
        let sql = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1";
        let waits = look.query_one(sql, &[&pid]).await.unwrap().get::<_, Option<bool>>(0);
        if waits == Some(true) { Ok(()) } else { Err("it doesn't") }
    })
    .await;
    waiting
}

#[tokio::test]
async fn a_row_that_says_moved_is_not_seen_by_an_older_snapshot_but_the_gate_is() {
    let gated = Gated::new().await;
    let admin = gated.client().await;
    run(
        &admin,
        "CREATE TABLE naive (moved boolean); INSERT INTO naive VALUES (false);
         CREATE TABLE naive_orders (id bigint PRIMARY KEY);
         CREATE FUNCTION naive_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_advisory_xact_lock_shared(4711);
             IF (SELECT moved FROM naive) THEN RAISE EXCEPTION 'moved' USING ERRCODE = '25006'; END IF;
             RETURN NULL; END $$;
         CREATE TRIGGER naive BEFORE INSERT ON naive_orders FOR EACH STATEMENT EXECUTE FUNCTION naive_gate()",
    )
    .await;
    let (first, second) = (gated.client().await, gated.client().await);
    for client in [&first, &second] {
        run(client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM orders").await;
    }
    run(&admin, "BEGIN; SELECT pg_advisory_xact_lock(4711); UPDATE naive SET moved = true; COMMIT").await;
    gated.move_away().await;
    assert_eq!(code(&first, "INSERT INTO naive_orders VALUES (1); COMMIT").await, "written", "the trap");
    assert_eq!(code(&second, "INSERT INTO orders VALUES (1); COMMIT").await, "25006");
}

#[tokio::test]
async fn read_only_settings_are_walked_through_and_the_gate_is_not() {
    let gated = Gated::new().await;
    let (pooled, other) = (gated.client().await, gated.client().await);
    let database = gated.bench.database.clone();
    run(&other, &format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await;
    // A session that a pooler keeps open hears nothing of it; a new one can say otherwise.
    assert_eq!(code(&pooled, "INSERT INTO orders VALUES (1)").await, "written", "the trap");
    let fresh = gated.client().await;
    let says_otherwise = "BEGIN; SET TRANSACTION READ WRITE; INSERT INTO orders VALUES (2); COMMIT";
    assert_eq!(code(&fresh, says_otherwise).await, "written", "the trap");
    run(&other, &format!("ALTER DATABASE {database} RESET default_transaction_read_only")).await;
    gated.move_away().await;
    assert_eq!(code(&pooled, "INSERT INTO orders VALUES (3)").await, "25006");
    assert_eq!(code(&gated.client().await, says_otherwise).await, "25006");
}

#[tokio::test]
async fn writers_that_waited_for_a_table_lock_commit_after_it_and_those_that_waited_for_the_gate_do_not() {
    let gated = Gated::new().await;
    let admin = gated.client().await;
    run(&admin, "CREATE TABLE locked (id bigint PRIMARY KEY)").await;
    run(&admin, "BEGIN; LOCK TABLE locked IN EXCLUSIVE MODE").await;
    let waiting = starts_waiting(&gated, "INSERT INTO locked VALUES (1)").await;
    run(&admin, "COMMIT").await;
    assert_eq!(waiting.await.unwrap(), "written", "the trap");
    let fence = gated.fence(1, WAIT).await.unwrap();
    let waiting = starts_waiting(&gated, "INSERT INTO orders VALUES (1)").await;
    fence.commit(&gated.names, 1).await.unwrap();
    assert_eq!(waiting.await.unwrap(), "25006");
}

#[tokio::test]
async fn truncate_and_writers_that_are_let_in_again_are_the_gates_too() {
    let gated = Gated::new().await;
    let fence = gated.fence(1, WAIT).await.unwrap();
    let waiting = starts_waiting(&gated, "INSERT INTO orders VALUES (1)").await;
    fence.lift().await.unwrap();
    assert_eq!(waiting.await.unwrap(), "written");
    gated.move_away().await;
    let client = gated.client().await;
    for sql in ["TRUNCATE orders", "DELETE FROM orders", "UPDATE orders SET note = 'x' WHERE false"] {
        assert_eq!(code(&client, sql).await, "25006", "{sql}");
    }
    let copier = gated.client().await;
    let sink = copier.copy_in::<_, std::io::Cursor<Vec<u8>>>("COPY orders FROM STDIN").await.unwrap();
    futures::pin_mut!(sink);
    let refused = sink.finish().await.expect_err("the gate is shut");
    assert_eq!(refused.code().map(tokio_postgres::error::SqlState::code), Some("25006"));
    // Reading goes on, and so does what isn't in the migration.
    run(&client, "SELECT * FROM orders; CREATE TABLE other (); INSERT INTO other DEFAULT VALUES").await;
    gate::open(&gated.session, &gated.names, 2, false).await.unwrap();
    assert_eq!(code(&client, "INSERT INTO orders VALUES (2)").await, "written");
}

#[tokio::test]
async fn a_fence_whose_deadline_has_passed_cannot_commit_and_writers_go_on() {
    let gated = Gated::new().await;
    let fence = gated.fence(1, Duration::from_millis(50)).await.unwrap();
    let waiting = starts_waiting_or_written(&gated).await;
    assert_eq!(waiting, "written");
    let error = fence.commit(&gated.names, 1).await.expect_err("the server has ended the session");
    assert!(matches!(error, QueryError::Lost { .. }), "{error:?}");
    let gate = gate::read(&gated.session, &gated.names).await.unwrap();
    assert!(gate.open && gate.lets_in && gate.term == 0, "{gate:?}");
}

async fn starts_waiting_or_written(gated: &Gated) -> String {
    code(&gated.client().await, "INSERT INTO orders VALUES (1)").await
}

#[tokio::test]
async fn a_writer_that_does_not_end_keeps_the_fence_from_being_taken_and_nobody_else_from_writing_after() {
    let gated = Gated::new().await;
    let writer = gated.client().await;
    run(&writer, "BEGIN; INSERT INTO orders VALUES (1)").await;
    let session = gated.bench.session(Side::Blue).await;
    let short = Duration::from_millis(100);
    let fence = Fence::shut(session, &gated.names, 1, short, WAIT).await;
    assert!(matches!(fence, Err(FenceError::Busy(_))));
    assert_eq!(code(&gated.client().await, "INSERT INTO orders VALUES (2)").await, "written");
    assert_eq!(code(&writer, "INSERT INTO orders VALUES (3); COMMIT").await, "written");
}

#[tokio::test]
async fn after_a_crash_between_sequence_and_row_the_row_decides() {
    let gated = Gated::new().await;
    let client = gated.client().await;
    run(&client, &format!("SELECT setval('{}.gate_place', 2)", gated.names.schema())).await;
    assert_eq!(code(&client, "INSERT INTO orders VALUES (1)").await, "25006");
    gate::mend(&gated.session, &gated.names).await.unwrap();
    assert_eq!(code(&client, "INSERT INTO orders VALUES (1)").await, "written");
    gated.move_away().await;
    run(&client, &format!("SELECT setval('{}.gate_place', 1)", gated.names.schema())).await;
    gate::mend(&gated.session, &gated.names).await.unwrap();
    assert_eq!(code(&client, "INSERT INTO orders VALUES (2)").await, "25006");
}

#[tokio::test]
async fn a_move_commits_once_and_only_from_the_term_before() {
    let gated = Gated::new().await;
    assert!(matches!(gated.fence(2, WAIT).await, Err(FenceError::NotOpen { expected: 1, .. })));
    gated.move_away().await;
    assert!(matches!(gated.fence(1, WAIT).await, Err(FenceError::NotOpen { .. })));
    let gate = gate::read(&gated.session, &gated.names).await.unwrap();
    assert!(!gate.open && !gate.lets_in && gate.term == 1, "{gate:?}");
}

#[tokio::test]
async fn a_slot_and_a_snapshot_taken_beside_it_differ_by_what_commits_between_and_an_exported_one_does_not() {
    let servers = Servers::shared();
    let bench = Bench::with_schema(&servers, SCHEMA).await;
    let (blue, session) = (bench.connect(Side::Blue).await, bench.session(Side::Blue).await);
    run(&blue, "CREATE PUBLICATION trap FOR TABLE orders").await;
    let seen = async |snapshot: &str, slot_name: &str| {
        let reader = bench.session(Side::Blue).await;
        snapshot_copy::import(&reader, snapshot).await.unwrap();
        let copied: i64 = reader.value("SELECT count(*) FROM orders", &[]).await.unwrap();
        let sql = "SELECT count(*) FROM pg_logical_slot_peek_binary_changes($1::text::name, NULL, NULL, 'proto_version', \
                   '1', 'publication_names', 'trap') WHERE get_byte(data, 0) = ascii('I')";
        let streamed: i64 = session.value(sql, &[&slot_name]).await.unwrap();
        copied + streamed
    };
    let naive = format!("{}_naive", bench.database);
    slot::create(&session, &naive).await.unwrap();
    run(&blue, "INSERT INTO orders VALUES (1)").await;
    let holder = bench.session(Side::Blue).await;
    holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    let snapshot = snapshot_copy::export(&holder).await.unwrap();
    assert_eq!(seen(&snapshot, &naive).await, 2, "the trap: one row, copied and streamed");
    slot::drop_slot(&session, &naive).await.unwrap();
    let good = format!("{}_good", bench.database);
    let exported = slot::create_exported(&bench.store(Side::Blue), &good).await.unwrap();
    run(&blue, "INSERT INTO orders VALUES (2)").await;
    assert_eq!(seen(&exported.snapshot, &good).await, 2, "two rows, each once");
    drop(exported);
    slot::drop_slot(&session, &good).await.unwrap();
}

#[tokio::test]
async fn a_slot_with_its_snapshot_is_made_with_tls_and_without() {
    let servers = Servers::shared();
    let bench = Bench::with_schema(&servers, SCHEMA).await;
    for (mode, tls) in [("disable", false), ("require", true)] {
        bench.write_uri_with(Side::Blue, &format!("sslmode={mode}"));
        let session = bench.session(Side::Blue).await;
        let in_use: bool =
            session.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.unwrap();
        assert_eq!(in_use, tls, "{mode}");
        let name = format!("{}_{mode}", bench.database);
        let exported = slot::create_exported(&bench.store(Side::Blue), &name).await.unwrap();
        snapshot_copy::import(&session, &exported.snapshot).await.unwrap();
        session.roll_back().await.unwrap();
        drop(exported);
        slot::drop_slot(&session, &name).await.unwrap();
        assert_eq!(slot::state(&session, &name).await.unwrap(), None, "{mode}");
    }
}

#[tokio::test]
async fn an_advanced_slot_goes_back_when_its_server_crashes_but_a_reader_told_where_to_begin_does_not() {
    let mut servers = Servers::start();
    let bench = Bench::with_schema(&servers, SCHEMA).await;
    let names = bench.names();
    let (blue, green) = (bench.session(Side::Blue).await, bench.session(Side::Green).await);
    for (session, open) in [(&blue, true), (&green, false)] {
        replication::install(session, &names, &tables(session).await, open).await.unwrap();
    }
    let rev = names.stream(Stream::Reverse);
    slot::create(&green, &rev).await.unwrap();
    replication::subscribe(&blue, &names, Stream::Reverse, &bench.store(Side::Green), false).await.unwrap();
    // What green has from blue, and blue has changed since.
    run(&bench.connect(Side::Green).await, "INSERT INTO orders VALUES (1, 'old')").await;
    run(&bench.connect(Side::Blue).await, "INSERT INTO orders VALUES (2, 'new')").await;
    let place = slot::advance(&green, &rev).await.unwrap();
    replication::begin_after(&blue, &names, Stream::Reverse, &place).await.unwrap();
    servers.green.crash_and_restart();
    let green = bench.session(Side::Green).await;
    let behind = slot::state(&green, &rev).await.unwrap().unwrap().behind_bytes.unwrap();
    let sql = "SELECT count(*) FROM pg_logical_slot_peek_binary_changes($1::text::name, NULL, NULL, 'proto_version', '1', \
               'publication_names', $2) WHERE get_byte(data, 0) = ascii('I')";
    let again: i64 = green.value(sql, &[&rev, &names.publication()]).await.unwrap();
    assert_eq!(again, 1, "the trap: what the slot was moved past would stream again ({behind} bytes)");
    replication::enable(&blue, &names, Stream::Reverse).await.unwrap();
    run(&bench.connect(Side::Green).await, "INSERT INTO orders VALUES (3, 'after')").await;
    let look = bench.connect(Side::Blue).await;
    within(DEADLINE, "what came later arrives", async || {
        let count: i64 = look.query_one("SELECT count(*) FROM orders WHERE id = 3", &[]).await.unwrap().get(0);
        if count == 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    let count: i64 = look.query_one("SELECT count(*) FROM orders WHERE id = 1", &[]).await.unwrap().get(0);
    assert_eq!(count, 0, "what was moved past did not come");
}

#[tokio::test]
async fn with_both_streams_enabled_one_update_goes_round_for_ever() {
    let servers = Servers::shared();
    let bench = Bench::with_schema(&servers, SCHEMA).await;
    let names = bench.names();
    let (blue, green) = (bench.session(Side::Blue).await, bench.session(Side::Green).await);
    for (session, open) in [(&blue, true), (&green, false)] {
        replication::install(session, &names, &tables(session).await, open).await.unwrap();
        run(&bench.connect(if open { Side::Blue } else { Side::Green }).await, "INSERT INTO orders VALUES (1, 'x')")
            .await;
    }
    for (stream, from, to, at) in
        [(Stream::Forward, &blue, &green, Side::Blue), (Stream::Reverse, &green, &blue, Side::Green)]
    {
        slot::create(from, &names.stream(stream)).await.unwrap();
        replication::subscribe(to, &names, stream, &bench.store(at), true).await.unwrap();
    }
    let client = bench.connect(Side::Blue).await;
    run(&client, "UPDATE orders SET note = 'y'").await;
    // The row's place in the table changes with each round.
    within(DEADLINE, "the update goes round", async || {
        let sql = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'orders'";
        let updates: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        if updates > 20 { Ok(()) } else { Err(updates.to_string()) }
    })
    .await;
    for session in [&blue, &green] {
        for stream in Stream::ALL {
            replication::drop_subscription(session, &names, stream).await.unwrap();
        }
    }
    for session in [&blue, &green] {
        assert_eq!(replication::uninstall(session, &names).await.unwrap(), [""; 0]);
    }
}
