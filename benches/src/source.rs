//! Where both read their metrics: a source that speaks Prometheus's query API and knows to the millisecond when a breach
//! becomes visible, or a real Prometheus that is asked every few milliseconds.
//!
//! The controlled source behaves as a Prometheus does whose targets are scraped at a steady rate: each series has a
//! sample every interval, at an offset of its own, and a sample can be read a little after its timestamp. Nothing
//! changes between samples.

use std::{
    collections::HashMap,
    fmt::Write as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Bytes,
    extract::{RawQuery, State},
    http::header::CONTENT_TYPE,
    response::IntoResponse,
    routing::{get, post},
};

use crate::{
    process::{self, Process},
    wait::{LONG, fraction, until},
};

/// Where the controlled source listens.
pub const PORT: u16 = 19_090;
/// Where a real Prometheus does.
const PROMETHEUS_PORT: u16 = 19_091;
/// How long after its timestamp a sample can be read: scraping and storing takes a Prometheus a few milliseconds.
const READABLE_AFTER: Duration = Duration::from_millis(5);
/// How often a real Prometheus is asked whether the breach is there.
const PROBE_EVERY: Duration = Duration::from_millis(5);

/// Where metrics come from. Cloning gives another handle to the same source.
#[derive(Clone)]
pub struct Source {
    inner: Arc<Inner>,
}

struct Inner {
    epoch: (Instant, SystemTime),
    scrape: Duration,
    series: Mutex<HashMap<String, Series>>,
    queries: AtomicU64,
    prometheus: Option<Process>,
}

#[derive(Clone, Default)]
struct Series {
    /// Where in the interval its samples lie, from 0 up to 1.
    offset: f64,
    breached_at: Option<Instant>,
    told: Option<Instant>,
}

impl Source {
    /// Starts it, with samples every `scrape`.
    pub async fn start(scrape: Duration, prometheus: Option<&Path>, out: &Path) -> Self {
        let process = prometheus.map(|program| start_prometheus(program, scrape, out));
        let epoch = (Instant::now(), SystemTime::now());
        let inner = Inner { epoch, scrape, series: Mutex::default(), queries: AtomicU64::new(0), prometheus: process };
        let source = Self { inner: Arc::new(inner) };
        let router = Router::new()
            .route("/api/v1/query", post(by_body).get(by_url))
            .route("/metrics", get(exported))
            .with_state(source.clone());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", PORT)).await.expect("the source's port is free");
        tokio::spawn(async move { axum::serve(listener, router).await });
        if source.inner.prometheus.is_some() {
            until(LONG, "Prometheus is ready", async || process::get(PROMETHEUS_PORT, "/-/ready").await).await;
        }
        source
    }

    /// Its address.
    pub fn url(&self) -> String {
        let port = if self.inner.prometheus.is_some() { PROMETHEUS_PORT } else { PORT };
        format!("http://127.0.0.1:{port}")
    }

    /// The query of one object's guard.
    pub fn query(id: &str) -> String {
        format!("max(bench_errors{{id=\"{id}\"}})")
    }

    /// A series that says that all is well, with its samples at another place of the interval: who polls on whole seconds
    /// would be as late, or as early, each time.
    pub fn healthy(&self, id: &str) {
        self.with(id, |series| *series = Series { offset: fraction(), ..Series::default() });
    }

    /// How often it was asked for anything.
    pub fn queries(&self) -> u64 {
        self.inner.queries.load(Ordering::Relaxed)
    }

    /// When the breach was first told to anyone.
    pub fn told(&self, id: &str) -> Option<Instant> {
        self.with(id, |series| series.told)
    }

    /// Breaches a limit from now on, and returns once a query would show it, with the time since when it would.
    pub async fn breach(&self, id: &str) -> Instant {
        let now = Instant::now();
        self.with(id, |series| series.breached_at = Some(now));
        if self.inner.prometheus.is_some() {
            let path = format!("/api/v1/query?query=bench_errors%7Bid%3D%22{id}%22%7D");
            let mut probe = tokio::time::interval(PROBE_EVERY);
            loop {
                probe.tick().await;
                let asked = Instant::now();
                if process::get(PROMETHEUS_PORT, &path).await.is_some_and(|answer| answer.contains("\"1\"]")) {
                    return asked;
                }
            }
        }
        let visible = self.sampled_by(id, now) + self.inner.scrape + READABLE_AFTER;
        tokio::time::sleep_until(visible.into()).await;
        visible
    }

