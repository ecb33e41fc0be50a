//! The way to a store: TLS as strict as the URI asks, and our own statements as the server understands them.

use alongside::{
    stores::postgres::{ConnectError, Postgres, connect::chain},
    worker::{
        task::{Role, Task},
        verdict::Outcome,
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    bench::{Bench, run, succeed},
    support::{
        pgbouncer::{PgBouncer, PoolMode},
        postgres::{PASSWORD, PASSWORD_IN_URI},
    },
};

/// Connects to a host by a URI with these options, and asks the server whether TLS is in use.
async fn connect(bench: &Bench, host: &str, options: &str) -> Result<bool, ConnectError> {
    let port = bench.database.server().port();
    let name = bench.database.name();
    bench.write_uri(&format!("postgres://postgres:{PASSWORD_IN_URI}@{host}:{port}/{name}?{options}"));
    let postgres = Postgres::new(bench.path("uri"), "alongside shop/inventory-v2 expand");
    let session = postgres.connect(&CancellationToken::new()).await?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(session.value(sql, &[]).await.expect("the session is open"))
}

#[tokio::test]
async fn tls_is_as_strict_as_the_uri_asks() {
    let bench = Bench::new().await;
    std::fs::copy(bench.database.server().certificate_authority(), bench.path("ca.crt")).unwrap();
    // The server's certificate is for localhost, and comes from an authority that no system knows.
    for (host, options, expected) in [
        ("127.0.0.1", "sslmode=disable", Ok(false)),
        ("127.0.0.1", "", Ok(true)),
        ("127.0.0.1", "sslmode=require", Ok(true)),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=ca.crt", Ok(true)),
        ("127.0.0.1", "sslmode=require&sslrootcert=ca.crt", Ok(true)),
        ("localhost", "sslmode=verify-full&sslrootcert=ca.crt", Ok(true)),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=ca.crt", Err("certificate not valid for name")),
        ("localhost", "sslmode=verify-full&sslrootcert=uri", Err("could not read certificates or a key from")),
        ("localhost", "sslmode=verify-full&sslrootcert=absent.crt", Err("could not read certificates or a key from")),
    ] {
        match (connect(&bench, host, options).await, expected) {
            (Ok(tls), Ok(expected)) => assert_eq!(tls, expected, "{host} {options}"),
            (Err(error), Err(expected)) => {
                let text = chain(&error);
                assert!(text.contains(expected), "{host} {options}: {text}");
                assert!(!text.contains(PASSWORD) && !text.contains("s3cr"), "{text}");
            }
            (Ok(_), Err(expected)) => panic!("{host} {options} connected in spite of {expected}"),
            (Err(error), Ok(_)) => panic!("{host} {options}: {}", chain(&error)),
        }
    }
}

#[tokio::test]
async fn an_authority_that_the_uri_does_not_name_is_not_trusted() {
    let bench = Bench::new().await;
    let error = connect(&bench, "localhost", "sslmode=verify-full").await.expect_err("nobody knows that authority");
    let text = chain(&error);
    // Where the image has authorities of its own they don't know ours; where it has none, the message says what to do.
    assert!(text.contains("UnknownIssuer") || text.contains("trusts no certificate authority"), "{text}");
}

#[tokio::test]
async fn a_password_never_reaches_what_is_reported() {
    let bench = Bench::new().await;
    let up = format!("SELECT 'postgres://postgres:{PASSWORD_IN_URI}@db/x', '{PASSWORD}', nonsense;");
    let mut worker = bench.spawn("secret", &bench.inline(&up, None));
    assert_eq!(worker.end().await, Some(1));
    let verdict = worker.verdict();
    let failed = verdict.failed_statement.clone().expect("the server refused it");
    assert_eq!(failed.text, "SELECT 'postgres://***@db/x', '***', nonsense;");
    assert!(!verdict.to_json().contains("s3cr"), "{verdict:?}");
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_and_one_in_session_mode_is_not() {
    let bench = Bench::new().await;
    let task = bench.inline("CREATE TABLE a ();\nVACUUM a;", None);
    for mode in [PoolMode::Transaction, PoolMode::Session] {
        let bouncer = PgBouncer::start(bench.database.server(), mode).await;
        bench.write_uri(&bench.database.uri_at(bouncer.port()));
        for role in [Role::Preflight, Role::Up] {
            let verdict = run(&Task { role, ..task.clone() }).await;
            match mode {
                PoolMode::Transaction => {
                    assert_eq!(verdict.outcome, Outcome::Refused, "{verdict:?}");
                    assert_eq!(verdict.findings[0].rule, "pooled-connection");
                }
                PoolMode::Session => assert_eq!(verdict.outcome, Outcome::Succeeded, "{verdict:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_servers_activity_view_tells_whose_session_it_is() {
    let bench = Bench::new().await;
    let task = bench.inline(
        "CREATE TABLE seen AS SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid();",
        None,
    );
    succeed(&task).await;
    let rows = bench.database.rows("SELECT application_name FROM seen", &[]).await;
    assert_eq!(rows[0].get::<_, String>(0), "alongside shop/inventory-v2 expand");
}

#[tokio::test]
async fn a_commit_is_acknowledged_only_once_it_is_on_disk() {
    let bench = Bench::new().await;
    let name = bench.database.name();
    bench.database.run(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    let show = "CREATE TABLE seen AS SELECT current_setting('synchronous_commit') AS value;";
    succeed(&bench.inline(show, None)).await;
    let rows = bench.database.rows("SELECT value FROM seen", &[]).await;
    assert_eq!(rows[0].get::<_, String>(0), "on");
}

#[tokio::test]
async fn the_server_understands_every_statement_of_ours() {
    let bench = Bench::new().await;
    succeed(&bench.inline("SELECT 1;", None)).await;
    let client = bench.database.connect().await;
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/stores/postgres"));
    let mut count = 0;
    // What the other workers say needs tables of theirs, and is said in their tests.
    for source in ["history.rs", "index.rs", "server.rs", "session.rs"] {
        let text = std::fs::read_to_string(folder.join(source)).unwrap();
        let named = text.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next());
        // A layout step is several statements, and has run by now.
        for name in named.filter(|name| !name.contains("layout_1")) {
            let sql = std::fs::read_to_string(folder.join(name)).unwrap();
            let prepared = client.prepare(&sql).await;
            assert!(prepared.is_ok(), "{name}: {prepared:?}");
            assert!(sql.starts_with("-- "), "{name} says what it does");
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}

#[tokio::test]
async fn a_task_that_cannot_be_read_is_reported_too() {
    let bench = Bench::new().await;
    bench.write("broken.json", "{\"formatVersion\": 7}");
    let mut worker = bench.spawn_on_file("broken");
    assert_eq!(worker.end().await, Some(3));
    let verdict = worker.verdict();
    assert_eq!(verdict.outcome, Outcome::Refused);
    assert!(verdict.message.contains("format version 7, but this worker knows 1"), "{verdict:?}");
}
