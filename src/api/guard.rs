//! Guards: what Prometheus must say for a migration to go on, and what happens when it says otherwise.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{Percent, Span};

/// A limit on what Prometheus says, watched for as long as the migration runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    /// Name of the guard, unique in its list. A phase's guard of the same name replaces the migration's during that phase.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Metrics provider to ask, as configured by the administrator. Default: the migration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub provider: Option<String>,
    /// A share of errors. The operator divides: no errors series yet counts as zero while the total has data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
    /// Any PromQL that answers with one series or a scalar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub query: Option<String>,
    /// Highest value allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Lowest value allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Highest rise over the baseline, the window just before this migration's flip. Example: `5%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_increase: Option<Percent>,
    /// Deepest fall below the baseline. Example: `20%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_decrease: Option<Percent>,
    /// A change smaller than this is noise, in the query's own unit. Used with `maxIncrease` and `maxDecrease`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_delta: Option<f64>,
    /// Length of the window before the flip that makes the baseline. Default: `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_window: Option<Span>,
    /// How long the limit must be exceeded, on new samples all along, before it is a breach. Default: at once.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<Span>,
    /// How many new samples in a row must exceed the limit before it is a breach. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub consecutive: Option<u32>,
    /// What a breach does: `Rollback` (default) takes everything back, `Pause` holds forward steps until the guard passes again.
    #[serde(default)]
    pub on_breach: OnBreach,
    /// Reports a breach and changes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// How often to ask. Default: `5s`; after a flip the operator asks whenever a new sample is due, at most every 200 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// How long to wait for Prometheus. Default: `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Oldest sample that still counts as data. Default: `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// Time after a flip in which a breach doesn't count, while windows still hold the old side's data. Default: `0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<Span>,
    /// What an empty or outdated result means. It never passes. Default: `Hold`.
    #[serde(default)]
    pub no_data: HoldPolicy,
    /// What NaN means. It never passes. Default: `Hold`.
    #[serde(default)]
    pub nan: HoldPolicy,
    /// What a Prometheus that doesn't answer means. Default: `Hold`.
    #[serde(default)]
    pub unavailable: HoldPolicy,
    /// What a `ratio` below its `minRate` means. Default: `Hold`.
    #[serde(default)]
    pub low_traffic: HoldPolicy,
    /// How long `Hold` is an ordinary wait; past it the migration is Paused and says so. One good reading resets it. Default: `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_budget: Option<Span>,
}

impl Guard {
    /// How often to ask while nothing urgent is under way.
    pub const DEFAULT_INTERVAL: Span = Span::secs(5);
    /// How long to wait for an answer.
    pub const DEFAULT_TIMEOUT: Span = Span::secs(10);
    /// Oldest sample that counts: Prometheus' usual scrape interval is 15 s to 60 s.
    pub const DEFAULT_MAX_AGE: Span = Span::secs(60);
    /// How long a hold is an ordinary wait.
    pub const DEFAULT_HOLD_BUDGET: Span = Span::secs(300);
    /// Length of the window that makes a baseline.
    pub const DEFAULT_BASELINE_WINDOW: Span = Span::secs(300);

    /// Whether a limit compares with the window before the flip, so that a baseline must be taken.
    pub fn needs_baseline(&self) -> bool {
        self.max_increase.is_some() || self.max_decrease.is_some()
    }
}

/// Errors over total, divided by the operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ratio {
    /// PromQL of the rate of errors. No result counts as zero while `total` has data.
    #[schemars(length(min = 1, max = 2048))]
    pub errors: String,
    /// PromQL of the rate of all requests.
    #[schemars(length(min = 1, max = 2048))]
    pub total: String,
    /// Least `total`, in its own unit, for the ratio to mean anything. Below it the reading is `lowTraffic`. Default: any above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_rate: Option<f64>,
}

/// What a breach does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnBreach {
    /// Everything is taken back.
    #[default]
    Rollback,
    /// Forward steps are held until the guard passes again.
    Pause,
}

/// What a reading that says nothing means. There is no variant that passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HoldPolicy {
    /// No forward step and no rollback; past the budget the migration is Paused.
    #[default]
    Hold,
    /// As if the limit were exceeded.
    Breach,
}
