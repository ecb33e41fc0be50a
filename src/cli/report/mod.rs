//! `report`: what a migration did, for those who were not there: times, guards before and after, evidence, the way back,
//! and who approved. As Markdown, as one HTML file that needs nothing else, or as JSON.

mod facts;
mod html;
mod markdown;
mod svg;

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::Value;

use super::{
    connect::{Cluster, ClusterFlags},
    exit::Code,
    out,
    problem::Problem,
    words,
};
use crate::api::{Migration, UID_LABEL};
use facts::Facts;

/// Key under which a ConfigMap holds a verification's evidence.
const EVIDENCE: &str = "evidence.json";

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The migration.
    name: String,
    /// Form of the report. Default: by the ending of `--to`, else Markdown.
    #[arg(long, value_enum, value_name = "FORM")]
    format: Option<Form>,
    /// File to write to. Default: standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Markdown.
    Markdown,
    /// One HTML file, with its charts and styles in it.
    Html,
    /// The facts as JSON.
    Json,
}

impl Arguments {
    fn form(&self) -> Form {
        let ending = self.to.as_ref().and_then(|path| path.extension()).and_then(|ending| ending.to_str());
        self.format.unwrap_or(match ending {
            Some("html" | "htm") => Form::Html,
            Some("json") => Form::Json,
            _ => Form::Markdown,
        })
    }
}

/// Runs it.
pub async fn run(arguments: &Arguments, flags: &ClusterFlags) -> Result<Code, Problem> {
    let cluster = flags.connect().await?;
    let migration = cluster.migration(&arguments.name).await?;
    let (evidence, unseen) = match evidence(&cluster, &migration).await {
        Ok(evidence) => (evidence, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let facts = Facts::of(&migration, &evidence, unseen, words::now());
    let text = match arguments.form() {
        Form::Markdown => markdown::page(&facts),
        Form::Html => html::page(&facts),
        Form::Json => serde_json::to_string_pretty(&facts).expect("facts are plain data") + "\n",
    };
    match &arguments.to {
        Some(path) => {
            fs::write(path, text).map_err(|source| Problem::Write { path: path.clone(), source })?;
            out::line(&format!("{} is written", path.display()))?;
        }
        None => out::print(&text)?,
    }
    Ok(Code::Done)
}

/// The evidence of verifications that is kept, each with the name of its ConfigMap.
async fn evidence(cluster: &Cluster, migration: &Migration) -> Result<Vec<(String, Value)>, String> {
    let Some(uid) = migration.uid() else { return Ok(Vec::new()) };
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let ours = ListParams::default().labels(&format!("{UID_LABEL}={uid}"));
    let list = maps.list(&ours).await.map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    })?;
    let read = |map: &ConfigMap| {
        let text = map.data.as_ref()?.get(EVIDENCE)?;
        Some((map.name_any(), serde_json::from_str(text).ok()?))
    };
    Ok(list.items.iter().filter_map(read).collect())
}
