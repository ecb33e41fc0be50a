//! A client of Prometheus's HTTP API: instant and range queries, each with a deadline and a bound on the answer.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Certificate, StatusCode, Url, redirect::Policy};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    ask::seconds,
    provider::{CredentialError, Credentials, ProviderConfig},
};
use crate::api::{Span, Time};

/// Longest answer that is read. A guard's answer is a few hundred bytes; a baseline's window of 300 steps some 40 KiB.
const MAX_BODY: usize = 4 << 20;
/// How long a connection may take to be made. Within a cluster it takes under a millisecond, or never comes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an idle connection is kept: longer than the longest usual interval between polls.
const KEEP_IDLE: Duration = Duration::from_secs(90);
/// How often a CA file is looked at.
const LOOK_AT_CA_AFTER: Duration = Duration::from_secs(10);

/// Why a client can't be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL isn't one that can be asked.
    #[error("the URL isn't valid: {why}")]
    Url {
        /// Why.
        why: String,
    },
    /// A header can't be sent.
    #[error("its headers can't be sent")]
    Credentials(#[source] CredentialError),
    /// The CA file can't be read.
    #[error("its CA file can't be read")]
    ReadCa(#[source] std::io::Error),
    /// TLS can't be set up with this CA.
    #[error("TLS can't be set up")]
    Tls(#[source] reqwest::Error),
}

/// Why a query brought no result.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Its credentials can't be had.
    #[error("the provider's credentials can't be had")]
    Credentials(#[source] CredentialError),
    /// TLS can't be set up with the CA file as it is now.
    #[error("the provider's client can't be built")]
    Client(#[source] ClientError),
    /// No connection.
    #[error("Prometheus can't be reached")]
    Connect(#[source] reqwest::Error),
    /// No answer within the guard's time.
    #[error("Prometheus didn't answer within {timeout}")]
    Timeout {
        /// The time it had.
        timeout: Span,
    },
    /// The connection broke.
    #[error("the connection to Prometheus broke")]
    Transport(#[source] reqwest::Error),
    /// Prometheus refused the query, or couldn't evaluate it.
    #[error("Prometheus answered {kind}: {message}")]
    Refused {
        /// Kind of error, by its own name, such as `bad_data` or `timeout`.
        kind: String,
        /// What it says, cut to size.
        message: String,
    },
    /// Something in between answered.
    #[error("the provider answered with status {status}")]
    Status {
        /// The HTTP status.
        status: StatusCode,
    },
    /// The answer is longer than any sensible query's.
    #[error("the answer is longer than {MAX_BODY} bytes; aggregate the query to one series")]
    TooLong,
    /// The answer isn't Prometheus's.
    #[error("the answer isn't that of a Prometheus API")]
    NotPrometheus(#[source] serde_json::Error),
}

/// One series of an instant result.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was evaluated, by Prometheus's clock.
    pub at: Time,
    /// Its value. A native histogram has none and reads as NaN.
    pub value: f64,
}

/// One series of a range result.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its values, oldest first.
    pub points: Vec<(Time, f64)>,
}

/// A result, and what Prometheus warned of.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered<T> {
    /// The series.
    pub series: Vec<T>,
    /// Warnings, such as a remote store that didn't answer.
    pub warnings: Vec<String>,
}

/// A client of one provider. Requests to it wait for each other beyond its limit; those to other providers don't.
#[derive(Debug)]
pub struct Client {
    base: Url,
    ca: Option<Ca>,
    insecure: bool,
    http: Mutex<reqwest::Client>,
    credentials: Credentials,
    under_way: Semaphore,
}

#[derive(Debug)]
struct Ca {
    path: std::path::PathBuf,
    seen: Mutex<(std::time::Instant, Vec<u8>)>,
}

impl Client {
    /// A client for a provider as configured.
    ///
    /// # Errors
    /// The URL, a header's name or the CA can't be used.
    pub fn new(config: &ProviderConfig) -> Result<Self, ClientError> {
        let base = base_url(&config.url)?;
        let credentials = Credentials::of(config).map_err(ClientError::Credentials)?;
        let insecure = config.insecure_skip_verify;
        let ca = match &config.ca_file {
            Some(path) => Some((path.clone(), std::fs::read(path).map_err(ClientError::ReadCa)?)),
            None => None,
        };
        let http = http_client(&base, ca.as_ref().map(|(_, pem)| pem.as_slice()), insecure)?;
        let ca = ca.map(|(path, pem)| Ca { path, seen: Mutex::new((std::time::Instant::now(), pem)) });
        let under_way = Semaphore::new(config.max_concurrency);
        Ok(Self { base, ca, insecure, http: Mutex::new(http), credentials, under_way })
    }

    /// Waits for leave to send a request; first come, first served.
    pub async fn admit(&self) -> SemaphorePermit<'_> {
        self.under_way.acquire().await.expect("the semaphore is never closed")
    }

    /// Evaluates a query at Prometheus's own present.
    ///
    /// # Errors
    /// No answer in time, a refusal, or an answer that is none.
    pub async fn query(&self, query: &str, timeout: Span) -> Result<Answered<Sample>, AskError> {
        let limit = format!("{}ms", timeout.as_millis());
        let form = [("query", query), ("timeout", &limit)];
        let (data, warnings) = self.ask("api/v1/query", &form, timeout).await?;
        let series = match data {
            Data::Vector(series) => series.into_iter().map(One::into_sample).collect(),
            Data::Scalar(point) => vec![point.into_sample(BTreeMap::new())],
            Data::Matrix(_) | Data::String(_) => return Err(unexpected("vector")),
        };
        Ok(Answered { series, warnings })
    }

    /// Evaluates a query at each step of a time range, by Prometheus's clock.
    ///
    /// # Errors
    /// As for [`Client::query`].
    pub async fn query_range(
        &self,
        query: &str,
        (start, end): (Time, Time),
        step: Span,
        timeout: Span,
    ) -> Result<Answered<Series>, AskError> {
        let limit = format!("{}ms", timeout.as_millis());
        let [start, end, step] = [start.0, end.0, step.as_millis()].map(in_seconds);
        let form = [("query", query), ("start", &*start), ("end", &*end), ("step", &*step), ("timeout", &*limit)];
        let (data, warnings) = self.ask("api/v1/query_range", &form, timeout).await?;
        let Data::Matrix(series) = data else { return Err(unexpected("matrix")) };
        Ok(Answered { series: series.into_iter().map(Many::into_series).collect(), warnings })
    }

    async fn ask(&self, path: &str, form: &[(&str, &str)], timeout: Span) -> Result<(Data, Vec<String>), AskError> {
        let headers = self.credentials.headers().map_err(AskError::Credentials)?;
        let url = self.base.join(path).expect("a fixed relative path joins any base");
        let request = self.http().map_err(AskError::Client)?.post(url).headers(headers).form(form);
        let failed = |error: reqwest::Error| sorted(error, timeout);
        let mut response = request.timeout(timeout.0).send().await.map_err(failed)?;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.credentials.read_again();
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > MAX_BODY {
                return Err(AskError::TooLong);
            }
            body.extend_from_slice(&piece);
        }
        understood(status, &body)
    }

    /// The HTTP client, built anew once the CA file's text is another.
    fn http(&self) -> Result<reqwest::Client, ClientError> {
        let mut http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ca) = &self.ca {
            let mut seen = ca.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.0.elapsed() >= LOOK_AT_CA_AFTER {
                let pem = std::fs::read(&ca.path).map_err(ClientError::ReadCa)?;
                if pem != seen.1 {
                    *http = http_client(&self.base, Some(&pem), self.insecure)?;
                }
                *seen = (std::time::Instant::now(), pem);
            }
        }
        Ok(http.clone())
    }
}

