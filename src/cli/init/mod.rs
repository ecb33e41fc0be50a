//! `init`: writes a Migration to begin with. Flags say what it is about; on a terminal, what is missing is asked for. What
//! is written has passed `lint`.

mod questions;
mod text;

use std::{fs, path::PathBuf, str::FromStr};

use clap::{Args, Subcommand, ValueEnum};

use super::{
    connect::ClusterFlags,
    exit::Code,
    lint::{self, File},
    look::Look,
    out,
    problem::Problem,
};
use crate::api::Span;
use questions::Asker;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    kind: Option<Kind>,
    /// Name of the Migration. Default: what it is about.
    #[arg(long, global = true, value_name = "NAME")]
    name: Option<String>,
    /// File to write to; one that is there is not written over. Default: standard output.
    #[arg(long, global = true, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What a migration is about.
#[derive(Clone, Debug, Subcommand)]
enum Kind {
    /// A schema changes in a way that both versions of the code can live with.
    SchemaChange(SchemaChange),
    /// A service's traffic moves to a new version.
    ServiceSwitch(ServiceSwitch),
    /// A database moves to another server, and its writes with it.
    DatabaseMove(DatabaseMove),
}

/// Flags of `init schema-change`.
#[derive(Clone, Debug, Default, Args)]
struct SchemaChange {
    /// Secret with the database's URI, as NAME/KEY.
    #[arg(long, value_name = "NAME/KEY")]
    secret: Option<SecretKey>,
    /// SQL that takes the schema forward.
    #[arg(long, value_name = "SQL")]
    up: Option<String>,
    /// SQL that takes it back.
    #[arg(long, value_name = "SQL")]
    down: Option<String>,
    /// Table whose new columns are filled while it is in use.
    #[arg(long, value_name = "TABLE", requires_all = ["set", "where"])]
    backfill: Option<String>,
    /// What a column is to hold, as COLUMN=EXPRESSION; may be given several times.
    #[arg(long, value_name = "COLUMN=EXPRESSION", requires = "backfill")]
    set: Vec<String>,
    /// Which rows still need it, such as `first_name IS NULL`.
    #[arg(long = "where", id = "where", value_name = "CONDITION", requires = "backfill")]
    filter: Option<String>,
    /// SQL that removes what is not needed any more, once nothing goes back.
    #[arg(long, value_name = "SQL")]
    contract: Option<String>,
    #[command(flatten)]
    switch: Traffic,
}

/// Flags of `init service-switch`.
#[derive(Clone, Debug, Default, Args)]
struct ServiceSwitch {
    #[command(flatten)]
    switch: Traffic,
}

/// Flags of `init database-move`.
#[derive(Clone, Debug, Default, Args)]
struct DatabaseMove {
    /// Secret with the old database's URI, as NAME/KEY.
    #[arg(long, value_name = "NAME/KEY")]
    old: Option<SecretKey>,
    /// Secret with the new database's URI, as NAME/KEY.
    #[arg(long, value_name = "NAME/KEY")]
    new: Option<SecretKey>,
    /// Tables to move; may be given several times. Default: `public.*`.
    #[arg(long, value_name = "SCHEMA.TABLE")]
    tables: Vec<String>,
    /// Secret with the admin URI of the PgBouncer that clients come through, as NAME/KEY: they wait there meanwhile.
    #[arg(long, value_name = "NAME/KEY", requires = "pgbouncer_database")]
    pgbouncer: Option<SecretKey>,
    /// Name of the database in PgBouncer's configuration.
    #[arg(long, value_name = "NAME", requires = "pgbouncer")]
    pgbouncer_database: Option<String>,
    /// What going back does if writes can't be held in time.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    on_fence_timeout: OnFenceTimeout,
    #[command(flatten)]
    switch: Traffic,
}

/// What going back does if writes can't be held in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum OnFenceTimeout {
    /// Traffic stays until no write is lost.
    #[default]
    PreferData,
    /// Traffic goes back, and what had not been replicated stays behind.
    PreferTraffic,
}

