//! What was noticed about scripts or about a store before anything was done to it.

use serde::{Deserialize, Serialize};

/// One thing noticed, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Name of the rule; what `lint.allow` takes.
    pub rule: String,
    /// Whether it stands in the way.
    pub severity: Severity,
    /// Name of the script it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Line of the script, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to do instead, in a sentence.
    pub advice: String,
}

/// Whether a finding stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// Nothing is run before this is mended or accepted.
    Error,
    /// Worth knowing.
    Warning,
}

impl Finding {
    /// Whether it stands in the way.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
