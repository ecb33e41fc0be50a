//! Whom Migrations may ask, with which credentials, and what comes of answers that are none.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use alongside::{
    engine::guard::Silence,
    guards::{Board, WatchKey},
};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use serde_json::{Value, json};

use crate::{
    scene::{SOON, Scene, configured, guard, key, passes, silence, watch},
    support::{prometheus::Prometheus, wait::within},
};

/// A folder of files that is gone with the test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("alongside-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Answers as no real Prometheus would; notes the headers that it is sent.
async fn stand_in(seen: Arc<Mutex<Vec<HeaderMap>>>) -> SocketAddr {
    async fn note(State(seen): State<Arc<Mutex<Vec<HeaderMap>>>>, headers: HeaderMap) -> Response {
        let token = headers.get("authorization").is_some_and(|value| value == "Bearer second");
        seen.lock().unwrap().push(headers);
        if token {
            let at = 1_764_000_000.0;
            let part = |name: &str, value: &str| json!({"metric": {"alongside_part": name}, "value": [at, value]});
            let result = json!([part("value", "1"), part("at0", "1764000000")]);
            axum::Json(json!({"status": "success", "data": {"resultType": "vector", "result": result}})).into_response()
        } else {
            StatusCode::UNAUTHORIZED.into_response()
        }
    }
    let endless = || async {
        let piece = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
        Body::from_stream(piece)
    };
    let app = Router::new()
        .route("/guarded/api/v1/query", post(note))
        .route("/garbage/api/v1/query", post(async || "<html>Welcome</html>"))
        .route("/broken/api/v1/query", post(async || (StatusCode::BAD_GATEWAY, "upstream down")))
        .route("/endless/api/v1/query", post(endless))
        .route("/elsewhere/api/v1/query", post(async || Redirect::temporary("/guarded/api/v1/query")))
        .route("/empty/api/v1/query", post(async || axum::Json(json!({"status": "success"}))))
        .with_state(seen);
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    addr
}

/// A board with one provider, `default`, and a guard that asks it.
fn asking(mut provider: Value) -> Board {
    let fields = provider.as_object_mut().unwrap();
    fields.insert("name".to_owned(), json!("default"));
    fields.entry("allowedNamespaces").or_insert(json!("*"));
    let (board, _) = Board::start(configured(&json!([provider])));
    board.watch(key(1), watch(&[guard(&json!({"query": "max(load)"}))]));
    board
}

async fn trouble(board: &Board) -> String {
    within(SOON, "something goes wrong", async || {
        board.look(&key(1).uid, board.now()).troubles.first().map(|trouble| trouble.why.clone()).ok_or("nothing did")
    })
    .await
}

