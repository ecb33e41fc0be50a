//! A real Prometheus on loopback, and an exporter whose values the test sets. Both are gone when they are dropped.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, http::header::CONNECTION, routing::get};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::wait::within;

/// Where Debian's package puts it; another place is named by `ALONGSIDE_TEST_PROMETHEUS`.
const PROMETHEUS: &str = "/usr/bin/prometheus";
/// Long enough for anything that works at all, on a busy machine.
const SOON: Duration = Duration::from_mins(1);

/// Serves `/metrics` with what the test says.
pub struct Exporter {
    /// Where it listens.
    pub addr: SocketAddr,
    series: Arc<Mutex<BTreeMap<String, String>>>,
    scrapes: Arc<AtomicU64>,
    server: JoinHandle<()>,
}

impl Exporter {
    /// An exporter without any series.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let series: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        let scrapes = Arc::new(AtomicU64::new(0));
        let (told, counted) = (Arc::clone(&series), Arc::clone(&scrapes));
        let metrics = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut text = String::new();
            for (name, value) in told.lock().unwrap().iter() {
                writeln!(text, "{name} {value}").unwrap();
            }
            // A connection that stays open would outlive the exporter.
            std::future::ready(([(CONNECTION, "close")], text))
        };
        let app = Router::new().route("/metrics", get(metrics));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { addr, series, scrapes, server }
    }

    /// Sets one series, such as `requests_total{code="500"}`, from the next scrape on.
    pub fn set(&self, series: &str, value: f64) {
        self.series.lock().unwrap().insert(series.to_owned(), value.to_string());
    }

    /// Sets several series at once: no scrape sees only some of them.
    pub fn set_all<'a>(&self, all: impl IntoIterator<Item = (&'a str, f64)>) {
        let mut series = self.series.lock().unwrap();
        series.extend(all.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())));
    }

    /// Sets one series with a timestamp of the exporter's own, as old as `age`.
    pub fn set_old(&self, series: &str, value: f64, age: Duration) {
        let at = (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap().as_millis();
        self.series.lock().unwrap().insert(series.to_owned(), format!("{value} {at}"));
    }

    /// How often it has been scraped.
    pub fn scrapes(&self) -> u64 {
        self.scrapes.load(Ordering::Relaxed)
    }

    /// Waits until a scrape has begun and ended after this call.
    pub async fn scraped(&self) {
        let target = self.scrapes() + 2;
        within(
            SOON,
            "the exporter is scraped",
            async || {
                if self.scrapes() >= target { Ok(()) } else { Err("not yet") }
            },
        )
        .await;
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A Prometheus process.
pub struct Prometheus {
    /// Base URL of its API.
    pub url: String,
    dir: PathBuf,
    port: u16,
    tls: bool,
    process: Option<Child>,
}

impl Prometheus {
    /// Starts one that scrapes each exporter every `interval`, and waits until it has scraped each once.
    pub async fn start(interval: &str, exporters: &[&Exporter]) -> Self {
        Self::start_with(interval, exporters, None).await
    }

    /// As [`Prometheus::start`], with the text of a web configuration file (TLS, users); the files that it names lie in
    /// `dir`, which the caller has filled.
    pub async fn start_with(interval: &str, exporters: &[&Exporter], web: Option<(&str, PathBuf)>) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let tls = web.is_some();
        let dir = match &web {
            Some((_, dir)) => dir.clone(),
            None => std::env::temp_dir().join(format!("alongside-prometheus-{}-{number}", std::process::id())),
        };
        std::fs::create_dir_all(&dir).unwrap();
        if let Some((text, _)) = web {
            std::fs::write(dir.join("web.yml"), text).unwrap();
        }
        let targets: Vec<_> = exporters.iter().map(|exporter| format!("\"{}\"", exporter.addr)).collect();
        let config = format!(
            "global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}\nscrape_configs: [{{job_name: test, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.join(", ")
        );
        std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        // Nobody else takes it between here and the start but by bad luck.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{port}");
        let mut started = Self { url, dir, port, tls, process: None };
        started.resume().await;
        if !tls && !exporters.is_empty() {
            let wanted = u32::try_from(exporters.len()).expect("a test has few exporters");
            let up = async || match started.value("count(up == 1)").await {
                Some(up) if up >= f64::from(wanted) => Ok(()),
                other => Err(format!("{other:?} of {wanted} targets are up")),
            };
            within(SOON, "every exporter has been scraped", up).await;
        }
        started
    }

    /// Starts it again after [`Prometheus::stop`], where it was and with what it knew.
    pub async fn resume(&mut self) {
        let program = std::env::var("ALONGSIDE_TEST_PROMETHEUS").unwrap_or_else(|_| PROMETHEUS.to_owned());
        let mut command = Command::new(&program);
        command
            .arg(format!("--config.file={}", self.dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", self.dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port))
            .arg("--log.level=error");
        if self.tls {
            command.arg(format!("--web.config.file={}", self.dir.join("web.yml").display()));
        }
        let log = std::fs::File::create(self.dir.join("log")).unwrap();
        let process = command.stdout(Stdio::null()).stderr(log).spawn();
        self.process = Some(process.unwrap_or_else(|error| panic!("{program} can't be started: {error}")));
        let port = self.port;
        let listening = async || tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map(drop);
        within(SOON, "Prometheus listens", listening).await;
        if !self.tls {
            within(SOON, "Prometheus is ready", async || {
                let answer = client().get(format!("{}/-/ready", self.url));
                answer.send().await?.error_for_status().map(drop)
            })
            .await;
        }
    }

    /// Ends it at once, as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Freezes it: connections are taken, and nothing is ever answered.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// The value of a query, where there is one.
    pub async fn value(&self, query: &str) -> Option<f64> {
        let request = client().post(format!("{}/api/v1/query", self.url));
        let answer: Value = request.form(&[("query", query)]).send().await.ok()?.json().await.ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    /// How many instant queries it has answered, by its own count.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Prometheus writes counts as floats")]
    pub async fn answered(&self) -> u64 {
        let client = client();
        let text = client.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap();
        let ours = |line: &&str| {
            line.starts_with("prometheus_http_requests_total{") && line.contains("handler=\"/api/v1/query\"")
        };
        let counts = text.lines().filter(ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        counts.sum::<f64>() as u64
    }

    /// Processor time that it has used so far.
    pub fn processor_time(&self) -> Duration {
        processor_time(&self.process.as_ref().expect("it runs").id().to_string())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.stop();
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn client() -> reqwest::Client {
    // Building any client asks for one; that another test has installed it is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Processor time used by a process, `self` or a number.
pub fn processor_time(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in parentheses, may hold spaces; user and system time are the 14th and 15th field.
    let after = &stat[stat.rfind(')').unwrap() + 2..];
    let ticks: u64 = after.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    // A tick is 10 ms on every Linux that this runs on.
    Duration::from_millis(ticks * 10)
}
