//! `get -w`: redraws on a terminal as things change, and prints a line a change where nobody but a program looks.

mod screen;

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api,
    api::DynamicObject,
    runtime::watcher::{self, Event},
};

use super::{
    super::{
        connect::Cluster,
        exit::Code,
        follow::{self, Following, News},
        look::{Look, Tone},
        out,
        problem::Problem,
        words,
    },
    Arguments, Form, Seen, in_form, list,
    tree::{selector, tree},
};
use crate::api::{Migration, MigrationStatus};
use screen::Screen;

/// How often times are drawn anew; no request goes out for that.
const TICK: Duration = Duration::from_secs(1);

type Events<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>>>>;

/// Runs it until it is interrupted, or until the one migration that is shown is gone.
pub async fn run(arguments: &Arguments, cluster: &Cluster, look: &Look) -> Result<Code, Problem> {
    let shown = async {
        match (arguments.output, &arguments.name) {
            (Some(form @ (Form::Json | Form::Yaml)), name) => objects(arguments, cluster, name.as_deref(), form).await,
            (form, Some(name)) if form.is_none() => one(cluster, name, look).await,
            (form, name) => many(arguments, cluster, name.as_deref(), form == Some(Form::Wide), look).await,
        }
    };
    tokio::select! {
        done = shown => done,
        _ = tokio::signal::ctrl_c() => Ok(Code::Done),
    }
}

/// One migration: a tree that is drawn anew, or lines.
async fn one(cluster: &Cluster, name: &str, look: &Look) -> Result<Code, Problem> {
    // Whether it is there at all is told by an error, as without -w.
    let mut seen = Seen::look(cluster, name).await?;
    let mut news = Box::pin(follow::one(cluster, name));
    let labels = seen.migration.as_ref().and_then(selector);
    let mut jobs: Events<Job> = watch_of(cluster, labels.as_deref());
    let mut pods: Events<Pod> = watch_of(cluster, labels.as_deref());
    let (mut known_jobs, mut known_pods) = (Following::<Job>::default(), Following::<Pod>::default());
    let mut screen = look.terminal.then(|| Screen::open(*look));
    let mut lines = Lines::default();
    let mut tick = tokio::time::interval(TICK);
    let mut trouble: Option<String> = None;
    loop {
        if let Some(screen) = &mut screen {
            let mut text = tree(&seen, words::now(), &screen.look());
            if let Some(trouble) = &trouble {
                text.push_str(&screen.look().paint(Tone::Bad, format!("\nthe watch is interrupted: {trouble}\n")));
            }
            screen.draw(&text)?;
        } else if let Some(migration) = &seen.migration {
            for line in lines.of(migration, look) {
                out::line(&line)?;
            }
        }
        tokio::select! {
            heard = news.next() => match heard.expect("a watch never ends")? {
                News::Is(migration) => {
                    trouble = None;
                    seen.take(*migration);
                }
                News::Gone => {
                    drop(screen.take());
                    out::line(&format!("migration {name} is gone"))?;
                    return Ok(Code::Done);
                }
                News::Trouble(why) => {
                    if screen.is_none() {
                        eprintln!("the watch is interrupted and goes on by itself: {why}");
                    }
                    trouble = Some(why);
                }
            },
            Some(event) = jobs.next() => match event {
                Ok(event) => {
                    known_jobs.take(event);
                    seen.jobs = known_jobs.all.values().cloned().collect();
                }
                Err(error) => unwatched(&mut seen, &mut jobs, "Jobs", &error),
            },
            Some(event) = pods.next() => match event {
                Ok(event) => {
                    known_pods.take(event);
                    seen.pods = known_pods.all.values().cloned().collect();
                }
                Err(error) => unwatched(&mut seen, &mut pods, "pods", &error),
            },
            _ = tick.tick(), if screen.is_some() => {}
        }
    }
}

fn watch_of<K>(cluster: &Cluster, labels: Option<&str>) -> Events<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    match labels {
        Some(labels) => {
            let api: Api<K> = Api::namespaced(cluster.watching.clone(), &cluster.namespace);
            Box::pin(follow::all(api, Some(labels)))
        }
        None => Box::pin(stream::pending()),
    }
}

/// A user who may not see Jobs or pods sees the rest, and is told once.
fn unwatched<K: 'static>(seen: &mut Seen, events: &mut Events<K>, what: &str, error: &watcher::Error) {
    let refused = match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => match error {
            kube::Error::Api(status) => status.code == 401 || status.code == 403,
            _ => false,
        },
        _ => false,
    };
    if refused {
        seen.unseen = Some(format!("{what} can't be shown: {error}"));
        *events = Box::pin(stream::pending());
    }
}

