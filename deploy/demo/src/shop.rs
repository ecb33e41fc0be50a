//! Asking what runs in an act: the load, the pods of green, Prometheus. All of it goes through the API server's proxy,
//! which every cluster has, so that nothing need be forwarded. Touches the network.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use alongside::api::{Guard, Time};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    figures::{Books, Window},
    record::{Record, Side, Unreadable},
    script::{METRICS_NAMESPACE, MIGRATION},
    stage::QUICK,
    tools::{ToolError, Tools},
};

/// How often something that is waited for is asked again.
pub const ASK_AGAIN: Duration = Duration::from_millis(300);
/// Step of the question when a breach became visible, in seconds: what the answer may be late by.
const STEP: &str = "0.01";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The record can't be read.
    #[error(transparent)]
    Record(#[from] Unreadable),
    /// Something never came.
    #[error("waited {limit:?} in vain: {what}")]
    InVain {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        limit: Duration,
    },
}

/// The path of the load's API in a namespace.
pub fn load_path(namespace: &str, rest: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services/load:9090/proxy/{rest}")
}

/// What runs in the namespace of an act.
#[derive(Clone, Debug)]
pub struct Shop {
    tools: Tools,
    namespace: &'static str,
}

#[derive(Deserialize)]
struct Totals {
    taken: u64,
}

#[derive(Deserialize)]
struct FaultReport {
    errors_from_ms: Option<i64>,
    crash_at_ms: Option<i64>,
}

impl Shop {
    /// What runs in `namespace`.
    pub fn new(tools: Tools, namespace: &'static str) -> Self {
        Self { tools, namespace }
    }

    /// Starts the load, and waits until it has sent some thousand requests in a row without a failure.
    pub fn start_load(&self, limit: Duration) -> Result<(), ShopError> {
        self.scale_load(1)?;
        let rollout = ["rollout", "status", "deployment/load", "--timeout=60s"];
        self.tools.kubectl(&[&["--namespace", self.namespace][..], &rollout].concat(), limit)?;
        self.mark("settled")?;
        let settled = || {
            let stats: Value = self.load("stats")?;
            let total = &stats["total"];
            if total["failed"] != 0 || total["missed"] != 0 {
                self.mark("settled")?;
                return Ok(None);
            }
            Ok((total["ok"].as_u64() >= Some(2_500)).then_some(()))
        };
        wait("the load runs without a failure", limit, settled)
    }

    /// Ends the load.
    pub fn stop_load(&self) -> Result<(), ShopError> {
        self.scale_load(0)
    }

    fn scale_load(&self, replicas: u8) -> Result<(), ShopError> {
        let replicas = format!("--replicas={replicas}");
        self.tools.kubectl(&["--namespace", self.namespace, "scale", "deployment/load", &replicas], QUICK)?;
        Ok(())
    }

    /// Begins a new window of the load's account.
    pub fn mark(&self, name: &str) -> Result<(), ShopError> {
        let path = load_path(self.namespace, &format!("mark?name={name}"));
        self.tools.kubectl(&["create", "--raw", &path, "--filename=/dev/null"], QUICK)?;
        Ok(())
    }

    /// Waits until the window `name` has so many good answers more than now.
    pub fn more_answers(&self, name: &str, more: u64, limit: Duration) -> Result<(), ShopError> {
        let answers =
            || -> Result<u64, ShopError> { Ok(self.load::<Window>(&format!("stats?window={name}"))?.total.ok) };
        let enough = answers()? + more;
        wait("the load goes on", limit, || Ok((answers()? >= enough).then_some(())))
    }

    /// Returns the load's account of a window, once nothing that was due in it is under way any more.
    pub fn closed_window(&self, name: &str) -> Result<Window, ShopError> {
        wait("the last request has ended", Duration::from_secs(20), || {
            let window: Window = self.load(&format!("stats?window={name}"))?;
            Ok((window.total.in_flight == 0).then_some(window))
        })
    }

    /// Returns the load's record of each request that ended at `since` or later.
    pub fn record(&self, since: Time) -> Result<Record, ShopError> {
        let csv = self.get(&load_path(self.namespace, &format!("requests?since_ms={}", since.0)))?;
        Ok(Record::parse(&csv)?)
    }

    /// Returns the writes of the load's windows, and those in the table.
    pub fn books(&self, windows: &[&str]) -> Result<Books, ShopError> {
        let takes = || -> Result<(u64, u64), ShopError> {
            let mut sum = (0, 0);
            for name in windows {
                let Window { takes, .. } = self.load(&format!("stats?window={name}"))?;
                sum = (sum.0 + takes.acknowledged, sum.1 + takes.sent);
            }
            Ok(sum)
        };
        let (acknowledged, _) = takes()?;
        let path = format!("/api/v1/namespaces/{}/services/inventory:80/proxy/totals", self.namespace);
        let totals: Totals = self.json(&path)?;
        let (_, sent) = takes()?;
        Ok(Books { acknowledged, written: totals.taken, sent })
    }

