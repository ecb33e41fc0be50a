//! The first copy under load, what it copies, what it does when it is killed, and what is left when it has gone.

use std::time::Duration;

use alongside::worker::{
    agent::{course::Side, state::Stage},
    replicate::task::{ReplicateTask, Role},
    verdict::Outcome,
};
use rustix::process::Signal;
use tokio_postgres::Client;

use crate::{
    bench::{Bench, DEADLINE, Servers, run},
    support::{
        load::Load,
        postgres::{LOGICAL, Server},
        wait::within,
    },
};

/// A zoo: names that want quoting, every kind of key, generated and identity columns, partitions, and a dropped column.
const ZOO: &str = r#"
CREATE SCHEMA "Odd ""schema";
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TYPE pair AS (a integer, b text);
CREATE TABLE "Odd ""schema"."select" ("from" bigint PRIMARY KEY, "a b" text, "naïve" text);
CREATE TABLE everything (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gone integer, n numeric, f double precision, t text, b bytea,
    j jsonb, ts timestamptz, d date, i interval, u uuid, a integer[], r int4range, m mood, p positive, c pair, x xml,
    bits bit varying(9), net inet, twice integer GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE everything DROP COLUMN gone;
CREATE TABLE parts (id bigint, at date NOT NULL, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parts_old PARTITION OF parts FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE parts_new PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
CREATE TABLE parent (id bigint PRIMARY KEY);
CREATE TABLE child (id bigint PRIMARY KEY, parent bigint NOT NULL REFERENCES parent);
CREATE TABLE fired (n bigint);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired VALUES (1); RETURN NULL; END $$;
CREATE TRIGGER fire AFTER INSERT ON parent FOR EACH ROW EXECUTE FUNCTION fire();
CREATE UNLOGGED TABLE fleeting (id bigint PRIMARY KEY);
CREATE MATERIALIZED VIEW seen AS SELECT id FROM parent;
CREATE SEQUENCE lonely INCREMENT -3;
ALTER TABLE fired REPLICA IDENTITY FULL"#;

const ZOO_ROWS: &str = r#"
INSERT INTO "Odd ""schema"."select" SELECT n, 'x', NULL FROM generate_series(-50, 50) AS n;
INSERT INTO everything (n, f, t, b, j, ts, d, i, u, a, r, m, p, c, x, bits, net) VALUES
    ('NaN', 'Infinity', '', '\x00ff', '{"a": 1.0}', 'infinity', '-infinity', '1 mon -1 day', gen_random_uuid(),
     '{{1,2},{3,NULL}}', '[1,5)', 'glad', 7, '(1,"a ""b""")', '<a/>', '10101', '::1/64'),
    (1e-30, '-0', E'a\tb\n\\N', NULL, 'null', 'now', 'today', '0', NULL, '{}', 'empty', NULL, 1, NULL, NULL, '', NULL),
    (NULL, 'NaN', repeat('long ', 100000), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO parts SELECT n, '2019-06-01'::date + n::integer, 'p' FROM generate_series(1, 500) AS n;
INSERT INTO parent SELECT n FROM generate_series(1, 100) AS n;
INSERT INTO child SELECT n, n FROM generate_series(1, 100) AS n;
SELECT nextval('lonely'), nextval('lonely')"#;

/// Every row of these tables as text, in an order of their own.
async fn contents(client: &Client, tables: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for table in tables {
        let rows = client.query(&format!("SELECT t::text FROM {table} AS t ORDER BY t::text"), &[]).await.unwrap();
        all.extend(rows.iter().map(|row| format!("{table}: {}", row.get::<_, String>(0))));
    }
    all
}

const ZOO_TABLES: [&str; 7] =
    ["\"Odd \"\"schema\".\"select\"", "everything", "parts_old", "parts_new", "parent", "child", "fired"];

fn zoo_task(bench: &Bench) -> ReplicateTask {
    let mut task = bench.task();
    task.action.tables = vec!["public.*".into(), "Odd \"schema.*".into()];
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zoo_of_tables_is_copied_as_it_is_and_nothing_of_ours_is_left_when_the_agent_leaves() {
    let servers = Servers::shared();
    let bench = Bench::with_schema(&servers, ZOO).await;
    let (blue, green) = (bench.connect(Side::Blue).await, bench.connect(Side::Green).await);
    run(&blue, ZOO_ROWS).await;
    let mut agent = bench.settled_agent(&zoo_task(&bench)).await;
    let _operator = bench.operator(&agent.caller);
    assert_eq!(contents(&blue, &ZOO_TABLES).await, contents(&green, &ZOO_TABLES).await);
    run(&blue, "UPDATE parts SET at = '2020-02-02' WHERE id = 1; DELETE FROM child WHERE id = 5; TRUNCATE fired").await;
    agent.caller.order("/cut-over", Some(1)).await;
    agent.until_settled_in(1).await;
    assert_eq!(contents(&blue, &ZOO_TABLES).await, contents(&green, &ZOO_TABLES).await);
    let next: i64 = green.query_one("SELECT nextval('lonely')", &[]).await.unwrap().get(0);
    assert!(next < -4, "past what blue has given out: {next}");
    run(&green, "INSERT INTO everything (t) VALUES ('after')").await;
    assert!(!bench.leftovers().await.is_empty());
    agent.caller.order("/leave", None).await;
    let verdict = agent.end().await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}");
    assert_eq!(bench.leftovers().await, [""; 0]);
    run(&blue, "INSERT INTO parent VALUES (1000)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_killed_again_and_again_ends_with_every_write_there_once() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    run(
        &bench.connect(Side::Blue).await,
        "CREATE TABLE ballast (id bigint PRIMARY KEY, filler text);
         INSERT INTO ballast SELECT n, repeat('x', 300) FROM generate_series(1, 200000) AS n",
    )
    .await;
    let ballast = "CREATE TABLE ballast (id bigint PRIMARY KEY, filler text)";
    run(&bench.connect(Side::Green).await, ballast).await;
    let load = Load::start(&bench.places(&[bench.service.port()]), 4);
    kill_midway(&bench).await;
    for delay in [0, 60, 150] {
        let agent = bench.agent(&bench.task());
        agent.until("it copies", |state| state.stage != Stage::Beginning).await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        agent.signal(Signal::KILL);
    }
    let agent = bench.settled_agent(&bench.task()).await;
    let _operator = bench.operator(&agent.caller);
    load.go_on_for(100).await;
    agent.caller.order("/cut-over", Some(1)).await;
    agent.until_settled_in(1).await;
    load.go_on_for(100).await;
    let green = bench.connect(Side::Green).await;
    load.stop().await.settle(&green, "a copy killed four times").await;
    let copied: i64 = green.query_one("SELECT count(*) FROM ballast", &[]).await.unwrap().get(0);
    assert_eq!(copied, 200_000);
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
    for side in Side::ALL {
        let count: i64 = bench.connect(side).await.query_one(slots, &[]).await.unwrap().get(0);
        assert_eq!(count, 1, "one slot on {}", side.as_str());
    }
}

/// Kills an agent when some parts are copied and one is not, and sees its successor begin anew.
async fn kill_midway(bench: &Bench) {
    let (stranger, green) = (bench.connect(Side::Green).await, bench.connect(Side::Green).await);
    // Whoever copies this key waits until it is known whether the row stays.
    run(&stranger, "BEGIN; INSERT INTO movers VALUES (0, 0)").await;
    let agent = bench.agent(&bench.task());
    let copied = format!("SELECT count(*) FROM {}.copied", bench.names().schema());
    within(DEADLINE, "a part is copied", async || match green.query_one(&copied, &[]).await {
        Ok(row) if row.get::<_, i64>(0) > 0 => Ok(()),
        Ok(_) => Err("none yet".to_owned()),
        Err(error) => Err(error.to_string()),
    })
    .await;
    agent.signal(Signal::KILL);
    run(&stranger, "ROLLBACK").await;
    let successor = bench.agent(&bench.task());
    successor.until("it begins anew", |state| state.copy.restarts == 1).await;
    successor.signal(Signal::KILL);
}

#[tokio::test]
async fn preflight_names_what_stands_in_the_way_and_what_is_left_out_and_changes_nothing() {
    let servers = Servers::shared();
    let bench = Bench::with_schema(&servers, ZOO).await;
    let preflight = ReplicateTask { role: Role::Preflight, ..zoo_task(&bench) };
    let verdict = bench.agent(&preflight).end().await;
    assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:#?}");
    let messages: Vec<_> = verdict.findings.iter().map(|finding| finding.message.clone()).collect();
    for left_out in ["the unlogged table public.fleeting", "the materialized view public.seen"] {
        assert!(messages.iter().any(|message| message.contains(left_out)), "{left_out}: {messages:#?}");
    }
    run(
        &bench.connect(Side::Green).await,
        "ALTER TABLE parent DROP CONSTRAINT parent_pkey CASCADE; INSERT INTO child VALUES (1, 1); DROP SEQUENCE lonely;
         ALTER TABLE everything ALTER COLUMN d TYPE text",
    )
    .await;
    let verdict = bench.agent(&preflight).end().await;
    assert_eq!(verdict.outcome, Outcome::Refused, "{verdict:#?}");
    let mut rules: Vec<_> =
        verdict.findings.iter().filter(|finding| finding.is_error()).map(|finding| finding.rule.as_str()).collect();
    rules.sort_unstable();
    assert_eq!(rules, ["no-replica-identity", "sequence-missing", "tables-differ", "target-not-empty"]);
    assert_eq!(bench.leftovers().await, [""; 0]);
}

#[tokio::test]
async fn a_server_without_logical_wal_or_with_the_defaults_of_a_stream_is_refused_beforehand() {
    let settings: Vec<_> = LOGICAL.iter().copied().filter(|(name, _)| name.starts_with("max_wor")).collect();
    let servers = Servers { blue: Server::start_with(&settings), green: Server::start_with(&settings) };
    let bench = Bench::new(&servers).await;
    let verdict = bench.agent(&ReplicateTask { role: Role::Preflight, ..bench.task() }).end().await;
    assert_eq!(verdict.outcome, Outcome::Refused, "{verdict:#?}");
    let rules: Vec<_> = verdict.findings.iter().map(|finding| finding.rule.as_str()).collect();
    for rule in ["wal-level", "unlimited-wal", "slow-start"] {
        assert_eq!(rules.iter().filter(|found| **found == rule).count(), 2, "{rule}: {rules:?}");
    }
}

#[tokio::test]
async fn a_role_that_may_not_do_what_the_move_needs_is_told_each_thing() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let role = format!("plain_{}", bench.database);
    for side in Side::ALL {
        let made = format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'p'; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC; GRANT SELECT \
             ON ALL TABLES IN SCHEMA public TO {role}"
        );
        run(&bench.connect(side).await, &made).await;
        bench.write_uri(side, &role, "p");
    }
    let verdict = bench.agent(&ReplicateTask { role: Role::Preflight, ..bench.task() }).end().await;
    let text = format!("{verdict:#?}");
    // Who the server is can't even be read: said first, as nothing else can be decided without it.
    assert_eq!(verdict.outcome, Outcome::Refused, "{text}");
    for what in ["make a schema of our own", "make a replication slot", "make a subscription", "read who the server is"]
    {
        assert!(text.contains(what), "{what}: {text}");
    }
    for side in Side::ALL {
        run(&bench.connect(side).await, "GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC").await;
    }
    let verdict = bench.agent(&ReplicateTask { role: Role::Preflight, ..bench.task() }).end().await;
    let rules: Vec<_> = verdict.findings.iter().map(|finding| finding.rule.as_str()).collect();
    assert!(rules.contains(&"not-owner") && rules.contains(&"no-right"), "{verdict:#?}");
}

#[tokio::test]
async fn rows_in_the_new_store_are_never_touched() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let green = bench.connect(Side::Green).await;
    run(&green, "INSERT INTO counters (id) VALUES (99)").await;
    let mut agent = bench.agent(&bench.task());
    let verdict = agent.end().await;
    assert_eq!(verdict.outcome, Outcome::Refused, "{verdict:?}");
    assert!(verdict.message.contains("\"public\".\"counters\" of the new store has rows"), "{verdict:?}");
    let leave = ReplicateTask { role: Role::Leave, ..bench.task() };
    assert_eq!(bench.agent(&leave).end().await.outcome, Outcome::Succeeded);
    assert_eq!(bench.leftovers().await, [""; 0]);
    let kept: i64 = green.query_one("SELECT count(*) FROM counters", &[]).await.unwrap().get(0);
    assert_eq!(kept, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_secret_is_picked_up_by_the_stream_too() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let (blue, green) = (bench.connect(Side::Blue).await, bench.connect(Side::Green).await);
    let role = format!("mover_{}", bench.database);
    run(&blue, &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'before'")).await;
    bench.write_uri(Side::Blue, &role, "before");
    let agent = bench.settled_agent(&bench.task()).await;
    run(&blue, &format!("ALTER ROLE {role} PASSWORD 'after'")).await;
    bench.write_uri(Side::Blue, &role, "after");
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    run(&blue, &end).await;
    run(&blue, "INSERT INTO ledger (op) VALUES (7)").await;
    within(DEADLINE, "the stream goes on", async || {
        let sql = "SELECT count(*) FROM ledger WHERE op = 7";
        let count: i64 = green.query_one(sql, &[]).await.unwrap().get(0);
        if count == 1 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    agent.until("and so does the agent", |state| state.settled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_the_new_store_cannot_apply_are_counted_and_no_move_is_begun() {
    let servers = Servers::shared();
    let bench = Bench::new(&servers).await;
    let agent = bench.settled_agent(&bench.task()).await;
    // Somebody wrote on the new store: with a superuser's right, past the gate.
    run(
        &bench.connect(Side::Green).await,
        "SET session_replication_role = replica; INSERT INTO counters (id) VALUES (77)",
    )
    .await;
    run(&bench.connect(Side::Blue).await, "INSERT INTO counters (id) VALUES (77)").await;
    let state = agent.until("the conflict shows", |state| state.forward.errors > 0).await;
    assert_eq!(state.term.unwrap_or(0), 0);
    agent.caller.order("/cut-over", Some(1)).await;
    agent
        .until("it waits for the stream", |state| {
            state.waits_for.as_deref() == Some("the stream from blue to catch up") && state.term.unwrap_or(0) == 0
        })
        .await;
    // Whoever knows which row is right removes the other, and all goes on by itself.
    let _operator = bench.operator(&agent.caller);
    run(
        &bench.connect(Side::Green).await,
        "SET session_replication_role = replica; DELETE FROM counters WHERE id = 77",
    )
    .await;
    agent.until_settled_in(1).await;
    within(DEADLINE, "the row came", async || {
        let sql = "SELECT count(*) FROM counters WHERE id = 77";
        let count: i64 = bench.connect(Side::Green).await.query_one(sql, &[]).await.unwrap().get(0);
        if count == 1 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
}