fn base_url(text: &str) -> Result<Url, ClientError> {
    let refuse = |why: &str| ClientError::Url { why: why.to_owned() };
    let mut url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it holds credentials; write `basicAuth` with files instead"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it must end with its path"));
    }
    // A relative path replaces what follows the last slash.
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn http_client(base: &Url, ca: Option<&[u8]>, insecure: bool) -> Result<reqwest::Client, ClientError> {
    // Fails if one is installed already, which is as good.
    _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        // A redirect would carry the credentials to wherever the answer points.
        .redirect(Policy::none())
        .http1_only()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(KEEP_IDLE)
        .tcp_nodelay(true)
        .user_agent(concat!("alongside/", env!("CARGO_PKG_VERSION")))
        .tls_danger_accept_invalid_certs(insecure);
    if let Some(pem) = ca {
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(pem).map_err(ClientError::Tls)?);
    } else if base.scheme() == "http" {
        // The image may hold no system certificates, and none are needed.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(ClientError::Tls)
}

/// Sorts a transport error by what it means, without the URL: the query in it may be long, and says nothing new.
fn sorted(error: reqwest::Error, timeout: Span) -> AskError {
    let error = error.without_url();
    if error.is_connect() {
        AskError::Connect(error)
    } else if error.is_timeout() {
        AskError::Timeout { timeout }
    } else {
        AskError::Transport(error)
    }
}

