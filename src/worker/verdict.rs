//! What a worker reports when it ends: JSON in the pod's termination message, which Kubernetes cuts off at 4,096 bytes.
//!
//! It is free of credentials, and it fits: what is too long is shortened by us, so that it stays JSON.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::verify::evidence::Verified;
use crate::stores::{Finding, postgres::redact::Redactor};

/// Version of a verdict's meaning.
pub const FORMAT_VERSION: u32 = 1;
/// What Kubernetes keeps of a termination message, in bytes.
pub const MAX_BYTES: usize = 4096;
/// Longest message, in bytes; status cuts at the same length.
const MAX_MESSAGE: usize = 1024;
/// Longest part of a statement that is shown, in bytes.
const MAX_STATEMENT: usize = 240;

/// What came of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What came of it, as one word.
    pub outcome: Outcome,
    /// What came of it, for people: what has taken effect, what stood in the way, what to do.
    pub message: String,
    /// Versions of the task's scripts that are in effect now; absent where the history wasn't read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Vec<String>>,
    /// Versions of the task's scripts that were in effect once and have been taken back; absent likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Vec<String>>,
    /// The statement that the server refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_statement: Option<FailedStatement>,
    /// The server's code for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// What was noticed, errors first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// What a backfill came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<super::backfill::summary::Summary>,
    /// What a verification has come to, in short; absent where none was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// Entries of the lists above that there was no room for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

/// What came of a task. The exit code says the same, for when the message is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All is as the task wants it. Exit code 0.
    Succeeded,
    /// Something went wrong that another try may get over. The message says what has taken effect. Exit code 1.
    Failed,
    /// It can't be done as it stands, and nothing was changed in this run: a person has to change something. Exit code 3.
    Refused,
    /// The worker was told to stop. Exit code 4.
    Stopped,
    /// The connection was lost and the store didn't come back: what happened to the last step isn't known. Another try
    /// asks the store first. Exit code 5.
    Unknown,
}

/// A statement that the server refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedStatement {
    /// Name of the script.
    pub script: String,
    /// Place of the statement in the script, from 1.
    pub number: usize,
    /// Statements of the script in all.
    pub of: usize,
    /// Line of the script that the server points at, or on which the statement begins, from 1.
    pub line: usize,
    /// The beginning of its text.
    pub text: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Outcome {
    /// The process's exit code. 2 is left to the command line's own errors.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Failed => 1,
            Self::Refused => 3,
            Self::Stopped => 4,
            Self::Unknown => 5,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.exit_code())
    }
}

/// A text that others wrote, without what has the form of a credential.
pub fn cleared(text: &str) -> String {
    Redactor::default().redact(text)
}

impl Verdict {
    /// A verdict with nothing but its outcome and message.
    pub fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            outcome,
            message: message.into(),
            applied: None,
            undone: None,
            failed_statement: None,
            sqlstate: None,
            findings: Vec::new(),
            backfill: None,
            verified: None,
            left_out: 0,
        }
    }

    /// Whether trying again can't help unless somebody changes something first.
    pub fn is_terminal(&self) -> bool {
        // Classes 42 and 0A: a statement that the server doesn't understand, may not run, or doesn't support.
        let hopeless = self.sqlstate.as_ref().is_some_and(|code| code.starts_with("42") || code.starts_with("0A"));
        match self.outcome {
            Outcome::Refused => true,
            Outcome::Failed => hopeless,
            Outcome::Succeeded | Outcome::Stopped | Outcome::Unknown => false,
        }
    }

    /// JSON of at most [`MAX_BYTES`].
    pub fn to_json(&self) -> String {
        let mut fitting = self.clone();
        cut(&mut fitting.message, MAX_MESSAGE);
        if let Some(failed) = &mut fitting.failed_statement {
            cut(&mut failed.text, MAX_STATEMENT);
            cut(&mut failed.script, MAX_STATEMENT);
        }
        loop {
            let json = serde_json::to_string(&fitting).expect("a verdict has no map with odd keys");
            if json.len() <= MAX_BYTES {
                return json;
            }
            // Warnings stand last among the findings; the lists matter least.
            let pop = |versions: &mut Option<Vec<String>>| versions.as_mut().is_some_and(|all| all.pop().is_some());
            let name = |verified: &mut Option<Verified>| verified.as_mut().is_some_and(|all| all.first.pop().is_some());
            let dropped = fitting.findings.pop().is_some()
                || pop(&mut fitting.undone)
                || pop(&mut fitting.applied)
                || name(&mut fitting.verified);
            if dropped {
                fitting.left_out += 1;
            } else {
                // Only control characters, which JSON writes as six bytes, get here.
                let half = fitting.message.len() / 2;
                cut(&mut fitting.message, half);
                fitting.failed_statement = None;
            }
        }
    }
}

