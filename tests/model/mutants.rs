//! Mutants: the model with one rule of the design switched off. Each must break the promise that the rule keeps.
//!
//! The engine itself has no such switches. A rule that lives in how operators perform is broken there; one that lives
//! in `decide` is broken by lying to it about the world, or by meddling with what it asks for.

use std::collections::BTreeMap;

use alongside::{
    api::{MigrationStatus, PhaseState, TrafficStatus, TrafficStep},
    engine::{
        Decision,
        effect::{Effect, JobOrder, JobRole, ServicePatch, job_name},
        has_flipped,
        mark::{Mark, Role},
        world::{JobState, JobView, Points, ServiceView, Side, Sight, World},
    },
};

use crate::{
    cluster::{Cluster, Landed},
    fixture::{NAME, UID},
    sim::Sim,
    state::Mood,
};

/// A rule that is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// None is.
    None,
    /// Effects go out before their intent is in status.
    EffectsBeforeIntent,
    /// What is asked for again goes out without asking whether status is still what it was when it was read.
    TrustsWhatItRead,
    /// A patch of a Service doesn't look at what it finds.
    PatchesBlindly,
    /// The way back doesn't change the mark of a Service that has not been seen to move.
    NoFence,
    /// The mark of a way back is no evidence.
    EvidenceIgnored,
    /// Somebody else's way back is put right.
    ForeignWayBackFought,
    /// No suspended Job takes the place of one that was announced and never seen.
    NoTombstones,
    /// Marks stay as they are past the point of no return.
    MarksKeptAtNoReturn,
    /// A way back that is decided while the marks are given up doesn't wait for its status.
    AtOnceWhileCrossing,
    /// A mark that was given up under an earlier number counts as given up.
    AnyReleaseCounts,
    /// A mark of ours that is newer than status is taken as it is.
    NewerMarksTrusted,
    /// A Job that exists already is made again under another name.
    JobsMadeAgain,
    /// A Job that isn't in the cache is taken for lost.
    CacheTakenForTruth,
    /// A Job that is still at work doesn't keep its undo from beginning.
    JobsNotStopped,
    /// All attempts share their Jobs.
    AttemptsShareJobs,
    /// Lane 3 doesn't wait for lane 1.
    SchemaBeforeTraffic,
    /// A new leader decides by the Services that its predecessor saw.
    OldLookOfANewLeader,
    /// The way back doesn't ask whether the old side serves.
    OldSideNotAsked,
    /// A flip that is sent again doesn't ask whether the new side still serves.
    SentAgainBlindly,
    /// A guard that says nothing passes.
    SilencePasses,
    /// Nobody watches whether the old side could take traffic back.
    WayBackNotWatched,
    /// A clean-up that works is taken for done.
    CleanUpTakenForDone,
    /// An agent obeys an order although it has heard of a later one.
    LateOrdersObeyed,
    /// An order to stay counts as heard once it is given.
    UnheardOrdersTrusted,
    /// A cut-over counts as committed once it is ordered.
    CommitNotAwaited,
    /// The agent is dismissed before the old store lets writers in.
    WritersNotAwaited,
}

/// What a mutant made an operator believe, for the orders that it gives then: marks by Service, as shown and as found.
#[derive(Debug, Default)]
pub struct Lies(BTreeMap<String, (Mark, Mark)>);

impl Mutant {
    /// Lets an effect land.
    pub fn apply(self, cluster: &mut Cluster, effect: &Effect) -> Landed {
        match (self, effect) {
            (Mutant::PatchesBlindly, Effect::PatchService(patch)) => {
                let Some(service) = cluster.services.get(&patch.service) else { return Landed::Refused };
                let expect_mark = service.mark.clone();
                let expect_selector = service.selector.clone();
                let patch = ServicePatch { expect_mark, expect_selector, ..patch.clone() };
                cluster.apply(&Effect::PatchService(patch))
            }
            (Mutant::JobsMadeAgain, Effect::CreateJob(order)) => {
                let name = format!("{}-again", order.name);
                let exists = cluster.jobs.contains_key(&order.name) && !cluster.jobs.contains_key(&name);
                let order = if exists { JobOrder { name, ..order.clone() } } else { order.clone() };
                cluster.apply(&Effect::CreateJob(order))
            }
            (Mutant::NoTombstones, Effect::CreateJob(JobOrder { tombstone: true, .. })) => Landed::Same,
            (Mutant::LateOrdersObeyed, Effect::Order(_)) => {
                cluster.stores.forget_numbers();
                cluster.apply(effect)
            }
            _ => cluster.apply(effect),
        }
    }

