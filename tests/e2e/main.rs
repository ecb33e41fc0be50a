//! The whole thing end to end: operators as they are shipped, with the chart's rights, on a real Kubernetes.
//!
//! One cluster serves all stories. Each has a namespace of its own, and operators of its own that look after nothing
//! else: child processes, built with `fault-points`, so that a story can stop one at a boundary, kill, freeze or thaw it.
//!
//! ```text
//! cargo test --features fault-points --test e2e                 # all, side by side
//! cargo test --features fault-points --test e2e -- frozen       # those with a word in their sentence
//! ALONGSIDE_KEEP_CLUSTER=1 cargo test ... -- --test-threads=1   # the cluster stays up, to be looked at
//! ```

#[path = "../support/mod.rs"]
mod support;

mod actions;
mod app;
mod crashes;
mod home;
mod journey;
mod leaders;
mod ledger;
mod operator;
mod phases;
mod prometheus;
mod stage;
mod story;
mod tally;

use std::{
    process::ExitCode,
    sync::{Arc, LazyLock},
};

use libtest_mimic::Arguments;
use stage::Stage;
use story::Story;

/// Stories at the same time. They wait for others more than they work, so there are more than processors.
const AT_ONCE: usize = 6;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().expect("nobody has chosen a TLS provider before");
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let stage: Arc<LazyLock<Stage>> = Arc::new(LazyLock::new(Stage::set));
    let stories: Vec<Story> = [actions::stories(), crashes::stories(), leaders::stories()].into_iter().flatten().collect();
    let trials = stories.into_iter().map(|story| story.on(Arc::clone(&stage))).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The cluster ends with the stage, and this process after it.
    drop(stage);
    conclusion.exit_code()
}
