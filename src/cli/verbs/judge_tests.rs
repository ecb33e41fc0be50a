use serde_json::{Value, json};

use super::*;

const HASH: &str = "c0ffee1234";

/// A migration between its second phase, which is done, and its third, which is the point of no return.
fn migration(changes: &Value) -> Migration {
    let mut object = json!({
        "metadata": {"name": "till", "namespace": "shop", "uid": "u", "generation": 3, "annotations": {}},
        "spec": {"stores": [{"name": "db", "postgres": {"secretRef": {"name": "db", "key": "uri"}}}], "phases": [
            {"name": "expand", "sql": {"store": "db", "up": {"inline": "A"}, "down": {"inline": "B"}, "onRollback": "Down"}},
            {"name": "cut-over", "switch": {"service": "pay", "from": {"v": "1"}, "to": {"v": "2"}}},
            {"name": "contract", "pointOfNoReturn": true, "sql": {"store": "db", "up": {"inline": "C"}}},
        ]},
        "status": {
            "formatVersion": 1, "observedGeneration": 3, "state": "Waiting", "phase": "contract", "attempt": 1,
            "message": "phase contract waits for approval", "plan": {"hash": HASH},
            "hold": {"reason": "Approval", "since": "2026-01-01T00:00:00Z"},
            "phases": [
                {"name": "expand", "kind": "sql", "state": "Done"},
                {"name": "cut-over", "kind": "switch", "state": "Done"},
                {"name": "contract", "kind": "sql", "state": "Pending"},
            ],
            "traffic": [{"service": "pay", "step": "Drained", "from": {"v": "1"}, "to": {"v": "2"}}],
        },
    });
    merge(&mut object, changes);
    serde_json::from_value(object).unwrap()
}

fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(into.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}

fn value(verb: &Verb, changes: &Value) -> Result<Option<String>, String> {
    let ask = judge(verb, &migration(changes)).map_err(|refusal| refusal.why)?;
    Ok(ask.annotations.into_values().next().flatten())
}

const APPROVE: Verb = Verb::Approve { phase: None };

#[test]
fn each_verb_is_bound_to_the_plan_and_the_attempt() {
    let retried =
        json!({"status": {"state": "RolledBack", "next": format!("kubectl x alongside.dev/retry='*@{HASH}/1'")}});
    for (verb, changes, bound) in [
        (APPROVE, json!({}), format!("contract@{HASH}/1")),
        (Verb::Pause, json!({}), format!("*@{HASH}/1")),
        (Verb::Abort, json!({"status": {"attempt": 2}}), format!("*@{HASH}/2")),
        (Verb::Rollback, json!({}), format!("*@{HASH}/1")),
        (Verb::Retry, retried, format!("*@{HASH}/1")),
    ] {
        assert_eq!(value(&verb, &changes), Ok(Some(bound)), "{verb:?}");
    }
}

#[test]
fn what_has_ended_is_not_steered() {
    for verb in [APPROVE, Verb::Pause, Verb::Abort, Verb::Rollback, Verb::Retry] {
        let refused = value(&verb, &json!({"status": {"state": "Succeeded"}}));
        assert!(refused.is_err_and(|why| why.contains("succeeded")), "{verb:?}");
    }
    for verb in [APPROVE, Verb::Abort, Verb::Rollback] {
        let refused = value(&verb, &json!({"status": {"state": "RolledBack"}}));
        assert!(refused.is_err_and(|why| why.contains("taken back already")), "{verb:?}");
    }
}

#[test]
fn before_the_plan_there_is_nothing_to_steer() {
    for verb in [APPROVE, Verb::Pause, Verb::Abort, Verb::Rollback] {
        let refused = value(&verb, &json!({"status": {"plan": null}}));
        assert!(refused.is_err_and(|why| why.contains("nothing has begun")), "{verb:?}");
    }
}

#[test]
fn past_the_point_of_no_return_nothing_goes_back() {
    let past = json!({"status": {"phases": [{"name": "contract", "state": "Running", "pointOfNoReturn": true}]}});
    for verb in [Verb::Abort, Verb::Rollback] {
        assert!(value(&verb, &past).is_err_and(|why| why.contains("no way back")), "{verb:?}");
    }
    let announced = json!({"status": {"phases": [{"name": "contract", "state": "Intended", "pointOfNoReturn": true}]}});
    assert!(value(&Verb::Abort, &announced).is_ok(), "marks are being given up, and nothing has been done yet");
}

