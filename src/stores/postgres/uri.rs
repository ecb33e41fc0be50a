//! A connection URI from a Secret, read without ever showing what is in it.
//!
//! On top of what the client library understands come libpq's TLS options: `sslmode` with `allow`, `verify-ca` and
//! `verify-full`, `sslrootcert`, `sslcert` and `sslkey`. A relative path means a file beside the URI's: another key of
//! the same Secret.

use std::path::{Path, PathBuf};

use tokio_postgres::{
    Config,
    config::{Host, SslMode as WireMode, TargetSessionAttrs},
};

use super::redact::Redactor;

/// How the connection is protected: libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS where the server offers it, whoever it is; `allow` counts as this too. The default, as in libpq.
    Prefer,
    /// TLS always, whoever the server is.
    Require,
    /// TLS with a server that a trusted authority knows, under whatever name.
    VerifyCa,
    /// TLS with a server that a trusted authority knows under the name connected to.
    VerifyFull,
}

/// Which authorities are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Those of the system (`sslrootcert=system`, or none given).
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

/// What a URI asks of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// How strict.
    pub mode: SslMode,
    /// Whom to trust.
    pub roots: Roots,
    /// The client's own certificate and key, as PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A URI, read.
pub struct Target {
    /// For the client library.
    pub config: Config,
    /// For TLS.
    pub tls: TlsOptions,
    /// Knows the secrets in it.
    pub redactor: Redactor,
    /// Where it leads, without credentials: `db.shop:5432/orders`.
    pub place: String,
}

impl Target {
    /// Leads to another host and port, with the same database, credentials and TLS.
    pub(super) fn move_to(&mut self, host: &str, port: u16) {
        let old = &self.config;
        let mut config = Config::new();
        config.host(host).port(port).ssl_mode(old.get_ssl_mode()).ssl_negotiation(old.get_ssl_negotiation());
        config.channel_binding(old.get_channel_binding());
        if let Some(user) = old.get_user() {
            config.user(user);
        }
        if let Some(name) = old.get_dbname() {
            config.dbname(name);
        }
        if let Some(options) = old.get_options() {
            config.options(options);
        }
        if let Some(name) = old.get_application_name() {
            config.application_name(name);
        }
        if let Some(password) = old.get_password() {
            config.password(password);
        }
        if let Some(timeout) = old.get_connect_timeout() {
            config.connect_timeout(*timeout);
        }
        self.place = place(&config);
        self.config = config;
    }
}

/// Why a URI can't be used. Never shows any part of it but the names of options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Some other text.
    #[error("it isn't a connection URI; write postgres://user:password@host:5432/database")]
    NotAUri,
    /// An `@` where none belongs, most often out of a password.
    #[error("it holds an `@` too many; percent-encode special characters in the password: `@` as %40, `/` as %2F")]
    StrayAt,
    /// The library can't read it.
    #[error(
        "it can't be read; write postgres://user:password@host:5432/database, with special characters percent-encoded"
    )]
    Unreadable,
    /// No host.
    #[error("it names no host; write postgres://user:password@host:5432/database")]
    NoHost,
    /// No user.
    #[error("it names no user; write postgres://user:password@host:5432/database")]
    NoUser,
    /// An option that nobody knows.
    #[error("its option `{name}` isn't known; leave it out")]
    UnknownOption {
        /// The option's name.
        name: String,
    },
    /// An option whose value isn't one of its values.
    #[error("its option `{name}` has a value that isn't one of {expected}")]
    BadOption {
        /// The option's name.
        name: &'static str,
        /// Its values.
        expected: &'static str,
    },
    /// A certificate without its key, or the other way round.
    #[error("`sslcert` and `sslkey` go together")]
    HalfIdentity,
    /// libpq refuses these together too.
    #[error("`sslrootcert=system` trusts too many to be used with anything but `sslmode=verify-full`")]
    WeakSystemRoots,
}

/// Options that the client library reads by itself.
const PASSED_ON: &[&str] = &[
    "user",
    "password",
    "dbname",
    "options",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
    "sslnegotiation",
];
/// Options of libpq that change nothing here.
const WITHOUT_EFFECT: &[&str] =
    &["application_name", "fallback_application_name", "client_encoding", "gssencmode", "sslsni", "sslcompression"];