#[derive(Deserialize)]
struct Envelope {
    status: String,
    data: Option<Data>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<One>),
    Matrix(Vec<Many>),
    Scalar(Point),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct One {
    metric: BTreeMap<String, String>,
    value: Option<Point>,
    histogram: Option<(f64, serde::de::IgnoredAny)>,
}

#[derive(Deserialize)]
struct Many {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<Point>,
}

#[derive(Deserialize)]
struct Point(f64, String);

impl Point {
    fn value(&self) -> f64 {
        self.1.parse().unwrap_or(f64::NAN)
    }

    fn into_sample(self, labels: BTreeMap<String, String>) -> Sample {
        Sample { labels, at: seconds(self.0), value: self.value() }
    }
}

impl One {
    fn into_sample(self) -> Sample {
        match (self.value, self.histogram) {
            (Some(point), _) => point.into_sample(self.metric),
            (None, histogram) => {
                let at = seconds(histogram.map_or(0.0, |(at, _)| at));
                Sample { labels: self.metric, at, value: f64::NAN }
            }
        }
    }
}

impl Many {
    fn into_series(self) -> Series {
        let points = self.values.iter().map(|point| (seconds(point.0), point.value())).collect();
        Series { labels: self.metric, points }
    }
}

fn understood(status: StatusCode, body: &[u8]) -> Result<(Data, Vec<String>), AskError> {
    let envelope: Envelope = match parsed(body) {
        Ok(envelope) => envelope,
        Err(source) if status.is_success() => return Err(AskError::NotPrometheus(source)),
        Err(_) => return Err(AskError::Status { status }),
    };
    match envelope {
        Envelope { status, data: Some(data), warnings, .. } if status == "success" => Ok((data, warnings)),
        Envelope { status, data: None, error: None, .. } if status == "success" => {
            Err(AskError::Refused { kind: "result".to_owned(), message: "there is none".to_owned() })
        }
        Envelope { error_type, error, .. } => Err(AskError::Refused {
            kind: cut(&error_type.unwrap_or_else(|| status.to_string())),
            message: cut(&error.unwrap_or_else(|| "no reason given".to_owned())),
        }),
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

fn unexpected(wanted: &str) -> AskError {
    AskError::Refused { kind: "result".to_owned(), message: format!("the result isn't a {wanted}") }
}

/// Longest text of a provider that is passed on, in characters: it goes into a message of at most 1 KiB.
const LONGEST_TEXT: usize = 300;

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

fn in_seconds(milliseconds: i64) -> String {
    format!("{}.{:03}", milliseconds.div_euclid(1_000), milliseconds.rem_euclid(1_000))
}
