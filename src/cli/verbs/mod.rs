//! The verbs: `approve`, `pause`, `resume`, `abort`, `rollback`, `retry`. Each sets or removes an annotation that is bound
//! to what it is about, and nothing else; the operator acts on it.
//!
//! [`judge`] decides before anything is written whether the verb means something now; this file asks and writes.

mod ask;
mod judge;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::{Args, ValueEnum};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    connect::{Cluster, ClusterFlags},
    exit::Code,
    look::{Look, Tone},
    out,
    problem::Problem,
};
use ask::Ask;
pub use judge::{Verb, is_underway};

/// Names the field manager of what the plugin writes.
const FIELD_MANAGER: &str = "kubectl-alongside";

/// Arguments of every verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The migration.
    name: String,
    /// Don't ask on a terminal whether it is meant.
    #[arg(long, short)]
    yes: bool,
    /// `server`: the API server and its policies say what they think of it, and nothing is written.
    #[arg(long, value_enum, default_value_t, value_name = "WHERE", num_args = 0..=1, default_missing_value = "server")]
    dry_run: DryRun,
}

/// Arguments of `approve`.
#[derive(Debug, Args)]
pub struct Approval {
    #[command(flatten)]
    common: Arguments,
    /// Only if this is the phase that waits.
    #[arg(long, value_name = "NAME")]
    phase: Option<String>,
}

/// Whether something is only tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum DryRun {
    /// It is written.
    #[default]
    None,
    /// The API server is asked, and writes nothing.
    Server,
}

/// Runs `approve`.
pub async fn approve(arguments: Approval, flags: &ClusterFlags, look: &Look) -> Result<Code, Problem> {
    run(&Verb::Approve { phase: arguments.phase }, &arguments.common, flags, look).await
}

/// Runs a verb.
pub async fn run(verb: &Verb, arguments: &Arguments, flags: &ClusterFlags, look: &Look) -> Result<Code, Problem> {
    let cluster = flags.connect().await?;
    let migration = cluster.migration(&arguments.name).await?;
    let mut ask = judge::judge(verb, &migration)
        .map_err(|refusal| Problem::Refused { why: refusal.why, instead: refusal.instead })?;
    if ask.names_the_giver {
        ask.by(&who_am_i(&cluster).await?);
    }
    if arguments.dry_run == DryRun::None && !arguments.yes && !confirms(&ask, look)? {
        out::line("nothing was written")?;
        return Ok(Code::Refused);
    }
    let patch = json!({ "metadata": { "uid": migration.uid(), "annotations": ask.annotations } });
    let params = PatchParams {
        dry_run: arguments.dry_run == DryRun::Server,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let name = migration.name_any();
    let written = cluster.migrations().patch(&name, &params, &Patch::Merge(patch)).await;
    written.map_err(|error| Problem::of(format!("migration {name} can't be annotated"), error))?;
    let namespace = &cluster.namespace;
    if arguments.dry_run == DryRun::Server {
        out::line(&format!("migration {name} in {namespace}: {} (server dry run: nothing was written)", ask.done))?;
    } else {
        out::line(&format!("migration {name} in {namespace}: {}", ask.done))?;
        out::line(&format!("{} {}", look.paint(Tone::Faint, "next:"), ask.then))?;
        let follow = format!("kubectl alongside get {name} -n {namespace} -w");
        out::line(&format!("{} {follow}", look.paint(Tone::Faint, "follow it:")))?;
    }
    Ok(Code::Done)
}

/// Asks whether it is meant, where a person can answer.
fn confirms(ask: &Ask, look: &Look) -> Result<bool, Problem> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    eprint!("{}\n{} [y/N] ", ask.question, look.paint(Tone::Strong, "go on?"));
    io::stderr().flush().map_err(Problem::Output)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Problem::Output)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// Who the API server takes this user for. The chart's policy holds an approval's name against it.
async fn who_am_i(cluster: &Cluster) -> Result<String, Problem> {
    let reviews: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review = review.map_err(|error| Problem::of("the API server does not say who you are", error))?;
    let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
    user.ok_or_else(|| Problem::Refused {
        why: "the API server does not say who you are, and an approval names its giver".to_owned(),
        instead: Some("kubectl auth whoami".to_owned()),
    })
}