/// What has been printed of a migration, so that each change is told once.
#[derive(Default)]
struct Lines {
    state: String,
    guards: Vec<String>,
}

impl Lines {
    fn of(&mut self, migration: &Migration, look: &Look) -> Vec<String> {
        let nothing = MigrationStatus::default();
        let status = migration.status.as_ref().unwrap_or(&nothing);
        let at = words::now();
        let mut lines = Vec::new();
        for guard in &status.guards {
            let value = guard.value.as_deref().unwrap_or("-");
            let limit = guard.limit.as_deref().unwrap_or("-");
            let line = format!("guard {}: {}, {value} against {limit}", guard.name, guard.verdict);
            if !self.guards.contains(&line) {
                self.guards.retain(|known| !known.starts_with(&format!("guard {}:", guard.name)));
                self.guards.push(line.clone());
                lines.push(format!("{at}  {line}"));
            }
        }
        let state = list::state_word(status.state);
        let phase = status.phase.as_deref().unwrap_or("-");
        let progress = if status.progress.is_empty() { "-" } else { &status.progress };
        let line = format!("{state:<11}  {phase}  {progress}  {}", status.message);
        if line != self.state {
            self.state.clone_from(&line);
            lines.push(format!("{at}  {}", look.paint(words::tone_of(status.state), line.trim_end())));
        }
        lines
    }
}

/// The list: a table that is drawn anew, or a row a change.
async fn many(
    arguments: &Arguments,
    cluster: &Cluster,
    name: Option<&str>,
    wide: bool,
    look: &Look,
) -> Result<Code, Problem> {
    let api: Api<Migration> = if arguments.all_namespaces {
        Api::all(cluster.watching.clone())
    } else {
        Api::namespaced(cluster.watching.clone(), &cluster.namespace)
    };
    let mut events = Box::pin(follow::all(api, None));
    let mut known = Following::<Migration>::default();
    let mut screen = look.terminal.then(|| Screen::open(*look));
    let mut tick = tokio::time::interval(TICK);
    let mut printed = list::Columns::new(arguments.all_namespaces, wide);
    let is_meant = |migration: &Migration| name.is_none_or(|name| migration.metadata.name.as_deref() == Some(name));
    loop {
        if let Some(screen) = &mut screen {
            let all: Vec<_> = known.all.values().filter(|one| is_meant(one)).cloned().collect();
            screen.draw(&list::table(&all, arguments.all_namespaces, wide, words::now(), &screen.look()))?;
        }
        tokio::select! {
            event = events.next() => {
                let event = match event.expect("a watch never ends") {
                    Ok(event) => event,
                    Err(error) => {
                        let why = follow::trouble("migrations", error)?;
                        if screen.is_none() {
                            eprintln!("the watch is interrupted and goes on by itself: {why}");
                        }
                        continue;
                    }
                };
                let listed = matches!(event, Event::InitDone);
                let changed = known.take(event).cloned();
                if screen.is_some() {
                    continue;
                }
                let rows = if listed { known.all.values().cloned().collect() } else { Vec::from_iter(changed) };
                for migration in rows.iter().filter(|one| is_meant(one)) {
                    out::print(&printed.row(migration, words::now(), look))?;
                }
            }
            _ = tick.tick(), if screen.is_some() => {}
        }
    }
}

/// Objects as they are, one document a change.
async fn objects(arguments: &Arguments, cluster: &Cluster, name: Option<&str>, form: Form) -> Result<Code, Problem> {
    let kind = kube::api::ApiResource::erase::<Migration>(&());
    let client = cluster.watching.clone();
    let api: Api<DynamicObject> = if arguments.all_namespaces {
        Api::all_with(client, &kind)
    } else {
        Api::namespaced_with(client, &cluster.namespace, &kind)
    };
    let fields = name.map(|name| format!("metadata.name={name}"));
    let mut config = watcher::Config::default();
    if let Some(fields) = &fields {
        config = config.fields(fields);
    }
    let mut events = Box::pin(watcher::watcher(api, config));
    loop {
        match events.next().await.expect("a watch never ends") {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                let value = serde_json::to_value(object).expect("what was read as JSON can be written as JSON");
                let text = in_form(&value, form);
                out::line(&if form == Form::Yaml { format!("---\n{text}") } else { text })?;
            }
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) => {}
            Err(error) => {
                follow::trouble("migrations", error)?;
            }
        }
    }
}