    fn with<T>(&self, id: &str, look: impl FnOnce(&mut Series) -> T) -> T {
        let mut all = self.inner.series.lock().expect("nothing panics while it holds this lock");
        look(all.entry(id.to_owned()).or_default())
    }

    /// When the newest sample of a series at `now` was taken.
    fn sampled_by(&self, id: &str, now: Instant) -> Instant {
        let every = u64::try_from(self.inner.scrape.as_millis()).unwrap_or(1);
        let offset = self.with(id, |series| self.inner.scrape.mul_f64(series.offset));
        let offset = u64::try_from(offset.as_millis()).unwrap_or_default();
        let since = u64::try_from(now.duration_since(self.inner.epoch.0).as_millis()).unwrap_or_default() + every;
        let sampled = (since - offset) / every * every + offset;
        let one_later = self.inner.epoch.0 + Duration::from_millis(sampled);
        one_later.checked_sub(self.inner.scrape).unwrap_or(self.inner.epoch.0)
    }

    fn answer(&self, request: &str) -> String {
        self.inner.queries.fetch_add(1, Ordering::Relaxed);
        // The query's quotes and braces come encoded, and no name of ours needs to be.
        let id = request.split_once("id%3D%22").and_then(|(_, rest)| rest.split_once("%22")).map_or("", |(id, _)| id);
        let now = Instant::now();
        let readable = now.checked_sub(READABLE_AFTER).unwrap_or(now);
        let sampled = self.sampled_by(id, readable);
        let breached = self.with(id, |series| {
            let breached = series.breached_at.is_some_and(|at| at <= sampled);
            if breached {
                series.told.get_or_insert(now);
            }
            breached
        });
        let value = u8::from(breached);
        let (at, sampled) = (self.unix(now), self.unix(sampled));
        let mut series = String::new();
        if request.contains("alongside_part") {
            write!(
                series,
                r#"{{"metric":{{"alongside_part":"value"}},"value":[{at},"{value}"]}},{{"metric":{{"alongside_part":"at0"}},"value":[{at},"{sampled}"]}}"#
            )
        } else {
            write!(series, r#"{{"metric":{{}},"value":[{at},"{value}"]}}"#)
        }
        .expect("writing to a String doesn't fail");
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
    }

    fn unix(&self, at: Instant) -> String {
        let (began, began_unix) = self.inner.epoch;
        let unix = began_unix + at.saturating_duration_since(began);
        format!("{:.3}", unix.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
    }
}

async fn by_body(State(source): State<Source>, body: Bytes) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], source.answer(&String::from_utf8_lossy(&body)))
}

async fn by_url(State(source): State<Source>, RawQuery(query): RawQuery) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], source.answer(&query.unwrap_or_default()))
}

/// What a real Prometheus scrapes.
async fn exported(State(source): State<Source>) -> String {
    let all = source.inner.series.lock().expect("nothing panics while it holds this lock");
    let mut text = String::new();
    for (id, series) in all.iter() {
        let value = u8::from(series.breached_at.is_some());
        writeln!(text, "bench_errors{{id=\"{id}\"}} {value}").expect("writing to a String doesn't fail");
    }
    text
}

fn start_prometheus(program: &Path, scrape: Duration, out: &Path) -> Process {
    let folder = out.join(format!("prometheus-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("Prometheus's folder can be made");
    let every = scrape.as_millis();
    let config = format!(
        "global: {{scrape_interval: {every}ms, scrape_timeout: {every}ms}}\nscrape_configs: [{{job_name: bench, static_configs: [{{targets: ['127.0.0.1:{PORT}']}}]}}]\n"
    );
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, config).expect("Prometheus's configuration can be written");
    let arguments = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", folder.join("data").display()),
        format!("--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}"),
        "--log.level=error".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Process::start(program, &arguments, &folder.join("log"))
}
