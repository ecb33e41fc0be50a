//! Playing an act: load on, green beside blue, the Migration applied, its status followed to the end, and the figures.
//! Touches the network.

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use alongside::api::{Migration, MigrationStatus, State, Time};

use crate::{
    clock::{Clock, now},
    figures::{ANSWERS_AFTERWARDS, Evidence, Figures},
    manifests::{self, Images, Manifests},
    record::Request,
    script::{ACT_LIMIT, Act, Fault, MIGRATION},
    shop::{Shop, ShopError},
    stage::QUICK,
    story, tell,
    tools::{Change, ToolError, Tools, Watch},
};

/// How long a stalled Migration is given to go on by itself.
const STALLED: Duration = Duration::from_secs(20);
/// Failures that are shown one by one, at most.
const SHOWN: usize = 5;

/// What all acts share.
#[derive(Debug)]
pub struct Theatre<'a> {
    /// The cluster.
    pub tools: &'a Tools,
    /// The images.
    pub images: &'a Images,
    /// How a person calls kubectl on this cluster.
    pub kubectl: &'a str,
}

impl Theatre<'_> {
    /// Plays an act and tells of it. Returns how many promises were broken.
    pub fn play(&self, number: usize, of: usize, act: &Act) -> Result<usize, ShopError> {
        tell::heading(&format!("Act {number} of {of}: {}", act.title));
        let clock = Clock::start();
        let shop = Shop::new(self.tools.clone(), act.namespace);
        shop.start_load(Duration::from_mins(1))?;
        shop.mark("act")?;
        clock.tell("500 requests a second reach blue (v1), half of them on new connections, half of them writes");
        clock.tell(&format!("a person applies green (v2){} and the Migration", what_is_wrong(act.fault)));
        self.apply(&Manifests::green(act.green, act.namespace, self.images))?;
        self.apply(&Manifests::migration(act.namespace, self.images))?;
        let (status, fault_from) = self.follow(act, &shop, clock)?;

        shop.more_answers("act", 3 * ANSWERS_AFTERWARDS as u64, Duration::from_mins(1))?;
        shop.mark("over")?;
        let evidence = gather(act, &shop, status, fault_from)?;
        shop.stop_load()?;
        let figures = evidence.figures();
        show(&evidence, &figures);
        let broken = evidence.broken(&figures);
        for sentence in &broken {
            println!("  {} {sentence}", tell::bad("broken:"));
        }
        Ok(broken.len())
    }

    fn apply(&self, manifests: &Manifests) -> Result<(), ToolError> {
        let arguments = ["apply", "--server-side", "--filename=-"];
        self.tools.kubectl_with(&manifests.text(), &arguments, QUICK).map(drop)
    }

    /// Follows the Migration until nothing more happens by itself; returns its last status, and when green's fault
    /// began.
    fn follow(&self, act: &Act, shop: &Shop, clock: Clock) -> Result<(MigrationStatus, Option<Time>), ShopError> {
        let watch = || -> Result<Watch<Migration>, ToolError> {
            self.tools.watch(act.namespace, &format!("migrations/{MIGRATION}"))
        };
        let mut changes = watch()?;
        let mut known = MigrationStatus::default();
        let mut approved = None;
        let mut fault: Option<JoinHandle<Result<Time, ShopError>>> = None;
        let deadline = Instant::now() + ACT_LIMIT;
        let mut stalled_since = None;
        while Instant::now() < deadline && !story::is_over(known.state) {
            if stalled_since.is_some_and(|since: Instant| since.elapsed() > STALLED) {
                break;
            }
            let status = match changes.next(Duration::from_millis(200)) {
                Change::To(migration) => migration.status.unwrap_or_default(),
                Change::None => continue,
                Change::Ended => {
                    thread::sleep(Duration::from_millis(200));
                    changes = watch()?;
                    continue;
                }
            };
            for line in story::news(&known, &status) {
                clock.tell_of(line.at.unwrap_or_else(now), &line.text);
            }
            stalled_since = (status.state == State::Stalled).then(|| stalled_since.unwrap_or_else(Instant::now));
            if let Some(binding) = waits_for_approval(&status).filter(|binding| approved.as_ref() != Some(binding)) {
                clock.tell("someone who may approve does, beyond which there is no way back:");
                tell::plain(&tell::faint(&shop.approve(self.kubectl, &binding)?));
                approved = Some(binding);
            }
            let flipped = status.traffic.iter().any(|traffic| traffic.flipped_at.is_some());
            if flipped && act.fault != Fault::None && fault.is_none() {
                let shop = shop.clone();
                fault = Some(thread::spawn(move || shop.fault_from(Duration::from_secs(20))));
            }
            known = status;
        }
        let fault_from = match fault.map(|fault| fault.join().expect("asking green never panics")) {
            Some(Ok(from)) => Some(from),
            Some(Err(error)) => {
                clock.tell(&format!("{}: {error}", tell::bad("green was asked when its fault begins")));
                None
            }
            None => None,
        };
        if let Some(from) = fault_from {
            clock.tell_of(from, &tell::faint("(when green's fault began, as green says)"));
        }
        Ok((known, fault_from))
    }
}