    /// Changes what an operator sees.
    pub fn distort(self, status: &MigrationStatus, world: &mut World) -> Lies {
        let mut lies = Lies::default();
        let going_back = status.rollback.as_ref().is_some_and(|rollback| rollback.done.is_none());
        for traffic in &status.traffic {
            if let Some(Sight::Seen(view)) = world.services.get_mut(&traffic.service) {
                self.distort_service(status, traffic, going_back, view, &mut lies);
            }
        }
        let awaited =
            status.phases.iter().flat_map(|phase| [&phase.job, &phase.undo_job, &phase.cleanup_job]).flatten();
        for job in awaited.filter(|job| !job.settled) {
            let here = world.jobs.get(&job.name).cloned();
            let uid = job.uid.clone().unwrap_or_else(|| "made-up".to_owned());
            let shown = |state| JobView { uid: uid.clone(), ours: true, finalizer: true, state };
            let failed = || JobState::Failed { message: String::new(), terminal: false };
            let lie = match self {
                Mutant::NoTombstones if here.is_none() && going_back => Some(shown(JobState::Tombstone)),
                Mutant::CacheTakenForTruth if here.is_none() && job.uid.is_some() => Some(shown(failed())),
                Mutant::JobsNotStopped if going_back => here.map(|view| JobView { state: failed(), ..view }),
                _ => None,
            };
            if let Some(lie) = lie {
                world.jobs.insert(job.name.clone(), lie);
            }
        }
        if self == Mutant::CleanUpTakenForDone {
            for job in status.phases.iter().filter_map(|phase| phase.cleanup_job.as_ref()) {
                if let Some(view) = world.jobs.get_mut(&job.name).filter(|view| view.state == JobState::Active) {
                    view.state = JobState::Succeeded { message: String::new() };
                }
            }
        }
        for agent in world.agents.values_mut() {
            match self {
                Mutant::UnheardOrdersTrusted => agent.epoch = status.epoch,
                Mutant::CommitNotAwaited => {
                    let ordered = status.replication.as_ref().and_then(|known| known.ordered);
                    agent.term = ordered.max(agent.term);
                }
                Mutant::WritersNotAwaited if going_back => agent.serves = true,
                _ => {}
            }
        }
        if self == Mutant::AttemptsShareJobs && status.attempt > 1 {
            for phase in &status.phases {
                let name = |attempt| job_name(NAME, UID, "", &phase.name, JobRole::Do, attempt, 1);
                if let Some(first) = world.jobs.get(&name(1)).cloned() {
                    world.jobs.insert(name(2), first);
                }
            }
        }
        if self == Mutant::SilencePasses {
            for guard in &mut world.guards {
                guard.verdict = alongside::engine::guard::Verdict::Pass;
            }
        }
        lies
    }

    fn distort_service(
        self,
        status: &MigrationStatus,
        traffic: &TrafficStatus,
        going_back: bool,
        view: &mut ServiceView,
        lies: &mut Lies,
    ) {
        let mark = |role| Mark { uid: UID.to_owned(), attempt: status.attempt, epoch: traffic.epoch, role };
        let found = view.mark.clone();
        let is = |role| found.as_ref().is_some_and(|mark| mark.uid == UID && mark.role == role);
        match self {
            Mutant::NoFence
                if traffic.step == TrafficStep::BackIntended && view.points(traffic) == Points::At(Side::From) =>
            {
                view.mark = Some(mark(Role::Back));
            }
            Mutant::EvidenceIgnored if !going_back && is(Role::Back) => view.mark = None,
            Mutant::MarksKeptAtNoReturn if !going_back && traffic.step == TrafficStep::ReleaseIntended => {
                view.mark = Some(mark(Role::Released));
            }
            Mutant::AnyReleaseCounts if traffic.step == TrafficStep::ReleaseIntended && is(Role::Released) => {
                view.mark = Some(mark(Role::Released));
            }
            Mutant::NewerMarksTrusted => {
                let Some(found) = found.filter(|found| found.uid == UID && found.role != Role::Back) else { return };
                if (found.attempt, found.epoch) > (status.attempt, status.epoch) {
                    let shown = Mark { attempt: status.attempt, epoch: status.epoch, ..found.clone() };
                    view.mark = Some(shown.clone());
                    lies.0.insert(traffic.service.clone(), (shown, found));
                }
            }
            Mutant::OldSideNotAsked if going_back => view.from_serving = 3,
            Mutant::SentAgainBlindly if traffic.step == TrafficStep::FlipIntended => view.to_serving = 3,
            Mutant::WayBackNotWatched if !going_back => view.from_serving = 3,
            _ => {}
        }
    }

