//! Publications, subscriptions and what a migration keeps of its own beside them: one schema in either store, whose name
//! is made of the migration's UID, so that taking it away takes everything away.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use tokio_postgres::config::{Config, Host};

use super::{
    connect::{ConnectError, Postgres},
    gate,
    session::{QueryError, Session},
    slot,
    uri::SslMode,
};

pub use super::movable::{Column, Kind, LongWriter, Rights, Table, left_out, long_writers, rights, settings, tables};

/// Which store a stream leads away from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// From the old store to the new: `fwd`.
    Forward,
    /// From the new store to the old: `rev`.
    Reverse,
}

impl Stream {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Forward, Self::Reverse];

    fn word(self) -> &'static str {
        match self {
            Self::Forward => "fwd",
            Self::Reverse => "rev",
        }
    }
}

/// What a migration's own objects are called, in either store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    id: String,
    key: i64,
}

impl Names {
    /// For a migration's UID and the phase that replicates.
    pub fn new(uid: &str, phase: &str) -> Self {
        let hash = Sha256::digest(format!("{uid}/{phase}"));
        let id = hash.iter().take(6).fold(String::new(), |mut id, byte| {
            let _ = write!(id, "{byte:02x}");
            id
        });
        let key = hash[8..16].try_into().map(i64::from_be_bytes).expect("eight of 32 bytes");
        Self { id, key }
    }

    /// The schema of what is ours.
    pub fn schema(&self) -> String {
        format!("alongside_{}", self.id)
    }

    /// The publication.
    pub fn publication(&self) -> String {
        format!("alongside_{}", self.id)
    }

    /// A stream's slot, on the store it leads away from, and its subscription, on the other.
    pub fn stream(&self, stream: Stream) -> String {
        format!("alongside_{}_{}", self.id, stream.word())
    }

    /// The gate's trigger.
    pub fn trigger(&self) -> String {
        format!("alongside_{}_gate", self.id)
    }

    /// The advisory lock that writers share and the fence takes alone.
    pub fn lock_key(&self) -> i64 {
        self.key
    }

    /// The beginning of the name that a conductor's sessions show in the server's activity view.
    pub fn conductor(&self) -> String {
        format!("alongside conductor {}", self.id)
    }

    /// Text of ours with the schema, the lock and the trigger in place.
    pub(super) fn fill(&self, sql: &str) -> String {
        let filled = sql.replace("{schema}", &self.schema()).replace("{key}", &self.key.to_string());
        filled.replace("{trigger}", &self.trigger())
    }
}

/// Who a server is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Differs between any two clusters; the same on a standby.
    pub system_identifier: String,
    /// Grows with each promotion of a standby.
    pub timeline: i32,
    /// Which of the cluster's databases.
    pub database: String,
}

/// What is known of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// It applies what comes.
    pub enabled: bool,
    /// Process that applies right now, if one does.
    pub worker: Option<i32>,
    /// Changes that could not be applied so far (PostgreSQL 15 and later).
    pub errors: i64,
}

/// Reads who the server is.
pub async fn identity(session: &Session) -> Result<Identity, QueryError> {
    let rows = session.rows(include_str!("sql/identity.sql"), &[]).await?;
    let row = rows.first().ok_or_else(|| QueryError::Unexpected { why: "the server doesn't say who it is".into() })?;
    Ok(Identity { system_identifier: row.get(0), timeline: row.get(1), database: row.get(2) })
}

/// Makes our own schema with what is in it, and the publication of these tables. What is there already stays as it is.
///
/// `open`: whether the gate lets writers in, if it is made now.
pub async fn install(session: &Session, names: &Names, tables: &[Table], open: bool) -> Result<(), QueryError> {
    session.run("BEGIN").await?;
    let made = install_in_transaction(session, names, tables, open).await;
    match made {
        Ok(()) => session.commit().await,
        Err(error) => {
            // Without an answer the session's end rolls back.
            let _ = session.roll_back().await;
            Err(error)
        }
    }
}

async fn install_in_transaction(
    session: &Session,
    names: &Names,
    tables: &[Table],
    open: bool,
) -> Result<(), QueryError> {
    session.run(&names.fill("SELECT pg_catalog.pg_advisory_xact_lock({key} # 1)")).await?;
    session.run(&names.fill(OWN_TABLES)).await?;
    gate::make(session, names, open).await?;
    let publication = names.publication();
    let exists: bool = session.value(include_str!("sql/publication_exists.sql"), &[&publication]).await?;
    if !exists {
        let list = published(names, tables);
        session.run(&format!("CREATE PUBLICATION {publication} FOR TABLE {list}")).await?;
    }
    Ok(())
}

