//! `kill -9` at every boundary between intent, effect and observation, as `alongside::operator::fault` lists them.
//!
//! One journey passes through all of them, in both directions: forward, taken back in the middle of a Job, and forward
//! again to the end. The operator is killed whenever it comes to the boundary, and started again; it is let through only
//! where nothing has changed since it was last killed there, for otherwise nothing would ever happen.

use std::time::{Duration, Instant};

use alongside::{
    api::{Migration, PhaseState, State},
    operator::fault,
};
use kube::ResourceExt;

use crate::{
    home::Home,
    journey::{Journey, phase},
    operator::Operator,
    phases::{bake, contract, cut_over, long, phases, prepare},
    story::Story,
    tally::nothing_is_left,
};

/// How long the whole journey may take, killed again and again.
const PATIENCE: Duration = Duration::from_mins(4);

/// A story for each boundary there is.
pub fn stories() -> Vec<Story> {
    let story = |boundary: String| {
        let sentence =
            format!("an_operator_killed_at_{}_loses_nothing_and_does_nothing_twice", boundary.replace('.', "_"));
        Story::new(&sentence, move |home| killed_at(boundary.clone(), home))
    };
    // Orders go to agents, which this journey has none of: `databases` kills there.
    fault::all().into_iter().filter(|boundary| !boundary.starts_with("Order")).map(story).collect()
}

async fn killed_at(boundary: String, home: Home) {
    let app = home.app("web").await;
    let visitor = app.is_visited().await;
    let spec = phases([prepare(&home), cut_over("web"), long(&home), bake("1s"), contract(&home)]);
    let mut victim = Victim::new(&home, &boundary);
    victim.rises();
    let migration = home.migrates("to-v2", spec).await;
    victim.carries(&migration, "the long Job runs", |m| state_of(m, "long") == PhaseState::Running).await;
    app.serves("v2").await;
    migration.is_aborted().await;
    victim.carries(&migration, "all is taken back", |m| is_at_rest(m, State::RolledBack)).await;
    app.serves("v1").await;
    nothing_is_left(&home, &app).await;
    let done = |what| home.times(what);
    assert_eq!([done("prepare"), done("undo-prepare"), done("long"), done("contract")], [1, 1, 1, 0]);

    home.opens("long");
    migration.is_retried().await;
    victim.carries(&migration, "all is done", |m| is_at_rest(m, State::Succeeded)).await;
    app.serves("v2").await;
    nothing_is_left(&home, &app).await;
    assert_eq!([done("prepare"), done("undo-prepare"), done("long"), done("contract")], [2, 1, 2, 1]);
    visitor.was_always_served().await;
    assert!(victim.kills > 0, "the journey never came to {}", victim.boundary);
}

fn state_of(migration: &Migration, name: &str) -> PhaseState {
    let status = migration.status.as_ref().filter(|status| !status.phases.is_empty());
    status.map(|status| phase(status, name).state).unwrap_or_default()
}

/// Whether a Migration has ended in this state, and the operator has let it go.
pub fn is_at_rest(migration: &Migration, state: State) -> bool {
    migration.status.as_ref().is_some_and(|status| status.state == state) && migration.finalizers().is_empty()
}

/// An operator that is killed at a boundary, and rises again.
pub struct Victim {
    home: Home,
    boundary: String,
    operator: Option<Operator>,
    stops: u32,
    /// How often it was killed.
    pub kills: u32,
    /// How often it is killed at most.
    most: u32,
    /// The Migration's version when it was last killed.
    killed_on: Option<String>,
}

impl Victim {
    /// One that is killed at this boundary. It has yet to rise.
    pub fn new(home: &Home, boundary: &str) -> Self {
        let (home, boundary) = (home.clone(), boundary.to_owned());
        Self { home, boundary, operator: None, stops: 0, kills: 0, most: u32::MAX, killed_on: None }
    }

    /// Lets it through once it has been killed so often: where each start writes something down by itself, a version tells
    /// nothing.
    pub fn at_most(self, most: u32) -> Self {
        Self { most, ..self }
    }

    /// Starts under the same name, as a container that is restarted does.
    pub fn rises(&mut self) {
        drop(self.operator.take());
        let operator = self.home.operator("a");
        self.stops += 1;
        operator.is_to_stop_at(&self.boundary, self.stops);
        self.operator = Some(operator);
    }

    /// Carries the migration on, killed wherever it comes to the boundary, until something is so of it.
    pub async fn carries(&mut self, migration: &Journey, sentence: &str, so: impl Fn(&Migration) -> bool) {
        let begin = Instant::now();
        loop {
            let seen = migration.object().await;
            if so(&seen) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "not so in time: {sentence}; killed {} times", self.kills);
            if self.operator.as_ref().is_some_and(Operator::has_stopped) {
                self.meets_its_fate(seen.resource_version());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn meets_its_fate(&mut self, version: Option<String>) {
        if self.killed_on == version || self.kills >= self.most {
            self.stops += 1;
            self.operator.as_ref().expect("there is always one").is_to_stop_at(&self.boundary, self.stops);
        } else {
            self.kills += 1;
            self.killed_on = version;
            self.rises();
        }
    }
}
