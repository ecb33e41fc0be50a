//! What is to be done with one script, from where it stands: pure.
//!
//! ```text
//!   never run ──Up──▶ half-way up ──Up──▶ in effect ──Down──▶ half-way down ──Down──▶ taken back
//!       ▲                  └──────────────Down──────────────────────▲                     │
//!       └──────────────────────────────── counts as ◀─────────────────────────────────────┘
//! ```
//!
//! A script in one transaction is never seen half-way.

use crate::stores::postgres::{
    history::{Entry, Way, digest},
    script::Script,
};

/// What is to be done with a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// It is where it should be.
    Nothing,
    /// Run it, from here on.
    Run(Start),
}

/// Where a script begins, or goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The history row to go on with; `None` begins one.
    pub row: Option<i64>,
    /// Statements that have taken effect.
    pub done: usize,
    /// A statement of which nobody knows whether it has taken effect.
    pub begun: Option<usize>,
}

const FROM_THE_BEGINNING: Course = Course::Run(Start { row: None, done: 0, begun: None });

/// Why a script can't be run. Each message says what has happened and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Conflict {
    #[error(
        "{name} (version {version}) has been in effect since {since}, but its text has changed; put the old text back \
         and write the change as a script with a version (or, for inline text, a phase name) of its own"
    )]
    Changed { name: String, version: String, since: String },
    #[error(
        "{name} (version {version}): {done} of {of} statements have been in effect since {since}, and their text has \
         changed; put the text of statements 1 to {done} back, or take them back by hand and delete row {row} of \
         alongside.script_history"
    )]
    ChangedHalfway { name: String, version: String, since: String, done: i32, of: i32, row: i64 },
    #[error(
        "{name} (version {version}) is half taken back: {done} of {of} statements of its down script have taken effect; \
         finish that by hand and delete row {row} of alongside.script_history, or roll back again"
    )]
    HalfwayBack { name: String, version: String, done: i32, of: i32, row: i64 },
    #[error("{name} (version {version}) is in effect and has no down script; take it back by hand, or keep it")]
    NoDown { name: String, version: String },
}

/// Decides for the way forward. `checksum` is of the script's text.
pub(super) fn forward(checksum: &str, script: &Script, entry: Option<&Entry>) -> Result<Course, Conflict> {
    let Some(entry) = entry else { return Ok(FROM_THE_BEGINNING) };
    match (entry.way, entry.progress.is_complete()) {
        (Way::Down, true) => Ok(FROM_THE_BEGINNING),
        (Way::Up, true) if entry.checksum == checksum => Ok(Course::Nothing),
        (Way::Up, true) => Err(Conflict::Changed {
            name: entry.name.clone(),
            version: entry.version.clone(),
            since: entry.started_at.clone(),
        }),
        (Way::Up, false) => go_on(script, entry),
        (Way::Down, false) => Err(Conflict::HalfwayBack {
            name: entry.name.clone(),
            version: entry.version.clone(),
            done: entry.progress.done,
            of: entry.progress.statements,
            row: entry.id,
        }),
    }
}

/// Decides for the way back. `down` is the down script, if there is one, and `checksum` is of the up script's text.
///
/// A script that is half-way up is taken back by its whole down script: that either goes through, or the statement that
/// meets something missing says so.
pub(super) fn back(checksum: &str, down: Option<&Script>, entry: Option<&Entry>) -> Result<Course, Conflict> {
    let Some(entry) = entry else { return Ok(Course::Nothing) };
    match (entry.way, entry.progress.is_complete()) {
        (Way::Down, true) => return Ok(Course::Nothing),
        // Nothing of it is in effect, so there is nothing to take back.
        (Way::Up, false) if entry.progress.done == 0 && entry.progress.begun.is_none() => return Ok(Course::Nothing),
        (Way::Up, true) if entry.checksum != checksum => {
            return Err(Conflict::Changed {
                name: entry.name.clone(),
                version: entry.version.clone(),
                since: entry.started_at.clone(),
            });
        }
        (Way::Up, _) | (Way::Down, false) => {}
    }
    let Some(down) = down else {
        return Err(Conflict::NoDown { name: entry.name.clone(), version: entry.version.clone() });
    };
    match entry.way {
        Way::Up => Ok(FROM_THE_BEGINNING),
        Way::Down => go_on(down, entry),
    }
}