#[tokio::test]
async fn a_provider_is_never_asked_for_a_namespace_that_it_is_not_for() {
    let scene = Scene::with(&[("load", 1.0)]).await;
    let list = json!([{"name": "default", "url": scene.prometheus.url, "allowedNamespaces": ["bank"]}]);
    let (board, _) = Board::start(configured(&list));
    let asked = scene.prometheus.answered().await;
    board.watch(key(1), watch(&[guard(&json!({"query": "max(load)"}))]));
    let why = trouble(&board).await;
    assert!(why.starts_with("metrics provider `default` isn't allowed in namespace `shop`"), "{why}");
    assert_eq!(silence(&board.look(&key(1).uid, board.now()).guards[0]), Some(Silence::Unavailable));
    assert_eq!(scene.prometheus.answered().await, asked);
    // Nor does it hear what others were told who ask the same.
    let other = WatchKey { namespace: "bank".to_owned(), ..key(2) };
    board.watch(other, watch(&[guard(&json!({"query": "max(load)"}))]));
    within(SOON, "the other passes", async || {
        let found = board.look(&key(2).uid, board.now()).guards.remove(0);
        if passes(&found) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let refused = board.look(&key(1).uid, board.now()).guards.remove(0);
    assert_eq!((silence(&refused), refused.value), (Some(Silence::Unavailable), None));
}

#[tokio::test]
async fn an_answer_that_is_none_is_unavailable_and_says_what_came() {
    let seen = Arc::default();
    let addr = stand_in(Arc::clone(&seen)).await;
    for (path, expected) in [
        ("garbage", "the answer isn't that of a Prometheus API"),
        ("broken", "the provider answered with status 502"),
        ("endless", "the answer is longer than 4194304 bytes"),
        ("elsewhere", "the provider answered with status 307"),
        ("empty", "Prometheus answered result: there is none"),
        ("nowhere", "the provider answered with status 404"),
    ] {
        let board = asking(json!({"url": format!("http://{addr}/{path}")}));
        let why = trouble(&board).await;
        assert!(why.starts_with(expected), "{path}: {why}");
        let view = board.look(&key(1).uid, board.now()).guards.remove(0);
        assert_eq!(silence(&view), Some(Silence::Unavailable), "{path}");
    }
    assert!(seen.lock().unwrap().is_empty(), "a redirect was followed");
}

#[tokio::test]
async fn credentials_are_read_again_and_never_told() {
    let files = Files::new("credentials");
    let seen: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let addr = stand_in(Arc::clone(&seen)).await;
    let token = files.write("token", "first\n");
    let board = asking(json!({
        "url": format!("http://{addr}/guarded"),
        "bearerTokenFile": token,
        "headersFromFiles": {"X-Api-Key": files.write("key", "opener")},
        "tenant": {"value": "team-a"},
    }));
    let why = trouble(&board).await;
    assert_eq!(why, "the provider answered with status 401 Unauthorized");
    // A Secret that is rotated is another file in the same place.
    files.write("token", "second");
    within(SOON, "the new token is used", async || {
        let view = board.look(&key(1).uid, board.now());
        // The stand-in's samples are old: that it was heard at all is what counts.
        if view.troubles.is_empty() { Ok(()) } else { Err(format!("{:?}", view.troubles)) }
    })
    .await;
    let last = seen.lock().unwrap().last().unwrap().clone();
    let sent = |name: &str| last.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(sent("authorization").as_deref(), Some("Bearer second"));
    assert_eq!(sent("x-api-key").as_deref(), Some("opener"));
    assert_eq!(sent("x-scope-orgid").as_deref(), Some("team-a"));
    assert_eq!(sent(LOCATION.as_str()), None);
    assert!(!format!("{board:?}").contains("second"), "the token can be printed");
}

#[tokio::test]
async fn a_missing_credential_is_named_by_its_file_and_nothing_is_sent() {
    let files = Files::new("missing");
    let seen: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let addr = stand_in(Arc::clone(&seen)).await;
    let board = asking(json!({"url": format!("http://{addr}/guarded"), "bearerTokenFile": files.path("gone")}));
    let why = trouble(&board).await;
    assert!(why.contains("gone can't be read: No such file"), "{why}");
    assert!(seen.lock().unwrap().is_empty(), "it was asked without credentials");
}

#[test]
fn a_url_that_holds_credentials_is_refused_without_printing_them() {
    let list = json!([{"name": "default", "url": "http://me:secret@localhost:9", "allowedNamespaces": "*"}]);
    let error = alongside::guards::Providers::set_up(serde_json::from_value(list).unwrap()).unwrap_err();
    let told = format!("{error:?} {error}");
    assert!(told.contains("it holds credentials") && !told.contains("secret"), "{told}");
}

/// TLS, and the user `watcher` with the hash of the password `correct horse`.
const WEB: &str = "tls_server_config: {cert_file: server.crt, key_file: server.key}
basic_auth_users: {watcher: \"$2y$04$n6iABdu.IyXYmf4OUtZm1u4bBT4xjC5dSlDbxSFnQ6mk1u68HDHxW\"}
";

fn certificate(files: &Files, name: &str) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .args(["-keyout", &files.path(&format!("{name}.key")), "-out", &files.path(&format!("{name}.crt"))])
        .output();
    let made = made.expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test]
async fn a_prometheus_behind_tls_and_a_password_is_asked_with_both_and_not_without() {
    let files = Files::new("tls");
    certificate(&files, "server");
    certificate(&files, "other");
    let prometheus = Prometheus::start_with("200ms", &[], Some((WEB, files.0.clone()))).await;
    let ca = files.path("ca.crt");
    std::fs::copy(files.path("server.crt"), &ca).unwrap();
    let user = files.write("user", "watcher\n");
    let with = |ca: &str, password: &str| {
        let password_file = files.write(&password.replace(' ', "-"), password);
        let auth = json!({"usernameFile": user, "passwordFile": password_file});
        asking(json!({"url": prometheus.url, "caFile": ca, "basicAuth": auth}))
    };
    let trusted = with(&ca, "correct horse");
    within(SOON, "it is answered", async || {
        let view = trusted.look(&key(1).uid, trusted.now());
        // It scrapes nothing: an empty answer is an answer.
        if silence(&view.guards[0]) == Some(Silence::NoData) { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    assert_eq!(trouble(&with(&ca, "wrong horse")).await, "the provider answered with status 401 Unauthorized");
    let why = trouble(&with(&files.path("other.crt"), "correct horse")).await;
    assert!(why.starts_with("Prometheus can't be reached") && why.contains("certificate"), "{why}");
    let unknown = asking(json!({"url": prometheus.url}));
    let why = trouble(&unknown).await;
    assert!(why.contains("certificate"), "{why}");
}