    /// Changes what an operator decided.
    pub fn meddle(self, sim: &Sim, status: &MigrationStatus, world: &World, lies: &Lies, decision: &mut Decision) {
        let going_back = decision.status.rollback.as_ref().is_some_and(|rollback| rollback.done.is_none());
        match self {
            Mutant::NoFence => decision.at_once.retain(|effect| match effect {
                Effect::PatchService(patch) => patch.expect_selector != patch.selector,
                _ => true,
            }),
            Mutant::MarksKeptAtNoReturn => decision.after.retain(|effect| match effect {
                Effect::PatchService(patch) => patch.mark.role != Role::Released || going_back,
                _ => true,
            }),
            Mutant::AnyReleaseCounts => decision.after.retain(|effect| match effect {
                Effect::PatchService(patch) => {
                    let given_up = patch.expect_mark.as_ref().is_some_and(|mark| mark.role == Role::Released);
                    patch.mark.role != Role::Released || !given_up
                }
                _ => true,
            }),
            Mutant::AtOnceWhileCrossing => {
                let back = |effect: &Effect| matches!(effect, Effect::PatchService(p) if p.mark.role == Role::Back);
                let (back, after): (Vec<_>, Vec<_>) = decision.after.drain(..).partition(back);
                decision.at_once.extend(back);
                decision.after = after;
            }
            Mutant::NewerMarksTrusted => {
                for effect in decision.at_once.iter_mut().chain(&mut decision.after) {
                    let Effect::PatchService(patch) = effect else { continue };
                    if let Some((shown, found)) = lies.0.get(&patch.service)
                        && patch.expect_mark.as_ref() == Some(shown)
                    {
                        patch.expect_mark = Some(found.clone());
                    }
                }
            }
            Mutant::ForeignWayBackFought => {
                for traffic in status.traffic.iter().filter(|traffic| has_flipped(traffic.step)) {
                    let Some(Sight::Seen(view)) = world.services.get(&traffic.service) else { continue };
                    let ours = view.mark.as_ref().is_some_and(|mark| mark.role == Role::Back);
                    if view.points(traffic) == Points::At(Side::From) && !ours {
                        decision.after.push(Effect::PatchService(ServicePatch {
                            service: traffic.service.clone(),
                            expect_mark: view.mark.clone(),
                            expect_selector: traffic.from.clone(),
                            selector: traffic.to.clone(),
                            mark: Mark {
                                uid: UID.to_owned(),
                                attempt: status.attempt,
                                epoch: traffic.epoch,
                                role: Role::Forward,
                            },
                        }));
                    }
                }
            }
            Mutant::SchemaBeforeTraffic if going_back => {
                let done = status.phases.iter().find(|phase| phase.state == PhaseState::Done && phase.job.is_some());
                if let Some(phase) = done {
                    let attempt = status.attempt;
                    decision.after.push(Effect::CreateJob(JobOrder {
                        name: job_name(NAME, UID, &sim.plan.hash, &phase.name, JobRole::Undo, attempt, 1),
                        phase: phase.name.clone(),
                        role: JobRole::Undo,
                        attempt,
                        tries: 1,
                        tombstone: false,
                        orphan: false,
                    }));
                }
            }
            _ => {}
        }
    }

    /// Whether a successor decides by what its predecessor saw of the Services.
    pub fn looks_at_old_services(self) -> bool {
        self == Mutant::OldLookOfANewLeader
    }

    /// Whether an unchanged status isn't written again before what follows from it is done.
    pub fn trusts_what_it_read(self) -> bool {
        self == Mutant::TrustsWhatItRead
    }

    /// Whether effects don't wait until their intent is in status.
    pub fn performs_before_it_is_written(self) -> bool {
        self == Mutant::EffectsBeforeIntent
    }
}

/// Whether the guards passed, for the ledger.
pub fn passes(mood: Mood) -> bool {
    match mood {
        Mood::Pass => true,
        Mood::Breach | Mood::Silent => false,
    }
}