#[test]
fn an_approval_is_for_the_phase_that_waits() {
    let refused = value(&Verb::Approve { phase: Some("bake".to_owned()) }, &json!({}));
    assert!(refused.is_err_and(|why| why.contains("phase bake is not the one that waits")));
    let other = json!({"status": {"phase": "expand", "hold": {"reason": "GuardSilent"}, "phases": [{"name": "expand", "state": "Pending"}]}});
    assert!(value(&APPROVE, &other).is_err_and(|why| why.contains("asks for no approval")));
}

#[test]
fn an_approval_of_a_plan_that_may_change_is_refused() {
    let refused = value(&APPROVE, &json!({"metadata": {"generation": 4}}));
    assert!(refused.is_err_and(|why| why.contains("voids an approval")));
}

#[test]
fn what_is_asked_for_already_is_not_asked_for_again() {
    let annotated = |name: &str, value: String| json!({"metadata": {"annotations": {name: value}}});
    for (verb, annotation, bound) in [
        (APPROVE, APPROVE_ANNOTATION, format!("contract@{HASH}/1")),
        (Verb::Pause, PAUSE_ANNOTATION, format!("*@{HASH}/1")),
        (Verb::Abort, ABORT_ANNOTATION, format!("*@{HASH}/1")),
    ] {
        assert!(value(&verb, &annotated(annotation, bound)).is_err_and(|why| why.contains("already")), "{verb:?}");
        let stale = annotated(annotation, "contract@0ld0ld0ld0/1".to_owned());
        assert!(value(&verb, &stale).is_ok(), "{verb:?} of another plan is no obstacle");
    }
}

#[test]
fn a_way_back_is_neither_held_nor_begun_twice() {
    let back = json!({"status": {"state": "RollingBack", "rollback": {"message": "m"}}});
    for verb in [APPROVE, Verb::Pause, Verb::Abort, Verb::Rollback] {
        assert!(value(&verb, &back).is_err(), "{verb:?}");
    }
}

#[test]
fn only_what_is_paused_is_resumed() {
    assert_eq!(value(&Verb::Resume, &json!({})), Err("nobody has paused it".to_owned()));
    let paused = json!({"metadata": {"annotations": {PAUSE_ANNOTATION: format!("*@{HASH}/1")}}});
    assert_eq!(value(&Verb::Resume, &paused), Ok(None), "it is removed");
}

#[test]
fn a_retry_is_what_status_offers() {
    let next = format!("kubectl -n shop annotate --overwrite migration till alongside.dev/retry='*@{HASH}/1/3'");
    let stalled = json!({"status": {"state": "Stalled", "next": next}});
    assert_eq!(value(&Verb::Retry, &stalled), Ok(Some(format!("*@{HASH}/1/3"))));
    assert!(value(&Verb::Retry, &json!({})).is_err_and(|why| why.contains("nothing has failed")));
}

#[test]
fn before_it_goes_back_it_says_what_does() {
    let ask = judge(&Verb::Abort, &migration(&json!({}))).unwrap();
    let steps: Vec<_> = ask.question.lines().skip(1).map(str::trim).collect();
    assert_eq!(steps, ["traffic of Service pay to v=1", "phase expand: its undo runs"]);
}

#[test]
fn what_the_operator_has_yet_to_act_on_is_under_way() {
    let approved = json!({"metadata": {"annotations": {APPROVE_ANNOTATION: format!("contract@{HASH}/1")}}});
    assert!(is_underway(&migration(&approved)) && !is_underway(&migration(&json!({}))));
    let asked = json!({"metadata": {"annotations": {ABORT_ANNOTATION: format!("*@{HASH}/1")}}});
    assert!(is_underway(&migration(&asked)));
    let consumed = json!({
        "metadata": {"annotations": {ABORT_ANNOTATION: format!("*@{HASH}/1")}},
        "status": {"verbs": {"abort": format!("*@{HASH}/1")}},
    });
    assert!(!is_underway(&migration(&consumed)));
}