/// Flags about traffic and what watches it.
#[derive(Clone, Debug, Default, Args)]
struct Traffic {
    /// Service whose traffic moves.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Labels of the old side, as LABEL=VALUE; several with commas.
    #[arg(long, value_name = "LABEL=VALUE")]
    from: Option<Labels>,
    /// The same labels of the new side.
    #[arg(long, value_name = "LABEL=VALUE")]
    to: Option<Labels>,
    /// How long the old side is kept. Default: 1h.
    #[arg(long, value_name = "TIME")]
    bake: Option<Span>,
    /// PromQL of the rate of errors. Default: a guess by the Service's name, to be looked at.
    #[arg(long, value_name = "PROMQL", requires = "total")]
    errors: Option<String>,
    /// PromQL of the rate of all requests.
    #[arg(long, value_name = "PROMQL", requires = "errors")]
    total: Option<String>,
    /// Largest share of errors. Default: 0.01.
    #[arg(long, value_name = "SHARE")]
    max_errors: Option<f64>,
}

/// A key of a Secret, as NAME/KEY.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SecretKey {
    name: String,
    key: String,
}

impl FromStr for SecretKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((name, key)) if !name.is_empty() && !key.is_empty() => {
                Ok(Self { name: name.to_owned(), key: key.to_owned() })
            }
            _ => Err("write the Secret's name and the key in it, such as shop-db/uri".to_owned()),
        }
    }
}

/// Labels, as LABEL=VALUE with commas.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Labels(Vec<(String, String)>);

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || "write a label and its value, such as version=v2".to_owned();
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').ok_or_else(refuse)?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        text.split(',').map(pair).collect::<Result<_, _>>().map(Labels)
    }
}

/// Runs it.
pub fn run(arguments: Arguments, flags: &ClusterFlags, look: &Look) -> Result<Code, Problem> {
    let mut asker = Asker::of_terminal(*look);
    let kind = match arguments.kind {
        Some(kind) => kind,
        None => match asker.choice("What is it about?", &["schema-change", "service-switch", "database-move"])? {
            0 => Kind::SchemaChange(SchemaChange::default()),
            1 => Kind::ServiceSwitch(ServiceSwitch::default()),
            _ => Kind::DatabaseMove(DatabaseMove::default()),
        },
    };
    let about = match kind {
        Kind::SchemaChange(flags) => text::About::schema_change(flags, &mut asker)?,
        Kind::ServiceSwitch(flags) => text::About::service_switch(flags, &mut asker)?,
        Kind::DatabaseMove(flags) => text::About::database_move(flags, &mut asker)?,
    };
    let name = arguments.name.unwrap_or_else(|| about.name.clone());
    let text = about.write(&name, flags.written_namespace());
    check(&text)?;
    match &arguments.output {
        None => out::print(&text)?,
        Some(path) => {
            let refuse = |source| Problem::Write { path: path.clone(), source };
            let mut file = fs::File::create_new(path).map_err(refuse)?;
            std::io::Write::write_all(&mut file, text.as_bytes()).map_err(refuse)?;
            let path = path.display();
            out::line(&format!("{path} is written. What it would do: kubectl alongside plan -f {path}"))?;
        }
    }
    Ok(Code::Done)
}

/// What is written passes lint; if it doesn't, the answers were wrong.
fn check(text: &str) -> Result<(), Problem> {
    let report = lint::lint(&[File::of(PathBuf::from("the migration"), text)]);
    match report.findings.iter().find(|finding| finding.weight == lint::Weight::Error) {
        None => Ok(()),
        Some(error) => Err(Problem::Usage {
            why: format!("that makes no migration that could run: {}: {}", error.path, error.message),
            instead: error.advice.clone().unwrap_or_else(|| "give it another value".to_owned()),
        }),
    }
}