/// Goes on after what has taken effect, if that part of the text is still the same. A changed rest is welcome: often it
/// is the very statement that couldn't work.
fn go_on(script: &Script, entry: &Entry) -> Result<Course, Conflict> {
    let progress = &entry.progress;
    let done = usize::try_from(progress.done).unwrap_or(0);
    let known = script.statements.len() >= done && digest(&script.beginning(done)) == progress.done_checksum;
    if !known {
        return Err(Conflict::ChangedHalfway {
            name: entry.name.clone(),
            version: entry.version.clone(),
            since: entry.started_at.clone(),
            done: progress.done,
            of: progress.statements,
            row: entry.id,
        });
    }
    let begun = progress.begun.and_then(|number| usize::try_from(number).ok());
    Ok(Course::Run(Start { row: Some(entry.id), done, begun }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::scripts::checksum, stores::postgres::history::Progress};

    const TEXT: &str = "CREATE TABLE a (); VACUUM; SELECT 1";

    fn entry(way: Way, done: i32, text: &str) -> Entry {
        Entry {
            id: 7,
            version: "9".into(),
            name: "0009_a".into(),
            way,
            attempt: 1,
            checksum: checksum(text),
            progress: Progress {
                statements: 3,
                done,
                done_checksum: digest(&Script::parse(text).beginning(usize::try_from(done).unwrap())),
                begun: None,
            },
            started_at: "2026-01-02T03:04:05Z".into(),
        }
    }

    fn up(text: &str, entry: Option<&Entry>) -> Result<Course, Conflict> {
        forward(&checksum(text), &Script::parse(text), entry)
    }

    fn down(entry: Option<&Entry>) -> Result<Course, Conflict> {
        back(&checksum(TEXT), Some(&Script::parse(TEXT)), entry)
    }

    fn run(row: Option<i64>, done: usize) -> Course {
        Course::Run(Start { row, done, begun: None })
    }

    #[test]
    fn forward_runs_what_is_not_in_effect() {
        assert_eq!(up(TEXT, None), Ok(run(None, 0)));
        assert_eq!(up(TEXT, Some(&entry(Way::Down, 3, TEXT))), Ok(run(None, 0)));
        assert_eq!(up(TEXT, Some(&entry(Way::Up, 3, TEXT))), Ok(Course::Nothing));
        assert_eq!(up(TEXT, Some(&entry(Way::Up, 2, TEXT))), Ok(run(Some(7), 2)));
    }

    #[test]
    fn a_statement_that_was_begun_is_looked_at_first() {
        let mut begun = entry(Way::Up, 1, TEXT);
        begun.progress.begun = Some(2);
        assert_eq!(up(TEXT, Some(&begun)), Ok(Course::Run(Start { row: Some(7), done: 1, begun: Some(2) })));
    }

    #[test]
    fn a_script_in_effect_whose_text_has_changed_is_refused() {
        let conflict = up("SELECT 2", Some(&entry(Way::Up, 3, TEXT))).unwrap_err();
        assert!(matches!(conflict, Conflict::Changed { .. }), "{conflict}");
        let conflict = back(&checksum("SELECT 2"), None, Some(&entry(Way::Up, 3, TEXT))).unwrap_err();
        assert!(matches!(conflict, Conflict::Changed { .. }), "{conflict}");
    }

    #[test]
    fn a_half_done_script_may_change_only_where_it_has_not_been() {
        let half = entry(Way::Up, 2, TEXT);
        assert_eq!(up("CREATE TABLE a (); VACUUM; SELECT 2; SELECT 3", Some(&half)), Ok(run(Some(7), 2)));
        for changed in ["CREATE TABLE b (); VACUUM; SELECT 1", "CREATE TABLE a ();"] {
            let conflict = up(changed, Some(&half)).unwrap_err();
            assert!(matches!(conflict, Conflict::ChangedHalfway { done: 2, .. }), "{conflict}");
        }
    }

    #[test]
    fn back_runs_the_down_script_of_what_is_in_effect() {
        assert_eq!(down(None), Ok(Course::Nothing));
        assert_eq!(down(Some(&entry(Way::Down, 3, TEXT))), Ok(Course::Nothing));
        assert_eq!(down(Some(&entry(Way::Up, 3, TEXT))), Ok(run(None, 0)));
        assert_eq!(down(Some(&entry(Way::Up, 1, TEXT))), Ok(run(None, 0)));
        assert_eq!(down(Some(&entry(Way::Up, 0, TEXT))), Ok(Course::Nothing));
        assert_eq!(down(Some(&entry(Way::Down, 2, TEXT))), Ok(run(Some(7), 2)));
    }

    #[test]
    fn without_a_down_script_what_is_in_effect_stays() {
        let conflict = back(&checksum(TEXT), None, Some(&entry(Way::Up, 3, TEXT))).unwrap_err();
        assert!(matches!(conflict, Conflict::NoDown { .. }), "{conflict}");
        assert_eq!(back(&checksum(TEXT), None, None), Ok(Course::Nothing));
    }

    #[test]
    fn a_script_half_taken_back_is_not_run_forward() {
        let conflict = up(TEXT, Some(&entry(Way::Down, 1, TEXT))).unwrap_err();
        assert!(conflict.to_string().contains("1 of 3 statements of its down script"), "{conflict}");
    }
}
