//! Phases and guards as users write them, each as short as a story bears.

use serde_json::{Value, json};

use crate::home::Home;

/// A spec of these phases.
pub fn phases(phases: impl IntoIterator<Item = Value>) -> Value {
    json!({ "phases": phases.into_iter().collect::<Vec<_>>() })
}

/// A Job that reports to have done `what`, then runs `script`. It leaves out what may be left out.
pub fn job(home: &Home, what: &str, script: &str) -> Value {
    let done = home.stage().ledger().done_url(home.name(), what);
    let container = json!({
        "name": "work",
        "image": "localhost/toolbox:1",
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", format!("wget -q -O /dev/null {done} && {script}")],
    });
    let pod = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    });
    json!({ "spec": { "template": { "spec": pod } } })
}

/// A phase whose Job reports `prepare` and whose undo reports `undo-prepare`.
pub fn prepare(home: &Home) -> Value {
    let template = job(home, "prepare", "echo prepared > /dev/termination-log");
    json!({ "name": "prepare", "job": { "template": template, "undo": job(home, "undo-prepare", "true") } })
}

/// A phase whose Job reports `long` and ends once the gate of that name is open. It has an undo, which reports
/// `undo-long`.
pub fn long(home: &Home) -> Value {
    let gate = home.stage().ledger().gate_url(home.name(), "long");
    let template = job(home, "long", &format!("until wget -q -O /dev/null {gate}; do sleep 0.2; done"));
    json!({ "name": "long", "job": { "template": template, "undo": job(home, "undo-long", "true") } })
}

/// A phase that moves a Service's traffic from v1 to v2, and asks the pods' hook to let connections go.
pub fn cut_over(service: &str) -> Value {
    let hook = json!({ "path": "/cgi-bin/drain", "port": 8080 });
    let (from, to) = (json!({ "version": "v1" }), json!({ "version": "v2" }));
    json!({ "name": "cut-over", "switch": { "service": service, "from": from, "to": to, "drain": { "hook": hook } } })
}

/// A phase that keeps the old side for a time.
pub fn bake(time: &str) -> Value {
    json!({ "name": "bake", "bake": { "for": time } })
}

/// A phase that waits for a person and does nothing else.
pub fn approval() -> Value {
    json!({ "name": "wait-for-a-person", "approval": "Required" })
}

/// A phase after which there is no way back; its Job reports `contract`.
pub fn contract(home: &Home) -> Value {
    json!({
        "name": "contract",
        "pointOfNoReturn": true,
        "approval": "NotRequired",
        "job": { "template": job(home, "contract", "true") },
    })
}

/// A spec of these phases under these guards.
pub fn guarded(guards: impl IntoIterator<Item = Value>, phases: impl IntoIterator<Item = Value>) -> Value {
    json!({
        "guards": guards.into_iter().collect::<Vec<_>>(),
        "phases": phases.into_iter().collect::<Vec<_>>(),
    })
}

/// A guard over the home's figure of this name, which may be up to a half.
pub fn guard(home: &Home, figure: &str) -> Value {
    json!({ "name": figure, "query": figure_query(home, figure), "max": 0.5, "interval": "500ms", "maxAge": "5s" })
}

/// A guard with something more in it.
pub fn guard_with(home: &Home, figure: &str, more: &Value) -> Value {
    let mut guard = guard(home, figure);
    let fields = guard.as_object_mut().expect("a guard is an object");
    fields.extend(more.as_object().expect("what is more is an object").clone());
    guard
}

/// The PromQL of a home's figure.
pub fn figure_query(home: &Home, figure: &str) -> String {
    format!("{figure}{{home=\"{}\"}}", home.name())
}
