//! One migration as a tree: where it is, its phases with their Jobs and pods, its guards, and its way back.

mod guards;
mod phases;
mod way_back;

use std::{collections::BTreeMap, fmt::Write as _};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{Api, ResourceExt as _, api::ListParams};

use super::{
    super::{
        connect::Cluster,
        look::{Look, Tone},
        problem::Problem,
        words::{short, tone_of},
    },
    list::{created, state_word},
};
use crate::api::{Migration, MigrationStatus, Time, UID_LABEL};

pub use guards::limits;
pub use way_back::{lanes_of, millis};

/// What is seen of a migration: all that the tree is made from.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The Migration.
    pub migration: Option<Migration>,
    /// Its Jobs.
    pub jobs: Vec<Job>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Why Jobs or pods are missing, if they are.
    pub unseen: Option<String>,
    /// What was heard of each figure for as long as somebody has looked: of guards by name, of work by `phase/NAME`.
    pub heard: BTreeMap<String, Vec<f64>>,
}

impl Seen {
    /// Looks once.
    pub async fn look(cluster: &Cluster, name: &str) -> Result<Self, Problem> {
        let migration = cluster.migration(name).await?;
        let mut seen = Self::default();
        if let Some(ours) = selector(&migration) {
            let params = ListParams::default().labels(&ours);
            let jobs: Api<Job> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
            let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
            match jobs.list(&params).await {
                Ok(list) => seen.jobs = list.items,
                Err(error) => seen.unseen = Some(unseen("Jobs", &error)),
            }
            match pods.list(&params).await {
                Ok(list) => seen.pods = list.items,
                Err(error) => seen.unseen = Some(unseen("pods", &error)),
            }
        }
        seen.take(migration);
        Ok(seen)
    }

    /// Takes a newer state of the Migration in, and what it says of figures.
    pub fn take(&mut self, migration: Migration) {
        let nothing = MigrationStatus::default();
        let status = migration.status.as_ref().unwrap_or(&nothing);
        for guard in &status.guards {
            let Some(value) = guard.value.as_ref().and_then(|value| value.parse().ok()) else { continue };
            self.hear(guard.name.clone(), value);
        }
        for phase in &status.phases {
            let Some(work) = &phase.work else { continue };
            #[expect(clippy::cast_precision_loss, reason = "a curve of eight levels")]
            self.hear(format!("phase/{}", phase.name), work.rate as f64);
        }
        self.migration = Some(migration);
    }

    fn hear(&mut self, figure: String, value: f64) {
        let heard = self.heard.entry(figure).or_default();
        heard.push(value);
        let extra = heard.len().saturating_sub(super::gauge::CURVE);
        heard.drain(..extra);
    }
}

/// What chooses the Jobs and pods of a Migration.
pub fn selector(migration: &Migration) -> Option<String> {
    migration.uid().map(|uid| format!("{UID_LABEL}={uid}"))
}

/// Why something of a migration isn't shown.
pub fn unseen(what: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{what} can't be shown: {}", status.message),
        other => format!("{what} can't be shown: {other}"),
    }
}

/// The whole tree.
pub fn tree(seen: &Seen, now: Time, look: &Look) -> String {
    let Some(migration) = &seen.migration else { return "gone\n".to_owned() };
    let nothing = MigrationStatus::default();
    let status = migration.status.as_ref().unwrap_or(&nothing);
    let mut page = Page { look: *look, text: String::new() };
    page.head(migration, status, now);
    phases::show(&mut page, seen, migration, status, now);
    guards::show(&mut page, seen, migration, status, now);
    way_back::show(&mut page, migration, status, now);
    if let Some(why) = &seen.unseen {
        page.blank();
        page.line(0, &look.paint(Tone::Warn, why));
    }
    page.text
}

/// A page that is being written.
struct Page {
    look: Look,
    text: String,
}

impl Page {
    fn head(&mut self, migration: &Migration, status: &MigrationStatus, now: Time) {
        let look = self.look;
        let mut facts = vec![
            look.paint(Tone::Strong, migration.name_any()),
            look.paint(tone_of(status.state), state_word(status.state)),
        ];
        facts.extend((!status.progress.is_empty()).then(|| format!("{} phases done", status.progress)));
        facts.extend((status.attempt > 0).then(|| format!("attempt {}", status.attempt)));
        facts.extend(status.plan.as_ref().map(|plan| format!("plan {}", plan.hash)));
        facts.extend(migration.namespace().map(|namespace| format!("in {namespace}")));
        facts.extend(created(migration).map(|at| format!("{} old", short(now.since(at)))));
        self.line(0, &facts.join("  "));
        if migration.metadata.deletion_timestamp.is_some() {
            self.line(1, &look.paint(Tone::Warn, "is being deleted"));
        }
        if status.message.is_empty() {
            let text = "the operator has not looked at it yet: is it running, and does it look after this namespace?";
            self.line(1, &look.paint(Tone::Warn, text));
        } else {
            self.line(1, &look.paint(tone_of(status.state), &status.message));
        }
        let generation = migration.metadata.generation.unwrap_or_default();
        if !status.message.is_empty() && status.observed_generation < generation {
            let text = "the spec has changed since, and the operator has not looked at it again yet";
            self.line(1, &look.paint(Tone::Warn, text));
        }
        if let Some(hold) = &status.hold {
            let mut text = format!("for {}", short(now.since(hold.since)));
            if let (Some(deadline), Some(then)) = (hold.deadline, &hold.on_deadline) {
                let what = match then.as_str() {
                    "Pause" => "then it counts as paused",
                    "Rollback" => "then everything is taken back",
                    "Stall" => "then a person is needed",
                    other => other,
                };
                if deadline > now {
                    let _ = write!(text, ", for up to {} more: {what}", short(deadline.since(now)));
                } else {
                    let _ = write!(text, ", longer than it should: {what}");
                }
            }
            self.line(1, &look.paint(Tone::Faint, format!("({}, {text})", hold.reason)));
        }
        if let Some(next) = &status.next {
            self.line(1, &format!("next: {}", look.paint(Tone::Strong, next)));
        }
    }

    fn title(&mut self, title: &str) {
        self.blank();
        let title = self.look.paint(Tone::Strong, title);
        self.line(0, &title);
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    fn line(&mut self, depth: usize, line: &str) {
        self.text.push_str(&"  ".repeat(depth));
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }
}