/// Cuts a text to `bytes`, with an ellipsis in place of what is gone.
fn cut(text: &mut String, bytes: usize) {
    if text.len() <= bytes {
        return;
    }
    let mut end = bytes.saturating_sub("…".len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push('…');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stores::Severity;

    fn finding(text: &str) -> Finding {
        Finding {
            rule: "rule".into(),
            severity: Severity::Warning,
            script: Some("0007_add_sku".into()),
            line: Some(3),
            message: text.into(),
            advice: text.into(),
        }
    }

    #[test]
    fn a_verdict_that_fits_is_written_whole() {
        let mut verdict = Verdict::new(Outcome::Failed, "statement 2 failed");
        verdict.applied = Some(vec!["7".into()]);
        verdict.sqlstate = Some("23505".into());
        verdict.findings = vec![finding("careful")];
        assert_eq!(serde_json::from_str::<Verdict>(&verdict.to_json()).unwrap(), verdict);
        let bare = Verdict::new(Outcome::Succeeded, "done").to_json();
        assert_eq!(bare, r#"{"formatVersion":1,"outcome":"Succeeded","message":"done"}"#);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let mut verdict = Verdict::new(Outcome::Refused, "m".repeat(5_000));
        verdict.findings = (0..100).map(|_| finding(&"x".repeat(100))).collect();
        let read: Verdict = serde_json::from_str(&verdict.to_json()).unwrap();
        assert!(read.message.ends_with('…') && read.message.len() <= MAX_MESSAGE);
        assert_eq!(read.findings.len() + read.left_out, 100);
        assert!(read.findings.len() > 5);
    }

    #[test]
    fn only_a_person_can_help_a_refusal_or_a_statement_that_means_nothing() {
        assert!(Verdict::new(Outcome::Refused, "").is_terminal());
        assert!(!Verdict::new(Outcome::Failed, "").is_terminal());
        assert!(!Verdict::new(Outcome::Unknown, "").is_terminal());
        let syntax = Verdict { sqlstate: Some("42601".into()), ..Verdict::new(Outcome::Failed, "") };
        assert!(syntax.is_terminal());
        let duplicate = Verdict { sqlstate: Some("23505".into()), ..Verdict::new(Outcome::Failed, "") };
        assert!(!duplicate.is_terminal());
    }

    #[test]
    fn each_outcome_has_an_exit_code_of_its_own() {
        let outcomes = [Outcome::Succeeded, Outcome::Failed, Outcome::Refused, Outcome::Stopped, Outcome::Unknown];
        assert_eq!(outcomes.map(Outcome::exit_code), [0, 1, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn any_verdict_fits_and_stays_json(
            message in "\\PC{0,3000}|[\\x00-\\x1f]{0,3000}",
            statement in "\\PC{0,500}",
            applied in proptest::collection::vec("[0-9]{1,20}", 0..300),
            findings in proptest::collection::vec("\\PC{0,300}", 0..30),
        ) {
            let mut verdict = Verdict::new(Outcome::Failed, message);
            verdict.applied = Some(applied);
            verdict.findings = findings.iter().map(|text| finding(text)).collect();
            verdict.failed_statement =
                Some(FailedStatement { script: "s".into(), number: 1, of: 1, line: 1, text: statement });
            let json = verdict.to_json();
            prop_assert!(json.len() <= MAX_BYTES);
            prop_assert!(serde_json::from_str::<Verdict>(&json).is_ok());
        }
    }
}
