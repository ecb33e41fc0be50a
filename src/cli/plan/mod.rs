//! `plan`: what a migration would do, phase by phase, with the way back of each and the point from which there is none.

mod outline;

use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::ConfigMap,
};
use kube::{Api, ResourceExt as _, api::PostParams};

use super::{
    connect::{Cluster, ClusterFlags},
    exit::Code,
    lint,
    look::{Look, Tone},
    out,
    problem::Problem,
};
use crate::api::{GROUP, Migration, access::VERB_APPROVE};
use outline::{Scripts, Step, outline};

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["name", "filename"]))]
pub struct Arguments {
    /// The migration in the cluster.
    name: Option<String>,
    /// Files instead, without a cluster; `-` is standard input. ConfigMaps in them are looked through for scripts.
    #[arg(long, short = 'f', num_args = 1.., value_name = "FILE")]
    filename: Vec<PathBuf>,
}

/// Runs it.
pub async fn run(arguments: &Arguments, flags: &ClusterFlags, look: &Look) -> Result<Code, Problem> {
    if let Some(name) = &arguments.name {
        let cluster = flags.connect().await?;
        let migration = cluster.migration(name).await?;
        let scripts = fetch_scripts(&cluster, &migration).await;
        let may_approve = may_approve(&cluster).await;
        out::print(&text(&migration, &scripts, may_approve, look))?;
        return Ok(Code::Done);
    }
    let files = lint::files::read_all(&arguments.filename)?;
    let mut shown = 0;
    for file in &files {
        for document in file.documents.iter().filter(|document| document.is_migration()) {
            let migration: Migration = serde_json::from_value(document.node.value()).map_err(|error| {
                let name = document.name().unwrap_or("without a name");
                let again = format!("kubectl alongside lint -f {}", file.path.display());
                Problem::Refused {
                    why: format!("migration {name} in {} can't be read: {error}", file.path.display()),
                    instead: Some(again),
                }
            })?;
            let scripts = scripts_in(&files, document.namespace());
            if shown > 0 {
                out::line("")?;
            }
            shown += 1;
            out::print(&text(&migration, &scripts, None, look))?;
        }
        if let Some(error) = &file.error {
            let again = format!("kubectl alongside lint -f {}", file.path.display());
            let why = format!("{}:{}:{}: {error}", file.path.display(), error.at.line, error.at.column);
            return Err(Problem::Refused { why, instead: Some(again) });
        }
    }
    if shown == 0 {
        let instead = Some("a migration is of kind Migration in alongside.dev/v1alpha1".to_owned());
        return Err(Problem::Refused { why: "there is no Migration in these files".to_owned(), instead });
    }
    Ok(Code::Done)
}

/// ConfigMaps among the files, by name: the keys that scripts may have.
fn scripts_in(files: &[lint::File], namespace: Option<&str>) -> Scripts {
    let documents = files.iter().flat_map(|file| &file.documents);
    let maps = documents.filter(|document| document.is("ConfigMap") && document.namespace() == namespace);
    maps.filter_map(|map| {
        let value = map.node.value();
        let data = serde_json::from_value(value["data"].clone()).ok()?;
        Some((map.name()?.to_owned(), data))
    })
    .collect()
}

/// The ConfigMaps that a migration names, where this user may read them.
async fn fetch_scripts(cluster: &Cluster, migration: &Migration) -> Scripts {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let sources = migration.spec.phases.iter().filter_map(|phase| phase.sql.as_ref()?.from.as_ref());
    let mut scripts = Scripts::new();
    for source in sources {
        if let Ok(map) = maps.get(&source.config_map).await {
            scripts.insert(source.config_map.clone(), map.data.unwrap_or_default());
        }
    }
    scripts
}

/// Whether this user has the virtual verb that the chart's policy asks for; absent where the API server doesn't say.
async fn may_approve(cluster: &Cluster) -> Option<bool> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let attributes = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        resource: Some("migrations".to_owned()),
        verb: Some(VERB_APPROVE.to_owned()),
        namespace: Some(cluster.namespace.clone()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer = reviews.create(&PostParams::default(), &review).await.ok()?;
    answer.status.map(|status| status.allowed)
}

fn text(migration: &Migration, scripts: &Scripts, may_approve: Option<bool>, look: &Look) -> String {
    let steps = outline(migration, scripts);
    let mut lines = Vec::new();
    let place = migration.namespace().map(|namespace| format!(" in {namespace}")).unwrap_or_default();
    let title = format!("{}{place}: {} phases", migration.name_any(), steps.len());
    lines.push(look.paint(Tone::Strong, title));
    lines.push(look.paint(Tone::Faint, "before the first: preflight asks all that can be asked, and changes nothing"));
    for step in &steps {
        lines.push(String::new());
        show(step, may_approve, look, &mut lines);
    }
    lines.push(String::new());
    lines.extend(end(migration, &steps));
    lines.join("\n") + "\n"
}

fn show(step: &Step, may_approve: Option<bool>, look: &Look, lines: &mut Vec<String>) {
    if step.is_first_past_no_return {
        let text = "── point of no return: from here on nothing is taken back, a breach alerts and stalls ──";
        lines.push(look.paint(Tone::Warn, text));
    }
    let state = step.state.map(|state| format!("  ({state})")).unwrap_or_default();
    let name = look.paint(Tone::Strong, &step.name);
    lines.push(format!("{:>2}  {name}  {}{state}", step.number, look.paint(Tone::Faint, step.kind)));
    let mut fact = |title: &str, text: &str| {
        lines.push(format!("    {} {text}", look.paint(Tone::Faint, format!("{title:<9}"))));
    };
    for (at, does) in step.does.iter().enumerate() {
        fact(if at == 0 { "does" } else { "" }, does);
    }
    if let Some(approval) = step.approval {
        let you = match may_approve {
            Some(true) => "; you may",
            Some(false) => "; you may not",
            None => "",
        };
        let who = format!("who may `approve` migrations.{GROUP} there, such as by alongside-approver{you}");
        fact("approval", &format!("{approval}: by {who}"));
    }
    fact("way back", &step.way_back);
    fact("guards", &step.guards);
    if let Some(tries) = &step.tries {
        fact("tries", tries);
    }
}

fn end(migration: &Migration, steps: &[Step]) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(until) = &migration.spec.until {
        lines.push(format!("stops after phase {until}, guards on, until spec.until names a later one or is removed"));
    }
    if !steps.iter().any(|step| step.is_first_past_no_return) {
        lines.push("has no point of no return: until it has succeeded, everything can be taken back".to_owned());
    }
    lines
}
