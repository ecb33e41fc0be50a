//! Why scripts stop before they are done.

use crate::{
    stores::{
        Finding,
        postgres::{ConnectError, QueryError, connect::chain},
    },
    worker::verdict::{FailedStatement, Outcome, Verdict},
};

/// Why scripts stop before they are done.
#[derive(Debug)]
pub(super) enum Halt {
    /// It can't be done as it stands.
    Refused { message: String, findings: Vec<Finding> },
    /// A try has failed.
    Failed { message: String, statement: Option<FailedStatement>, sqlstate: Option<String> },
    /// The worker was told to stop.
    Stopped { message: String },
    /// The session is gone. Not an end: the store is asked, then things go on from what it says.
    Lost { why: String },
}

impl Halt {
    /// A refusal for what was found, errors first. The first error speaks for all.
    pub fn by_findings(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| !finding.is_error());
        let errors = findings.iter().filter(|finding| finding.is_error()).count();
        let more = if errors > 1 { format!(" (and {} more)", errors - 1) } else { String::new() };
        let first = findings.iter().find(|finding| finding.is_error()).map(describe).unwrap_or_default();
        Self::Refused { message: format!("{first}{more}"), findings }
    }

    /// A refusal with a message alone.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), findings: Vec::new() }
    }

    /// A failure with a message alone.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), statement: None, sqlstate: None }
    }

    /// What is reported of it.
    pub fn into_verdict(self) -> Verdict {
        match self {
            Self::Refused { message, findings } => Verdict { findings, ..Verdict::new(Outcome::Refused, message) },
            Self::Failed { message, statement, sqlstate } => {
                Verdict { failed_statement: statement, sqlstate, ..Verdict::new(Outcome::Failed, message) }
            }
            Self::Stopped { message } => Verdict::new(Outcome::Stopped, message),
            Self::Lost { why } => Verdict::new(
                Outcome::Unknown,
                format!(
                    "The connection was lost and could not be had again: {why}. What happened to the last step isn't \
                     known; another try asks the store before it does anything."
                ),
            ),
        }
    }
}

/// A finding as one line.
pub(super) fn describe(finding: &Finding) -> String {
    let Finding { rule, severity: _, script, line, message, advice } = finding;
    let place = match (script, line) {
        (Some(script), Some(line)) => format!("{script}, line {line}: "),
        (Some(script), None) => format!("{script}: "),
        (None, _) => String::new(),
    };
    format!("{place}{message} {advice} [{rule}]")
}

impl From<QueryError> for Halt {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Refused(refusal) => Self::Failed {
                message: format!("The store refused a question of the worker: {refusal}."),
                statement: None,
                sqlstate: Some(refusal.sqlstate),
            },
            QueryError::Unexpected { .. } => Self::failed(format!("{error}.")),
            QueryError::Lost { why } => Self::Lost { why },
            QueryError::Stopped => Self::Stopped { message: "Stopped; nothing is under way.".to_owned() },
        }
    }
}

impl From<ConnectError> for Halt {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Stopped => {
                Self::Stopped { message: "Stopped while connecting; nothing was done.".to_owned() }
            }
            ConnectError::Unreachable { .. }
            | ConnectError::Refused { .. }
            | ConnectError::ReadUri { .. }
            | ConnectError::Uri(_)
            | ConnectError::Tls(_) => Self::failed(format!("{}.", chain(&error))),
        }
    }
}