fn waits_for_approval(status: &MigrationStatus) -> Option<String> {
    let waits = status.hold.as_ref().is_some_and(|hold| hold.reason == "Approval");
    status.binding.clone().filter(|_| waits && status.state == State::Waiting)
}

fn what_is_wrong(fault: Fault) -> &'static str {
    match fault {
        Fault::None => "",
        Fault::Errors => ", of which three of ten answers will be errors from 5 s after its first request on,",
        Fault::Crash => ", whose pods will crash for good 5 s after their first request,",
    }
}

fn gather(act: &Act, shop: &Shop, status: MigrationStatus, fault_from: Option<Time>) -> Result<Evidence, ShopError> {
    let window = shop.closed_window("act")?;
    let record = shop.record(Time(window.began_ms))?;
    let visible = match fault_from {
        Some(from) => shop.visible(&manifests::migration(act.namespace).spec.guards, from, now())?,
        None => None,
    };
    let books = shop.books(&["start", "settled", "act", "over"])?;
    let selected = shop.selected()?;
    Ok(Evidence { fault: act.fault, record, window, status, selected, fault_from, visible, books })
}

fn show(evidence: &Evidence, figures: &Figures) {
    println!();
    for (name, row) in tell::picture(&evidence.record) {
        println!("  {name:<10} {}", if name == "failed" { tell::bad(&row) } else { row });
    }
    println!("  {}", tell::faint("who answered; a column is a second"));
    println!();
    let milliseconds =
        |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.0} ms"));
    println!(
        "  {:<10} {} sent, {} failed, slowest {} (99 of 100 within {})",
        "requests",
        tell::count(figures.sent as u64),
        tell::failures(figures.failed),
        milliseconds(figures.slowest_ms),
        milliseconds(figures.p99_ms),
    );
    let moved = figures.by_the_move.len();
    let greens_own = match evidence.fault {
        Fault::None => None,
        Fault::Errors => Some("green answered 5xx, as it was told to"),
        Fault::Crash => Some("green had crashed, as it was told to"),
    };
    if let Some(because) = greens_own {
        println!(
            "  {:<10} {} because {because}; {} because of the move",
            "failed",
            tell::count(figures.greens_own as u64),
            tell::failures(moved)
        );
    }
    for request in figures.by_the_move.iter().take(SHOWN) {
        println!("  {:<10} {}", "", tell::bad(&described(request)));
    }
    println!(
        "  {:<10} {} acknowledged, {} in the table, {} sent (since the shop opened)",
        "writes",
        tell::count(evidence.books.acknowledged),
        tell::count(evidence.books.written),
        tell::count(evidence.books.sent)
    );
    if evidence.fault != Fault::None {
        println!();
        show_way_back(evidence, figures);
    }
}

fn show_way_back(evidence: &Evidence, figures: &Figures) {
    println!("  {}", tell::bold(&format!("{:<50} {:>12} {:>12}", "the way back", "after fault", "after breach")));
    let after = |begin: Option<Time>, at: Option<Time>| match (begin, at) {
        (Some(begin), Some(at)) => tell::seconds(at.0 - begin.0),
        (None, _) | (_, None) => "-".to_owned(),
    };
    for (step, at) in evidence.way_back(figures) {
        println!("  {step:<50} {:>12} {:>12}", after(figures.first_bad, at), after(evidence.visible, at));
    }
    println!(
        "  {}",
        tell::faint(
            "fault: the first bad answer to a user. Breach: Prometheus would have shown it to anyone who asked,"
        )
    );
    println!("  {}", tell::faint("found out afterwards from Prometheus itself, to 10 ms. It scrapes every second."));
}

fn described(request: &Request) -> String {
    format!(
        "{:?} on a {:?} connection of {:?}, sent {}, ended {}",
        request.outcome, request.connection, request.side, request.sent, request.ended
    )
}
