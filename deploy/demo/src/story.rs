//! What there is to tell when a Migration's status has changed. Pure.

use alongside::api::{MigrationStatus, State, Time, TrafficStatus};

/// A line of the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was true, where status says so.
    pub at: Option<Time>,
    /// What.
    pub text: String,
}

/// Returns what is new in `now`, oldest first.
pub fn news(before: &MigrationStatus, now: &MigrationStatus) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut tell = |at: Option<Time>, text: String| lines.push(Line { at, text });

    for entry in &now.history {
        if !before.history.contains(entry) {
            let by = if entry.by == "operator" { String::new() } else { format!(" (by {})", entry.by) };
            tell(Some(entry.at), format!("{}{by}", entry.why));
        }
    }
    for traffic in &now.traffic {
        let known = before.traffic.iter().find(|known| known.service == traffic.service);
        for (at, text) in moves(known, traffic) {
            tell(Some(at), text);
        }
    }
    if let Some(rollback) = &now.rollback {
        let known = before.rollback.as_ref();
        let steps = [
            (
                rollback.new_connections_restored,
                known.and_then(|known| known.new_connections_restored),
                "new connections reach the old side again",
            ),
            (rollback.drained, known.and_then(|known| known.drained), "the new side's open connections have left"),
        ];
        for (at, known, text) in steps {
            if at.is_some() && known.is_none() {
                tell(at, text.to_owned());
            }
        }
    }
    if now.state != before.state || now.message != before.message {
        match now.state {
            State::Waiting | State::Stalled => tell(None, format!("{}: {}", word(now.state), now.message)),
            State::Pending
            | State::Preflight
            | State::Running
            | State::RollingBack
            | State::RolledBack
            | State::Succeeded => {}
        }
    }
    lines.sort_by_key(|line| line.at.unwrap_or(Time(i64::MAX)));
    lines
}

fn moves(known: Option<&TrafficStatus>, now: &TrafficStatus) -> Vec<(Time, String)> {
    let new = |of: fn(&TrafficStatus) -> Option<Time>| of(now).filter(|_| known.and_then(of).is_none());
    let labels = |labels: &std::collections::BTreeMap<String, String>| {
        labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",")
    };
    let mut moves = Vec::new();
    if let Some(at) = new(|traffic| traffic.flipped_at) {
        moves.push((at, format!("Service {}: {} → {}", now.service, labels(&now.from), labels(&now.to))));
    }
    if let Some(at) = new(|traffic| traffic.back_at) {
        moves.push((at, format!("Service {}: back to {}", now.service, labels(&now.from))));
    }
    moves
}

/// Whether nothing more will happen by itself.
pub fn is_over(state: State) -> bool {
    match state {
        State::Succeeded | State::RolledBack => true,
        State::Pending | State::Preflight | State::Running | State::Waiting | State::RollingBack | State::Stalled => {
            false
        }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Waiting => "waits",
        State::Stalled => "STALLED",
        State::Pending => "pending",
        State::Preflight => "preflight",
        State::Running => "running",
        State::RollingBack => "rolling back",
        State::RolledBack => "rolled back",
        State::Succeeded => "succeeded",
    }
}

#[cfg(test)]
mod tests {
    use alongside::api::{HistoryEntry, RollbackStatus};

    use super::*;

    fn entry(at: i64, by: &str, why: &str) -> HistoryEntry {
        HistoryEntry { at: Time(at), by: by.to_owned(), why: why.to_owned(), ..HistoryEntry::default() }
    }

    fn texts(before: &MigrationStatus, now: &MigrationStatus) -> Vec<String> {
        news(before, now).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn each_entry_of_the_audit_trail_is_told_once() {
        let before = MigrationStatus { history: vec![entry(1, "operator", "a begins")], ..MigrationStatus::default() };
        let mut now = before.clone();
        now.history.push(entry(2, "kim", "a was approved"));
        assert_eq!(texts(&before, &now), ["a was approved (by kim)"]);
        assert_eq!(texts(&now, &now), Vec::<String>::new());
    }

    #[test]
    fn traffic_and_rollback_are_told_in_the_order_of_their_times() {
        let before = MigrationStatus::default();
        let traffic = TrafficStatus {
            service: "inventory".to_owned(),
            from: [("version".to_owned(), "v1".to_owned())].into(),
            to: [("version".to_owned(), "v2".to_owned())].into(),
            flipped_at: Some(Time(5)),
            back_at: Some(Time(20)),
            ..TrafficStatus::default()
        };
        let rollback = RollbackStatus {
            new_connections_restored: Some(Time(30)),
            drained: Some(Time(40)),
            ..RollbackStatus::default()
        };
        let now = MigrationStatus {
            history: vec![entry(10, "operator", "a guard was breached")],
            traffic: vec![traffic],
            rollback: Some(rollback),
            ..MigrationStatus::default()
        };
        assert_eq!(
            texts(&before, &now),
            [
                "Service inventory: version=v1 → version=v2",
                "a guard was breached",
                "Service inventory: back to version=v1",
                "new connections reach the old side again",
                "the new side's open connections have left",
            ]
        );
    }

    #[test]
    fn a_wait_is_told_with_what_it_waits_for() {
        let now = MigrationStatus {
            state: State::Waiting,
            message: "phase contract waits for approval".to_owned(),
            ..MigrationStatus::default()
        };
        assert_eq!(texts(&MigrationStatus::default(), &now), ["waits: phase contract waits for approval"]);
    }
}
