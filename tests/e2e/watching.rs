//! What those see who watch from outside: Events, the log, traces and probes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alongside::api::State;
use axum::{Router, body::Bytes, extract, routing::post};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::Value;

use crate::{
    home::Home,
    phases::{bake, cut_over, guard, guarded, phases, prepare},
    story::{Story, stories},
    support::wait::within,
};

/// How long what was sent may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![
        what_happens_to_a_migration_is_told_in_events,
        the_log_names_migration_and_phase_in_fields_of_their_own,
        traces_go_where_they_are_asked_for,
        an_operator_says_whether_it_lives_and_is_ready,
    ]
}

async fn what_happens_to_a_migration_is_told_in_events(home: Home) {
    let _app = home.app("web").await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let migration = home.migrates("to-v2", guarded([guard(&home, "trouble")], [cut_over("web"), bake("1h")])).await;
    migration.holds_for("Baking").await;
    home.figure_is("trouble", 0.9).await;
    migration.comes_to(State::RolledBack).await;
    let said = within(PATIENCE, "the Events are there", async || {
        let events = home.all::<Event>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let of_ours = events.items.into_iter().filter(|event| {
            let kind = event.regarding.as_ref().and_then(|regarding| regarding.kind.as_deref());
            event.reporting_controller.as_deref() == Some("alongside") && kind == Some("Migration")
        });
        let word = |text: Option<String>| text.unwrap_or_default();
        let said: Vec<_> = of_ours.map(|event| (word(event.type_), word(event.reason), word(event.note))).collect();
        if said.iter().any(|(_, reason, _)| reason == "RolledBack") { Ok(said) } else { Err(format!("{said:?}")) }
    })
    .await;
    for reason in ["PlanFrozen", "PhaseBegun", "PhaseDone"] {
        assert!(said.iter().any(|(type_, word, _)| type_ == "Normal" && word == reason), "{reason}: {said:?}");
    }
    let breach =
        |(type_, _, note): &&(String, String, String)| type_ == "Warning" && note.contains("0.9 against max 0.5");
    assert!(said.iter().any(|event| breach(&event)), "{said:?}");
}

async fn the_log_names_migration_and_phase_in_fields_of_their_own(home: Home) {
    let operator = home.operator_with("a", &["--log-format=json".to_owned()]);
    operator.leads().await;
    home.migrates("logged", phases([prepare(&home)])).await.comes_to(State::Succeeded).await;
    let log = std::fs::read_to_string(home.folder().join("a/log")).expect("the log can be read");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let begun =
        |line: &&Value| line["what"] == "PhaseBegun" && line["migration"] == "logged" && line["phase"] == "prepare";
    let line = lines.iter().find(begun).expect("the phase's begin is logged");
    assert_eq!(line["namespace"], home.name());
}

async fn traces_go_where_they_are_asked_for(home: Home) {
    let received: Arc<Mutex<Vec<u8>>> = Arc::default();
    let address = home.stage().address();
    let listener = tokio::net::TcpListener::bind(address).await.expect("the address is free");
    let collector = Router::new().route("/v1/traces", post(collect)).with_state(received.clone());
    let served = tokio::spawn(async { axum::serve(listener, collector).await });
    let flags = ["--log-format=text".to_owned(), format!("--otlp-endpoint=http://{address}")];
    let operator = home.operator_with("a", &flags);
    operator.leads().await;
    home.migrates("traced", phases([prepare(&home)])).await.comes_to(State::Succeeded).await;
    // Strings stand in OTLP's protobuf as they are.
    within(PATIENCE, "the collector has spans", async || {
        let received = String::from_utf8_lossy(&received.lock().expect("nothing panics with it")).into_owned();
        match ["alongside", "reconcile", "traced", "prepare"].into_iter().find(|word| !received.contains(word)) {
            None => Ok(()),
            Some(word) => Err(format!("{word} is not in {} bytes", received.len())),
        }
    })
    .await;
    served.abort();
}

async fn collect(extract::State(received): extract::State<Arc<Mutex<Vec<u8>>>>, body: Bytes) {
    received.lock().expect("nothing panics with it").extend_from_slice(&body);
}

async fn an_operator_says_whether_it_lives_and_is_ready(home: Home) {
    let operator = home.leader("a").await;
    let standby = home.operator("b");
    standby.stands_by().await;
    for operator in [&operator, &standby] {
        assert_eq!(operator.get("livez").await.as_deref(), Ok("ok\n"));
        let ready = operator.get("readyz?verbose").await.expect("it is ready");
        assert!(ready.contains("[+] migrations ok") && ready.contains("[+] jobs ok"), "{ready}");
    }
}
