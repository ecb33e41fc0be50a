//! The admin console of each replica of a PgBouncer: PAUSE, RESUME, and a look at what is paused.
//!
//! PAUSE is for comfort, never for safety: it returns only once no transaction is open, reaches only the replicas that
//! answer, and one that restarts comes back unpaused. What it gives: clients wait instead of being refused.

use std::{net::SocketAddr, time::Duration};

use futures::future::join_all;
use tokio_postgres::{Client, Config, SimpleQueryMessage, config::Host};

use super::{
    connect::{ConnectError, Postgres, chain},
    redact::Redactor,
};

/// How long a console may take to answer anything but PAUSE.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Every replica of one PgBouncer.
#[derive(Clone, Debug)]
pub struct PgBouncers {
    admin: Postgres,
    service: Option<String>,
    database: String,
}

/// What a replica didn't do.
#[derive(Debug, thiserror::Error)]
pub enum BouncerError {
    /// The URI can't be used, or nobody answers.
    #[error("could not reach PgBouncer")]
    Connect(#[from] ConnectError),
    /// Its name leads nowhere.
    #[error("could not find the addresses of {name}: {why}")]
    Resolve {
        /// The host or Service.
        name: String,
        /// Why.
        why: String,
    },
    /// A replica said no, or nothing.
    #[error("PgBouncer at {at} did not {verb} {database}: {why}")]
    Command {
        /// Which replica.
        at: SocketAddr,
        /// What it should have done.
        verb: &'static str,
        /// With which database.
        database: String,
        /// What it said.
        why: String,
    },
}

struct Console {
    at: SocketAddr,
    client: Client,
    redactor: Redactor,
}

impl PgBouncers {
    /// `admin` leads to the admin console; `service` is a name whose addresses are the replicas, else each address of
    /// each host of the URI is one. `database` is the name in PgBouncer's configuration.
    pub fn new(admin: Postgres, service: Option<String>, database: String) -> Self {
        Self { admin, service, database }
    }

    /// Makes clients wait on every replica, within `limit`. On an error some replicas may be paused: resume them.
    pub async fn pause(&self, limit: Duration) -> Result<(), BouncerError> {
        let consoles: Vec<_> = self.consoles().await?.into_iter().collect::<Result<_, _>>()?;
        let pausing = consoles.iter().map(|console| self.tell(console, "PAUSE", limit));
        join_all(pausing).await.into_iter().collect()
    }

    /// Lets clients go on, on every replica that is paused; tries all of them, and returns the first error.
    pub async fn resume(&self) -> Result<(), BouncerError> {
        let resuming = self.consoles().await?.into_iter().map(async |console| {
            let console = console?;
            if self.is_paused_at(&console).await? {
                self.tell(&console, "RESUME", ANSWER_TIMEOUT).await
            } else {
                Ok(())
            }
        });
        // All of them, before one that doesn't answer is complained of.
        join_all(resuming).await.into_iter().collect()
    }

    /// Whether any replica makes clients wait.
    pub async fn is_paused(&self) -> Result<bool, BouncerError> {
        let consoles: Vec<_> = self.consoles().await?.into_iter().collect::<Result<_, _>>()?;
        let looks = consoles.iter().map(|console| self.is_paused_at(console));
        let answers: Vec<bool> = join_all(looks).await.into_iter().collect::<Result<_, _>>()?;
        Ok(answers.contains(&true))
    }

    async fn is_paused_at(&self, console: &Console) -> Result<bool, BouncerError> {
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, console.client.simple_query("SHOW DATABASES")).await;
        let messages = match asked {
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => return Err(self.failed(console, "show", &console.redactor.redact(&chain(&error)))),
            Err(_) => return Err(self.failed(console, "show", "it does not answer")),
        };
        let paused = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                let column = |name: &str| row.try_get(name).ok().flatten();
                column("name") == Some(self.database.as_str()) && column("paused") == Some("1")
            }
            _ => false,
        };
        Ok(messages.iter().any(paused))
    }

    async fn tell(&self, console: &Console, verb: &'static str, limit: Duration) -> Result<(), BouncerError> {
        let name = self.database.replace('"', "\"\"");
        let command = format!("{verb} \"{name}\"");
        match tokio::time::timeout(limit, console.client.simple_query(&command)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.failed(console, verb, &console.redactor.redact(&chain(&error)))),
            Err(_) => Err(self.failed(console, verb, &format!("not within {} ms", limit.as_millis()))),
        }
    }

    fn failed(&self, console: &Console, verb: &'static str, why: &str) -> BouncerError {
        BouncerError::Command { at: console.at, verb, database: self.database.clone(), why: why.to_owned() }
    }

    /// A console of each replica, or why there is none.
    async fn consoles(&self) -> Result<Vec<Result<Console, BouncerError>>, BouncerError> {
        let (target, connector) = self.admin.target().await?;
        let mut addresses = Vec::new();
        for (name, port) in self.places(&target.config) {
            let found = tokio::time::timeout(ANSWER_TIMEOUT, tokio::net::lookup_host((name.as_str(), port))).await;
            let resolve = |why: String| BouncerError::Resolve { name: name.clone(), why };
            match found {
                Ok(Ok(found)) => addresses.extend(found.map(|address| (name.clone(), address))),
                Ok(Err(error)) => return Err(resolve(error.to_string())),
                Err(_) => return Err(resolve("no answer".to_owned())),
            }
        }
        addresses.sort_by_key(|(_, address)| *address);
        addresses.dedup_by_key(|(_, address)| *address);
        if addresses.is_empty() {
            let name = self.service.clone().unwrap_or_default();
            return Err(BouncerError::Resolve { name, why: "it has none".to_owned() });
        }
        let connecting = addresses.into_iter().map(async |(name, at)| {
            let config = at_address(&target.config, &name, at);
            let unreachable = |why: String| ConnectError::Unreachable { place: at.to_string(), why };
            match tokio::time::timeout(ANSWER_TIMEOUT, config.connect(connector.clone())).await {
                Ok(Ok((client, connection))) => {
                    tokio::spawn(async move {
                        // Ends with the client.
                        let _ = connection.await;
                    });
                    Ok(Console { at, client, redactor: target.redactor.clone() })
                }
                Ok(Err(error)) => Err(unreachable(target.redactor.redact(&chain(&error))).into()),
                Err(_) => Err(unreachable("no answer".to_owned()).into()),
            }
        });
        Ok(join_all(connecting).await)
    }

    fn places(&self, config: &Config) -> Vec<(String, u16)> {
        let port = |at: usize| config.get_ports().get(at).or(config.get_ports().first()).copied().unwrap_or(6432);
        if let Some(service) = &self.service {
            return vec![(service.clone(), port(0))];
        }
        let hosts = config.get_hosts().iter().enumerate();
        let places = hosts.filter_map(|(at, host)| match host {
            Host::Tcp(name) => Some((name.clone(), port(at))),
            Host::Unix(_) => None,
        });
        places.collect()
    }
}

/// The same user and database at one address.
fn at_address(admin: &Config, name: &str, at: SocketAddr) -> Config {
    let mut config = Config::new();
    config.host(name).hostaddr(at.ip()).port(at.port()).ssl_mode(admin.get_ssl_mode());
    config.dbname(admin.get_dbname().unwrap_or("pgbouncer"));
    if let Some(user) = admin.get_user() {
        config.user(user);
    }
    if let Some(password) = admin.get_password() {
        config.password(password);
    }
    config
}