fn published(names: &Names, tables: &[Table]) -> String {
    let heartbeat = format!("{}.heartbeat", names.schema());
    let published = tables.iter().map(|table| table.name.to_string()).chain([heartbeat]);
    published.collect::<Vec<_>>().join(", ")
}

/// Publishes these tables and no others, from here on.
pub async fn publish(session: &Session, names: &Names, tables: &[Table]) -> Result<(), QueryError> {
    session.run(&format!("ALTER PUBLICATION {} SET TABLE {}", names.publication(), published(names, tables))).await
}

/// The heartbeat, who conducts, and which parts were copied.
const OWN_TABLES: &str = "
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.heartbeat (
    side text PRIMARY KEY,
    beat bigint NOT NULL,
    at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS {schema}.conductor (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    generation bigint NOT NULL,
    system_identifier text NOT NULL,
    timeline integer NOT NULL
);
CREATE TABLE IF NOT EXISTS {schema}.copied (
    snapshot text NOT NULL,
    relation text NOT NULL,
    part integer NOT NULL,
    copied_rows bigint NOT NULL,
    PRIMARY KEY (snapshot, relation, part)
);
CREATE TABLE IF NOT EXISTS {schema}.copy (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    snapshot text NOT NULL,
    done boolean NOT NULL
)";

/// Takes away everything of ours and sees that it is gone: subscription, publication, slots, triggers, schema. What is
/// left is in the answer, in words.
pub async fn uninstall(session: &Session, names: &Names) -> Result<Vec<String>, QueryError> {
    for stream in Stream::ALL {
        drop_subscription(session, names, stream).await?;
    }
    session.run(&format!("DROP PUBLICATION IF EXISTS {}", names.publication())).await?;
    for stream in Stream::ALL {
        slot::drop_slot(session, &names.stream(stream)).await?;
    }
    gate::remove(session, names).await?;
    // Nothing of anybody else's can be in it but by force.
    session.run(&format!("DROP SCHEMA IF EXISTS {} CASCADE", names.schema())).await?;
    leftovers(session, names).await
}

/// Looks for anything of ours, in words.
pub async fn leftovers(session: &Session, names: &Names) -> Result<Vec<String>, QueryError> {
    let prefix = format!("{}%", names.schema().replace('_', "\\_"));
    let rows = session.rows(include_str!("sql/replication_leftovers.sql"), &[&prefix]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Makes a subscription from a slot that is there, which copies nothing. It applies at once if `enabled`.
pub async fn subscribe(
    session: &Session,
    names: &Names,
    stream: Stream,
    source: &Postgres,
    enabled: bool,
) -> Result<(), SubscribeError> {
    let conninfo = conninfo(source).await?;
    let name = names.stream(stream);
    let sql = format!(
        "CREATE SUBSCRIPTION {name} CONNECTION {} PUBLICATION {} WITH (create_slot = false, slot_name = '{name}', \
         copy_data = false, enabled = {enabled})",
        literal(&conninfo),
        names.publication()
    );
    Ok(session.run(&sql).await?)
}

/// Why there is no subscription.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The source's URI can't be used.
    #[error("could not read where the other store is")]
    Source(#[from] ConnectError),
    /// The server says no.
    #[error("could not make the subscription")]
    Query(#[from] QueryError),
}

/// What differs once a store's URI says something else; nothing can be read from it.
pub async fn fingerprint(source: &Postgres) -> Result<[u8; 32], ConnectError> {
    Ok(Sha256::digest(conninfo(source).await?).into())
}

/// Has a subscription read from the same source with the credentials that the URI holds now.
pub async fn reconnect(
    session: &Session,
    names: &Names,
    stream: Stream,
    source: &Postgres,
) -> Result<(), SubscribeError> {
    let conninfo = conninfo(source).await?;
    let name = names.stream(stream);
    Ok(session.run(&format!("ALTER SUBSCRIPTION {name} CONNECTION {}", literal(&conninfo))).await?)
}

/// Has a subscription that is disabled begin after a place of its source's WAL, wherever its slot says; for good once a
/// later commit of the session is durable.
pub async fn begin_after(session: &Session, names: &Names, stream: Stream, lsn: &str) -> Result<(), QueryError> {
    let rows = session.rows(include_str!("sql/origin_advance.sql"), &[&names.stream(stream), &lsn]).await?;
    if rows.is_empty() {
        return Err(QueryError::Unexpected { why: "the subscription is gone".to_owned() });
    }
    Ok(())
}

/// Lets a subscription apply.
pub async fn enable(session: &Session, names: &Names, stream: Stream) -> Result<(), QueryError> {
    session.run(&format!("ALTER SUBSCRIPTION {} ENABLE", names.stream(stream))).await
}

/// Keeps a subscription from applying.
pub async fn disable(session: &Session, names: &Names, stream: Stream) -> Result<(), QueryError> {
    session.run(&format!("ALTER SUBSCRIPTION {} DISABLE", names.stream(stream))).await
}

/// Drops a subscription and leaves its slot where it is, whether the source answers or not; nothing if there is none.
pub async fn drop_subscription(session: &Session, names: &Names, stream: Stream) -> Result<(), QueryError> {
    if subscription(session, names, stream).await?.is_none() {
        return Ok(());
    }
    let name = names.stream(stream);
    // One transaction: a subscription that is disabled but there has another meaning.
    session.run("BEGIN").await?;
    let steps = [
        format!("ALTER SUBSCRIPTION {name} DISABLE"),
        format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"),
        format!("DROP SUBSCRIPTION {name}"),
    ];
    for step in steps {
        if let Err(error) = session.run(&step).await {
            let _ = session.roll_back().await;
            return Err(error);
        }
    }
    session.commit().await
}

/// Looks at a subscription; nothing if there is none.
pub async fn subscription(
    session: &Session,
    names: &Names,
    stream: Stream,
) -> Result<Option<Subscription>, QueryError> {
    let rows = session.rows(include_str!("sql/subscription.sql"), &[&names.stream(stream)]).await?;
    Ok(rows.first().map(|row| Subscription {
        enabled: row.get("enabled"),
        worker: row.get("worker"),
        errors: row.get("errors"),
    }))
}

/// What a server needs to connect to a store by itself, as libpq reads it.
async fn conninfo(source: &Postgres) -> Result<String, ConnectError> {
    let (target, _) = source.target().await?;
    let mode = match target.tls.mode {
        SslMode::Disable => "disable",
        SslMode::Prefer => "prefer",
        // The authority's certificate is in our Secret, not on the other server's disk.
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => "require",
    };
    Ok(conninfo_of(&target.config, mode))
}

fn conninfo_of(config: &Config, mode: &str) -> String {
    let hosts: Vec<String> = if config.get_hosts().is_empty() {
        config.get_hostaddrs().iter().map(ToString::to_string).collect()
    } else {
        let name = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        config.get_hosts().iter().map(name).collect()
    };
    let ports: Vec<String> = config.get_ports().iter().map(ToString::to_string).collect();
    let password = config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
    let several = hosts.len() > 1;
    let settings = [
        ("host", Some(hosts.join(","))),
        ("port", Some(ports.join(",")).filter(|ports| !ports.is_empty())),
        ("user", config.get_user().map(str::to_owned)),
        ("password", password),
        ("dbname", config.get_dbname().or(config.get_user()).map(str::to_owned)),
        ("sslmode", Some(mode.to_owned())),
        ("target_session_attrs", several.then(|| "read-write".to_owned())),
        ("keepalives_idle", Some("10".to_owned())),
        ("keepalives_interval", Some("5".to_owned())),
    ];
    let quoted = |value: String| value.replace('\\', "\\\\").replace('\'', "\\'");
    let pairs = settings.into_iter().filter_map(|(name, value)| Some(format!("{name}='{}'", quoted(value?))));
    pairs.collect::<Vec<_>>().join(" ")
}

/// A text as an SQL literal, whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ_between_migrations_and_phases() {
        let names = Names::new("8f3c", "copy");
        assert!(names.stream(Stream::Forward).len() <= 63);
        assert_ne!(names.schema(), Names::new("8f3c", "other").schema());
        assert_ne!(names.lock_key(), Names::new("8f3d", "copy").lock_key());
        assert_eq!(names, Names::new("8f3c", "copy"));
        assert!(names.schema().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    }

    #[test]
    fn a_password_of_any_characters_survives_both_quotings() {
        let mut config = Config::new();
        config.host("db").port(5433).user("app").dbname("shop").password("a'b\\c d");
        let conninfo = conninfo_of(&config, "require");
        assert!(conninfo.contains("password='a\\'b\\\\c d'"), "{conninfo}");
        assert!(conninfo.contains("host='db' port='5433' user='app'"), "{conninfo}");
        assert_eq!(literal("a'b\\c"), "E'a''b\\\\c'");
    }
}
