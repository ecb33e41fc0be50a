//! `make demo`: tells Alongside's story on a real cluster. A service with its Postgres goes from blue to green under
//! load with no failed request; then again with a green that fails requests, and with one that crashes, and traffic goes
//! back by itself. Exits with 1 if any figure breaks a promise.

mod act;
mod clock;
mod figures;
mod manifests;
mod record;
mod script;
mod shop;
mod stage;
mod story;
mod tell;
mod tools;

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{
    act::Theatre,
    clock::{Clock, now},
    manifests::Images,
    script::{ACTS, Act},
    stage::Stage,
    tools::Tools,
};

/// Tells Alongside's story on a real cluster. `deploy/demo/run` builds what it needs and calls it.
#[derive(Parser)]
struct Options {
    /// Context of the kubeconfig. Default: the current one.
    #[arg(long)]
    context: Option<String>,
    /// What stands before the images' names.
    #[arg(long, default_value = "localhost")]
    images: String,
    /// Tag of the images `alongside` and `shop`.
    #[arg(long, default_value = "demo")]
    tag: String,
    /// Any text that changes when the operator's image does.
    #[arg(long, default_value = "unknown")]
    build: String,
    /// Folder of the chart.
    #[arg(long, default_value = "charts/alongside")]
    chart: PathBuf,
    /// How a person calls kubectl on this cluster.
    #[arg(long, default_value = "kubectl")]
    kubectl: String,
    /// How a person ends it all.
    #[arg(long)]
    end: Option<String>,
    /// The one act to play, by number. Default: all.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3))]
    act: Option<u8>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let tools = Tools::new(options.context.clone());
    let clock = Clock::start();
    match play(&options, &tools, clock) {
        Ok(broken) => {
            close(&options, broken, clock);
            if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("\n{} {}", tell::bad("The demo ends here:"), chain(&*error));
            // Whatever went wrong, the pods are where a person would look first.
            if let Ok(pods) = tools.kubectl(&["get", "pods", "--all-namespaces"], stage::QUICK) {
                println!("\n{pods}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Plays, and returns how many promises were broken.
fn play(options: &Options, tools: &Tools, clock: Clock) -> Result<usize, Box<dyn Error>> {
    let images = Images { prefix: options.images.clone(), tag: options.tag.clone() };
    let stage = Stage { tools, images: &images, chart: options.chart.clone(), build: options.build.clone() };
    println!("{}", tell::bold("Alongside: carried over under load, and taken back by itself"));
    tell::plain(&format!("on Kubernetes {}", stage.kubernetes()?));
    tell::plain("Prometheus scrapes every second, rates look back over 5 s, guards ask every second and, once traffic");
    tell::plain("has moved, as soon as the next sample is due.");
    tell::heading("The stage");
    stage.set(clock)?;
    let theatre = Theatre { tools, images: &images, kubectl: &options.kubectl };
    let wanted = |number: usize| options.act.is_none_or(|act| usize::from(act) == number);
    let acts: Vec<(usize, &Act)> = (1..).zip(&ACTS).filter(|(number, _)| wanted(*number)).collect();
    let mut broken = 0;
    for (number, act) in acts {
        broken += theatre.play(number, ACTS.len(), act)?;
    }
    Ok(broken)
}

fn close(options: &Options, broken: usize, clock: Clock) {
    let took = tell::seconds(now().0 - clock.begin().0);
    let verdict = match broken {
        0 => tell::good("Every promise was kept."),
        1 => tell::bad("A promise was broken."),
        more => tell::bad(&format!("{more} promises were broken.")),
    };
    tell::heading(&format!("{verdict} The story took {took}."));
    println!("\nLook around:");
    stage::show_how_to_look_around(&options.kubectl);
    if let Some(end) = &options.end {
        println!("\nEnd it:\n  {end}");
    }
}

/// An error with all that is behind it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
