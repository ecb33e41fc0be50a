//! What is played: the acts, and what each is to show.

use std::time::Duration;

/// The namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "alongside-system";
/// The namespace of Prometheus.
pub const METRICS_NAMESPACE: &str = "shop-metrics";
/// The Migration's name, the same in each act.
pub const MIGRATION: &str = "inventory-v2";
/// On every namespace that the demo made; one without it is never touched.
pub const LABEL: &str = "alongside.dev/demo";

/// What green does wrong, and so how its act must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the Migration goes through.
    None,
    /// Three of ten answers are 500, from five seconds after a pod's first request on.
    Errors,
    /// A pod exits five seconds after its first request, and doesn't come back.
    Crash,
}

/// One act.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// What it is called.
    pub title: &'static str,
    /// The namespace it is played in.
    pub namespace: &'static str,
    /// The manifest of its green.
    pub green: &'static str,
    /// What green does wrong.
    pub fault: Fault,
}

/// All acts, in order.
pub const ACTS: [Act; 3] = [
    Act {
        title: "the happy way",
        namespace: "shop-happy",
        green: include_str!("../../examples/shop/manifests/v2/good.yaml"),
        fault: Fault::None,
    },
    Act {
        title: "green begins to fail requests",
        namespace: "shop-errors",
        green: include_str!("../../examples/shop/manifests/v2/errors.yaml"),
        fault: Fault::Errors,
    },
    Act {
        title: "green crashes",
        namespace: "shop-crash",
        green: include_str!("../../examples/shop/manifests/v2/crash.yaml"),
        fault: Fault::Crash,
    },
];

/// How long an act may take before it has failed. One takes half a minute.
pub const ACT_LIMIT: Duration = Duration::from_mins(2);