/// Reads a URI. `beside` is the folder of its file; `application_name` is what the server's activity view shows.
pub fn read(text: &str, beside: &Path, application_name: &str) -> Result<Target, UriError> {
    let uri = text.trim();
    let (scheme, rest) = uri
        .split_once("://")
        .filter(|(scheme, _)| matches!(*scheme, "postgres" | "postgresql"))
        .ok_or(UriError::NotAUri)?;
    let (user_info, tail) = rest.split_once('@').map_or((None, rest), |(user_info, tail)| (Some(user_info), tail));
    if tail.contains('@') {
        return Err(UriError::StrayAt);
    }
    let (base, query) = tail.split_once('?').unwrap_or((tail, ""));
    let mut options = Options::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        options.take(pair)?;
    }
    let user_info_at = user_info.map(|user_info| format!("{user_info}@")).unwrap_or_default();
    let plain = format!("{scheme}://{user_info_at}{base}?{}", options.passed_on.join("&"));
    let mut config: Config = plain.parse().map_err(|_| UriError::Unreadable)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(UriError::NoHost);
    }
    if config.get_user().is_none_or(str::is_empty) {
        return Err(UriError::NoUser);
    }
    let tls = options.tls(beside)?;
    config.ssl_mode(match tls.mode {
        SslMode::Disable => WireMode::Disable,
        SslMode::Prefer => WireMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => WireMode::Require,
    });
    config.application_name(application_name);
    if config.get_hosts().len() > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
        // Of several hosts, the one that takes writes is meant.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    let written = user_info.and_then(|info| info.split_once(':')).map(|(_, password)| password.to_owned());
    let decoded = config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
    let redactor = Redactor::new([Some(uri.to_owned()), written, decoded].into_iter().flatten());
    let place = place(&config);
    Ok(Target { config, tls, redactor, place })
}

#[derive(Default)]
struct Options {
    passed_on: Vec<String>,
    mode: Option<SslMode>,
    root_cert: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

impl Options {
    fn take(&mut self, pair: &str) -> Result<(), UriError> {
        let (name, value) = pair.split_once('=').ok_or(UriError::Unreadable)?;
        match name {
            "sslmode" => self.mode = Some(ssl_mode(value)?),
            "sslrootcert" => self.root_cert = Some(decode(value)?),
            "sslcert" => self.cert = Some(decode(value)?),
            "sslkey" => self.key = Some(decode(value)?),
            _ if PASSED_ON.contains(&name) => self.passed_on.push(pair.to_owned()),
            _ if WITHOUT_EFFECT.contains(&name) => {}
            _ => return Err(UriError::UnknownOption { name: name.chars().take(40).collect() }),
        }
        Ok(())
    }

    fn tls(self, beside: &Path) -> Result<TlsOptions, UriError> {
        let identity = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((beside.join(cert), beside.join(key))),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(UriError::HalfIdentity),
        };
        let asked_system = self.root_cert.as_deref() == Some("system");
        let mode = match (self.mode, asked_system, self.root_cert.is_some()) {
            (None, true, _) => SslMode::VerifyFull,
            // libpq's rule: `require` with an authority at hand checks it.
            (Some(SslMode::Require), false, true) => SslMode::VerifyCa,
            (Some(mode), _, _) => mode,
            (None, false, _) => SslMode::Prefer,
        };
        if asked_system && mode != SslMode::VerifyFull {
            return Err(UriError::WeakSystemRoots);
        }
        let roots = match self.root_cert {
            Some(file) if !asked_system => Roots::File(beside.join(file)),
            Some(_) | None => Roots::System,
        };
        Ok(TlsOptions { mode, roots, identity })
    }
}

fn ssl_mode(value: &str) -> Result<SslMode, UriError> {
    match value {
        "disable" => Ok(SslMode::Disable),
        "allow" | "prefer" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        "verify-full" => Ok(SslMode::VerifyFull),
        _ => Err(UriError::BadOption {
            name: "sslmode",
            expected: "disable, allow, prefer, require, verify-ca, verify-full",
        }),
    }
}

fn decode(value: &str) -> Result<String, UriError> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(UriError::Unreadable);
        let code = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(code).map_err(|_| UriError::Unreadable)?);
    }
    String::from_utf8(bytes).map_err(|_| UriError::Unreadable)
}

fn place(config: &Config) -> String {
    let hosts: Vec<_> = if config.get_hosts().is_empty() {
        config.get_hostaddrs().iter().map(ToString::to_string).collect()
    } else {
        let name = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        config.get_hosts().iter().map(name).collect()
    };
    let ports = config.get_ports();
    let with_port = |(i, host): (usize, String)| {
        let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
        format!("{host}:{port}")
    };
    let hosts: Vec<_> = hosts.into_iter().enumerate().map(with_port).collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{}/{database}", hosts.join(","))
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;
