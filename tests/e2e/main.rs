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
mod apiserver;
mod app;
mod crashes;
mod data;
mod databases;
mod deletion;
mod guards;
mod home;
mod journey;
mod leaders;
mod ledger;
mod leftovers;
mod oddities;
mod operator;
mod phases;
mod places;
mod prometheus;
mod quiet;
mod refusals;
mod rights;
mod shop;
mod stage;
mod story;
mod strangers;
mod tally;
mod verbs;
mod watching;

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
    // The one that is told alone comes first, before the others have begun, and the longest next.
    let stories = [
        apiserver::stories(),
        crashes::stories(),
        databases::stories(),
        data::stories(),
        shop::stories(),
        leaders::stories(),
        deletion::stories(),
        verbs::stories(),
        guards::stories(),
        strangers::stories(),
        leftovers::stories(),
        actions::stories(),
        quiet::stories(),
        rights::stories(),
        watching::stories(),
        oddities::stories(),
        refusals::stories(),
    ];
    let trials = stories.into_iter().flatten().map(|story: Story| story.on(Arc::clone(&stage))).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The cluster ends with the stage, and this process after it.
    drop(stage);
    conclusion.exit_code()
}
