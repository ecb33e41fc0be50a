//! Figures: percentiles, a line for people, a record for machines.

use std::{io::Write as _, path::Path, time::Duration};

use serde_json::{Value, json};

/// What a measurement has to say.
pub struct Report {
    name: String,
    lines: Vec<String>,
    data: Value,
}

impl Report {
    /// A report under a name that tells the conditions.
    pub fn new(name: String) -> Self {
        Self { name, lines: Vec::new(), data: json!({}) }
    }

    /// Adds a line, and the same as data.
    pub fn add(&mut self, key: &str, line: String, data: Value) {
        self.lines.push(line);
        self.data[key] = data;
    }

    /// Prints it, and appends it to the results.
    pub fn publish(&self, out: &Path) {
        println!("## {}", self.name);
        for line in &self.lines {
            println!("{line}");
        }
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("load of the machine at the end: {load}");
        let record = json!({"name": self.name, "at": jiff::Timestamp::now().to_string(), "load": load.trim(),
            "data": self.data});
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).append(true).open(out.join("results.jsonl"));
        writeln!(file.expect("the results can be opened"), "{record}").expect("the results can be written");
    }
}

/// Durations, in order.
pub struct Spread(Vec<Duration>);

impl Spread {
    /// Puts them in order.
    pub fn of(all: impl IntoIterator<Item = Duration>) -> Self {
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_unstable();
        Self(all)
    }

    /// The least value that at least this many percent don't exceed.
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// For people, in milliseconds.
    pub fn line(&self, of_what: &str) -> String {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| self.percentile(percent).as_millis());
        let most = self.percentile(100).as_millis();
        format!("{of_what}: n {} | p50 {p50} | p90 {p90} | p99 {p99} | worst {most} ms", self.0.len())
    }

    /// For machines, in milliseconds.
    pub fn data(&self) -> Value {
        json!(self.0.iter().map(|one| one.as_micros() as f64 / 1_000.0).collect::<Vec<_>>())
    }
}
