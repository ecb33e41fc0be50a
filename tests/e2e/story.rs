//! A story: a sentence and what happens, told in a home of its own.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, LazyLock},
};

use libtest_mimic::{Failed, Trial};

use crate::{home::Home, stage::Stage};

type Telling = Box<dyn Fn(Home) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

/// One test.
pub struct Story {
    sentence: String,
    telling: Telling,
    alone: bool,
}

impl Story {
    /// A story under its sentence.
    pub fn new<F>(sentence: &str, telling: impl Fn(Home) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let telling: Telling = Box::new(move |home| Box::pin(telling(home)));
        Self { sentence: sentence.to_owned(), telling, alone: false }
    }

    /// Told while no other is, for it disturbs the whole cluster.
    pub fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// Makes a test of it.
    pub fn on(self, stage: Arc<LazyLock<Stage>>) -> Trial {
        Trial::test(self.sentence.clone(), move || self.tell(&stage))
    }

    fn tell(&self, stage: &Stage) -> Result<(), Failed> {
        let _turn = if self.alone { stage.turn_alone() } else { stage.turn() };
        let home = stage.home(&self.sentence);
        let told = catch_unwind(AssertUnwindSafe(|| stage.run(async || (self.telling)(home.clone()).await)));
        let told = told.map_err(|panic| {
            let why = format!("{}\n{}", words(&*panic), home.looks_like());
            std::fs::write(home.folder().join("failed"), &why).ok();
            why
        });
        home.clear();
        told.map_err(Failed::from)
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

/// The stories of a file, by the functions that tell them.
macro_rules! stories {
    ($($sentence:ident),* $(,)?) => {
        vec![$($crate::story::Story::new(stringify!($sentence), $sentence)),*]
    };
}
pub(crate) use stories;
