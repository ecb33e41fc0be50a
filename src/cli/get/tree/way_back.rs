//! The way back: what lane 1 would do now, whether it can, and the command that does it by hand; or how a rollback went.

use std::fmt::Write as _;

use kube::ResourceExt as _;
use serde_json::json;

use super::{
    super::super::{
        look::{Tone, align},
        words::{labels, short, word_of_step},
    },
    Page,
};
use crate::{
    api::{Migration, MigrationStatus, RollbackStatus, State, Time, TrafficStatus, replicate::ReplicationStatus},
    engine::in_effect,
};

/// Shows it.
pub fn show(page: &mut Page, migration: &Migration, status: &MigrationStatus, now: Time) {
    if status.traffic.is_empty() && status.rollback.is_none() {
        return;
    }
    page.title("THE WAY BACK");
    let look = page.look;
    if let Some(rollback) = &status.rollback {
        lanes(page, rollback, now);
    } else if let Some(passed) = status.phases.iter().find(|phase| phase.point_of_no_return) {
        let text = format!("gone: phase {} is the point of no return", passed.name);
        page.line(0, &look.paint(Tone::Warn, text));
    } else if status.state == State::Succeeded {
        page.line(0, "not needed any more: every phase is done");
    } else if let Some(ready) = status.conditions.iter().find(|condition| condition.type_ == "RollbackReady") {
        let (word, tone) = match ready.status.as_str() {
            "True" => ("open", Tone::Good),
            "False" => ("shut", Tone::Bad),
            _ => ("unknown", Tone::Warn),
        };
        page.line(0, &format!("{}: {}", look.paint(tone, word), ready.message));
    }
    for traffic in &status.traffic {
        service(page, migration, traffic);
    }
    if let Some(replication) = &status.replication {
        writes(page, migration, replication);
    }
}

fn service(page: &mut Page, migration: &Migration, traffic: &TrafficStatus) {
    let look = page.look;
    let moved = in_effect(traffic.step);
    let mut text = format!("Service {}: {}", traffic.service, word_of_step(traffic.step));
    if let Some(serving) = traffic.old_serving {
        let _ = write!(text, "; the old side had {serving} serving pods at the flip");
    }
    if let Some(remaining) = traffic.remaining.filter(|remaining| *remaining > 0) {
        let _ = write!(text, "; {remaining} connections were left when the drain ended");
    }
    page.line(0, &text);
    let sides = format!("old side {}   new side {}", labels(&traffic.from), labels(&traffic.to));
    page.line(1, &look.paint(Tone::Faint, sides));
    if moved && traffic.bound {
        // The old store is shut to writes: a selector that is patched by hand would only lead clients into errors.
        let verb = format!("kubectl alongside rollback {}", migration.name_any());
        page.line(1, &format!("with the writes, by the agent: {}", look.paint(Tone::Strong, verb)));
    } else if moved {
        page.line(1, &format!("by hand: {}", look.paint(Tone::Strong, by_hand(migration, traffic))));
    }
}

/// Where the writes of two stores that are kept in step go.
fn writes(page: &mut Page, migration: &Migration, replication: &ReplicationStatus) {
    let phase = migration.spec.phases.iter().find(|phase| phase.name == replication.phase);
    let pair = phase.and_then(|phase| phase.replicate.as_ref());
    let (old, new) = pair.map_or(("the old one", "the new one"), |pair| (pair.from.as_str(), pair.to.as_str()));
    // After an odd number of moves the new store takes them.
    let takes = if replication.term % 2 == 1 { new } else { old };
    let mut text = format!("writes go to store {takes}");
    if let Some(held) = replication.held {
        let _ = write!(text, "; clients waited {} at the last move", short(held));
    }
    if replication.ended {
        text.push_str("; the stores are not kept in step any more");
    }
    page.line(0, &text);
    if let Some(bytes) = replication.left_behind {
        let text = format!("traffic was moved by force: {bytes} bytes of WAL were left behind");
        let text = page.look.paint(Tone::Bad, text);
        page.line(1, &text);
    }
}

/// The command that takes a Service's traffic back without the operator, which adopts it as a rollback.
pub fn by_hand(migration: &Migration, traffic: &TrafficStatus) -> String {
    let patch = json!({ "spec": { "selector": traffic.from } });
    let namespace = migration.namespace().unwrap_or_else(|| "default".to_owned());
    format!("kubectl -n {namespace} patch service {} -p '{patch}'", traffic.service)
}

/// How a rollback goes or went, lane by lane, each with its time since the breach was seen.
pub fn lanes(page: &mut Page, rollback: &RollbackStatus, now: Time) {
    let look = page.look;
    page.line(0, &look.paint(Tone::Bad, &rollback.message));
    let began = rollback.sample_at.unwrap_or(rollback.seen_at);
    let mut rows = Vec::new();
    for (lane, at) in lanes_of(rollback) {
        let told = match at {
            Some(at) => look.paint(Tone::Good, format!("after {}", millis(at, began))),
            None if rollback.done.is_some() => look.paint(Tone::Faint, "not needed"),
            None => look.paint(Tone::Busy, format!("not yet, {} so far", short(now.since(began)))),
        };
        rows.push(vec![lane.to_owned(), told]);
    }
    for line in align(&rows) {
        page.line(1, &line);
    }
    if rollback.drain_cut_short {
        let text = "the drain's deadline ended it: connections to the new side stayed, or nobody knows how many did";
        page.line(1, &look.paint(Tone::Warn, text));
    }
    if rollback.keeps_traffic {
        page.line(1, &look.paint(Tone::Warn, "traffic stays where it is"));
    }
}

/// The lanes of a rollback with their times.
pub fn lanes_of(rollback: &RollbackStatus) -> [(&'static str, Option<Time>); 6] {
    [
        ("seen by the operator", Some(rollback.seen_at)),
        ("lane 1: new connections on the old side", rollback.new_connections_restored),
        ("lane 1b: the new side drained", rollback.drained),
        ("lane 2: no Job runs", rollback.jobs_stopped),
        ("lane 3: schema and Jobs taken back", rollback.undone),
        ("all done", rollback.done),
    ]
}

/// Time between two points, to the millisecond where it is short.
pub fn millis(at: Time, began: Time) -> String {
    let span = at.since(began);
    if span.0.as_secs() < 10 { format!("{}ms", span.0.as_millis()) } else { short(span) }
}
