//! The CEL rules of the schema: what the API server refuses at admission, and what it says to write instead.
//!
//! The lists are data, so that they read as checklists and a test can walk them. A message names the field and says
//! what to write; where one of several phases is meant, `said` computes the message with the phase's name.
//!
//! At the root of the schema only rules stand that pass while the spec is unchanged: any other, violated by an old
//! object after an upgrade, would block even status writes, and with them a rollback in flight. Below the root the
//! API server itself lets unchanged nodes pass (ratcheting). `tests/admission` shows both.

mod data;
mod guard;
mod phase;
mod spec;

use super::scalar::{PERCENT_PATTERN, SPAN_PATTERN};

/// One rule: where in the schema, the CEL expression, and what the user is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Path in the schema from the root: property names, `[]` for a list's items.
    pub at: String,
    /// The CEL expression; `self` is the node.
    pub rule: String,
    /// What a user reads when it is false.
    pub message: &'static str,
    /// A CEL expression whose value is read instead, unless it fails.
    pub said: Option<&'static str>,
    /// The field the error points to, below the node. Default: the node.
    pub field: Option<&'static str>,
    /// `oldSelf` is an optional, empty when the object is new; so the rule can tell creation from change.
    pub old_self_is_optional: bool,
}

impl Rule {
    fn new(at: impl Into<String>, rule: impl Into<String>, message: &'static str) -> Self {
        let (at, rule) = (at.into(), rule.into());
        Self { at, rule, message, said: None, field: None, old_self_is_optional: false }
    }

    fn says(self, expression: &'static str) -> Self {
        Self { said: Some(expression), ..self }
    }

    fn about(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    fn with_optional_old_self(self) -> Self {
        Self { old_self_is_optional: true, ..self }
    }
}

/// What a user reads when a text doesn't match its pattern. The API server's own words are the bare pattern, so a
/// rule takes the pattern's place in the schema.
pub const PATTERNS: &[(&str, &str)] = &[
    (SPAN_PATTERN, "write a number and a unit, such as `500ms`, `30s`, `10m`, `24h` or `3d`"),
    (PERCENT_PATTERN, "write a number and a percent sign, such as `5%`"),
    (
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "a name has lower-case letters, digits and `-`, and begins and ends with a letter or digit, such as `cut-over`",
    ),
    (LABEL_VALUE_PATTERN, "a label's value has letters, digits, `-`, `_` and `.`, such as `v2`"),
    (TABLES_PATTERN, "write a schema and a table, such as `public.orders` or `public.*`"),
    (r"^/", "a path begins with `/`, such as `/drain`"),
];

/// Tables by schema and name.
pub const TABLES_PATTERN: &str = r"^[^.]+\.[^.]+$";
/// What Kubernetes accepts as the value of a label.
pub const LABEL_VALUE_PATTERN: &str = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

/// The rule that stands for a pattern.
pub fn matches(pattern: &str) -> String {
    format!("self.matches(r'{pattern}')")
}

/// A rule on a span. It passes on what isn't a span, which has a message of its own already, and where `duration`
/// would only add a conversion error.
fn span(at: &str, condition: &str, message: &'static str) -> Rule {
    Rule::new(at, format!("!{} || {condition}", matches(SPAN_PATTERN)), message)
}

/// `duration` knows no days. Read as hours they are shorter, which for a lower limit of up to an hour is all the same.
fn at_least(at: &str, least: &str, message: &'static str) -> Rule {
    span(at, &format!("duration(self.replace('d', 'h')) >= duration('{least}')"), message)
}

fn between(at: &str, least: &str, most: &str, message: &'static str) -> Rule {
    let condition = format!(
        "(!self.contains('d') && duration(self) >= duration('{least}') && duration(self) <= duration('{most}'))"
    );
    span(at, &condition, message)
}

/// Passes on what isn't a share, as [`span`] does.
fn at_most_all(at: &str, message: &'static str) -> Rule {
    Rule::new(at, format!("!{} || double(self.replace('%', '')) <= 100.0", matches(PERCENT_PATTERN)), message)
}

/// Every rule of the schema but those that stand for patterns.
pub fn all() -> Vec<Rule> {
    let mut rules = spec::rules();
    rules.extend(phase::rules());
    rules.extend(data::rules());
    rules.extend(guard::rules("spec.guards.[]"));
    rules.extend(guard::rules("spec.phases.[].guards.[]"));
    rules
}