    /// Returns whom the Service's selector names.
    pub fn selected(&self) -> Result<Option<Side>, ShopError> {
        let arguments = ["--namespace", self.namespace, "get", "service", "inventory", "--output=json"];
        let service: Value = self.tools.read(&arguments, QUICK)?;
        Ok(match service["spec"]["selector"]["version"].as_str() {
            Some("v1") => Some(Side::Blue),
            Some("v2") => Some(Side::Green),
            Some(_) | None => None,
        })
    }

    /// Asks green's pods until one of them knows when its fault begins, and returns the first such time.
    pub fn fault_from(&self, limit: Duration) -> Result<Time, ShopError> {
        let arguments = ["--namespace", self.namespace, "get", "pods", "--selector=version=v2", "--output=json"];
        let pods: Value = self.tools.read(&arguments, QUICK)?;
        let names = pods["items"].as_array().into_iter().flatten().filter_map(|pod| pod["metadata"]["name"].as_str());
        let paths: Vec<_> =
            names.map(|name| format!("/api/v1/namespaces/{}/pods/{name}:8081/proxy/fault", self.namespace)).collect();
        wait("green says when its fault begins", limit, || {
            let known = paths.iter().filter_map(|path| {
                // A pod that has crashed meanwhile doesn't answer; the other one will do.
                let report: FaultReport = self.json(path).ok()?;
                report.crash_at_ms.or(report.errors_from_ms).map(Time)
            });
            Ok(known.min())
        })
    }

    /// Asks Prometheus when a guard's share of errors first exceeded its limit, between two times.
    pub fn visible(&self, guards: &[Guard], from: Time, to: Time) -> Result<Option<Time>, ShopError> {
        let mut first: Option<Time> = None;
        for guard in guards {
            let (Some(ratio), Some(max)) = (&guard.ratio, guard.max) else { continue };
            let query = encoded(&format!("({}) / ({}) > {max}", ratio.errors, ratio.total));
            let path = format!(
                "/api/v1/namespaces/{METRICS_NAMESPACE}/services/prometheus:9090/proxy/api/v1/query_range\
                 ?query={query}&start={}&end={}&step={STEP}",
                seconds(from),
                seconds(to)
            );
            let answer: Value = self.json(&path)?;
            let values = answer["data"]["result"].as_array().into_iter().flatten().flat_map(|series| {
                series["values"].as_array().into_iter().flatten().filter_map(|point| point[0].as_f64())
            });
            #[expect(
                clippy::cast_possible_truncation,
                reason = "milliseconds since 1970 fit for another 285,000 years"
            )]
            let exceeded = values.map(|at| Time((at * 1_000.0).round() as i64)).min();
            first = first.into_iter().chain(exceeded).min();
        }
        Ok(first)
    }

    /// Approves a phase as a person would, and returns the command.
    pub fn approve(&self, kubectl: &str, binding: &str) -> Result<String, ShopError> {
        let who: Value = self.tools.read(&["auth", "whoami", "--output=json"], QUICK)?;
        let user = who["status"]["userInfo"]["username"].as_str().unwrap_or_default();
        let approve = format!("alongside.dev/approve={binding}");
        let approved_by = format!("alongside.dev/approved-by={user}");
        let arguments =
            ["--namespace", self.namespace, "annotate", "--overwrite", "migration", MIGRATION, &approve, &approved_by];
        self.tools.kubectl(&arguments, QUICK)?;
        Ok(format!("{kubectl} {}", arguments.join(" ")))
    }

    fn load<T: DeserializeOwned>(&self, rest: &str) -> Result<T, ShopError> {
        self.json(&load_path(self.namespace, rest))
    }

    fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ShopError> {
        Ok(self.tools.read(&["get", "--raw", path], QUICK)?)
    }

    fn get(&self, path: &str) -> Result<String, ShopError> {
        Ok(self.tools.kubectl(&["get", "--raw", path], QUICK)?)
    }
}

/// Asks again and again until there is an answer.
fn wait<T>(
    what: &'static str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, ShopError>,
) -> Result<T, ShopError> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(ShopError::InVain { what, limit });
        }
        thread::sleep(ASK_AGAIN);
    }
}

fn seconds(time: Time) -> String {
    format!("{}.{:03}", time.0 / 1_000, time.0 % 1_000)
}

/// For a query string.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String can't fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_its_way_into_a_url() {
        assert_eq!(encoded("rate(a{b=~\"5..\"}[5s]) > 0.01"), "rate%28a%7Bb%3D~%225..%22%7D%5B5s%5D%29%20%3E%200.01");
    }

    #[test]
    fn prometheus_is_asked_in_seconds() {
        assert_eq!(seconds(Time(1_764_000_000_023)), "1764000000.023");
    }

    #[test]
    fn waiting_ends_in_time_and_says_what_for() {
        let never: Result<(), _> = wait("the moon is blue", Duration::from_millis(1), || Ok(None));
        assert_eq!(never.unwrap_err().to_string(), "waited 1ms in vain: the moon is blue");
    }
}
