//! `get`: the list of migrations, or one as a tree, once or for as long as somebody looks.

mod gauge;
mod list;
mod tree;
mod watch;

use clap::{Args, ValueEnum};
use kube::{ResourceExt as _, api::ListParams};
use serde_json::{Value, json};

use super::{
    connect::{Cluster, ClusterFlags, unlisted},
    exit::Code,
    look::Look,
    out,
    problem::Problem,
    words,
};

pub use list::state_word;
use tree::{Seen, tree};
pub use tree::{lanes_of, limits, millis};

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The migration to show. Default: a list of all.
    name: Option<String>,
    /// Go on showing as things change.
    #[arg(long, short)]
    watch: bool,
    /// In all namespaces.
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Another form of output.
    #[arg(long, short, value_enum, value_name = "FORM")]
    output: Option<Form>,
}

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// The objects as JSON.
    Json,
    /// The objects as YAML.
    Yaml,
    /// A line each, with more columns.
    Wide,
}

/// Runs it.
pub async fn run(arguments: Arguments, flags: &ClusterFlags, look: &Look) -> Result<Code, Problem> {
    if arguments.all_namespaces && arguments.name.is_some() {
        return Err(Problem::Usage {
            why: "a migration is shown by its name and namespace, and -A is all namespaces".to_owned(),
            instead: "kubectl alongside get NAME -n NAMESPACE".to_owned(),
        });
    }
    let cluster = flags.connect().await?;
    if arguments.watch {
        return watch::run(&arguments, &cluster, look).await;
    }
    match (arguments.output, &arguments.name) {
        (Some(form @ (Form::Json | Form::Yaml)), name) => objects(&cluster, name.as_deref(), &arguments, form).await?,
        (form, None) => {
            let migrations = api(&cluster, &arguments).list(&ListParams::default()).await.map_err(unlisted)?;
            let wide = form == Some(Form::Wide);
            if migrations.items.is_empty() {
                // As kubectl does: an answer for people, and nothing for a script to trip over.
                let place = if arguments.all_namespaces { "any namespace" } else { &cluster.namespace };
                eprintln!("there is no migration in {place}");
                return Ok(Code::Done);
            }
            let shown = list::table(&migrations.items, arguments.all_namespaces, wide, words::now(), look);
            out::print(&shown)?;
        }
        (Some(Form::Wide), Some(name)) => {
            let migration = cluster.migration(name).await?;
            out::print(&list::table(&[migration], false, true, words::now(), look))?;
        }
        (None, Some(name)) => {
            let seen = Seen::look(&cluster, name).await?;
            out::print(&tree(&seen, words::now(), look))?;
        }
    }
    Ok(Code::Done)
}

fn api(cluster: &Cluster, arguments: &Arguments) -> kube::Api<crate::api::Migration> {
    if arguments.all_namespaces { kube::Api::all(cluster.client.clone()) } else { cluster.migrations() }
}

async fn objects(cluster: &Cluster, name: Option<&str>, arguments: &Arguments, form: Form) -> Result<(), Problem> {
    let raw = cluster.raw(arguments.all_namespaces);
    let shown = if let Some(name) = name {
        let object = raw.get(name).await.map_err(|error| cluster.missing(name, error))?;
        serde_json::to_value(object).expect("what was read as JSON can be written as JSON")
    } else {
        let mut items = raw.list(&ListParams::default()).await.map_err(unlisted)?.items;
        items.sort_by_key(|item| (item.namespace(), item.name_any()));
        json!({ "apiVersion": "v1", "kind": "List", "items": items })
    };
    out::line(&in_form(&shown, form))
}

/// An object in JSON or YAML, with its kind first.
pub fn in_form(object: &Value, form: Form) -> String {
    let text = match form {
        Form::Json | Form::Wide => serde_json::to_string_pretty(object).expect("a JSON value can be written"),
        Form::Yaml => serde_saphyr::to_string(object).expect("a JSON value can be written as YAML"),
    };
    text.trim_end().to_owned()
}
