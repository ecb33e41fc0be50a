//! The promises, one named function each. Those about a moment (a write that lands) are noted when it happens.

use alongside::{
    api::{MigrationStatus, PhaseState, RollbackReason, State as Life, TrafficStep},
    engine::{
        effect::{AgentGoal, Effect, JobRole},
        has_flipped,
        mark::Role,
        plan::{self, keeps_up},
        world::{JobState, Side},
    },
};

use crate::{
    cluster::Landed,
    kept::{Kept, hash_of},
    sim::Sim,
    state::{Ledger, Look, Order, State},
    stores::COPY,
};

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Promise {
    TrafficIsNeverMovedToASideThatDoesNotServe,
    NoPhaseIsDoneTwice,
    NoTwoJobsDoTheSameWorkAtATime,
    EachUndoHappensAtMostOnceAndInReverse,
    NothingIsUndoneWhileItIsStillBeingDone,
    NothingIsUndoneUnderTraffic,
    NoEffectWithoutRecordedIntent,
    AfterTheEndNothingMovesTraffic,
    NoWayBackLandsAfterThePointOfNoReturn,
    AThirdValueIsNeverOverwritten,
    SomeoneElsesWayBackIsNeverFought,
    EvidenceIsNeverOverlooked,
    OurOwnWayBackIsNotBlamedOnSomeoneElse,
    RolledBackMeansBack,
    SucceededMeansDone,
    EpochsNeverGoBack,
    NothingMovesForwardOnceTrafficIsBack,
    NothingBeginsOnceJobsAreStopped,
    NoJobIsStoppedThatIsWaitedFor,
    NoForwardStepWithoutPassingGuards,
    NoForwardStepWhileTheWayBackIsShut,
    NothingContractsBeforeItIsCleanedUp,
    TrafficFollowsTheWrites,
    StreamsGoOnlyOnceWritersAreServed,
    ThereIsAlwaysAWayOnOrAReason,
    EveryRunCanComeToItsEnd,
}

use Promise as P;

impl Promise {
    pub const ALL: [Promise; 26] = [
        P::TrafficIsNeverMovedToASideThatDoesNotServe,
        P::NoPhaseIsDoneTwice,
        P::NoTwoJobsDoTheSameWorkAtATime,
        P::EachUndoHappensAtMostOnceAndInReverse,
        P::NothingIsUndoneWhileItIsStillBeingDone,
        P::NothingIsUndoneUnderTraffic,
        P::NoEffectWithoutRecordedIntent,
        P::AfterTheEndNothingMovesTraffic,
        P::NoWayBackLandsAfterThePointOfNoReturn,
        P::AThirdValueIsNeverOverwritten,
        P::SomeoneElsesWayBackIsNeverFought,
        P::EvidenceIsNeverOverlooked,
        P::OurOwnWayBackIsNotBlamedOnSomeoneElse,
        P::RolledBackMeansBack,
        P::SucceededMeansDone,
        P::EpochsNeverGoBack,
        P::NothingMovesForwardOnceTrafficIsBack,
        P::NothingBeginsOnceJobsAreStopped,
        P::NoJobIsStoppedThatIsWaitedFor,
        P::NoForwardStepWithoutPassingGuards,
        P::NoForwardStepWhileTheWayBackIsShut,
        P::NothingContractsBeforeItIsCleanedUp,
        P::TrafficFollowsTheWrites,
        P::StreamsGoOnlyOnceWritersAreServed,
        P::ThereIsAlwaysAWayOnOrAReason,
        P::EveryRunCanComeToItsEnd,
    ];

    /// The promise as a sentence.
    pub fn name(self) -> &'static str {
        match self {
            P::TrafficIsNeverMovedToASideThatDoesNotServe => "traffic_is_never_moved_to_a_side_that_does_not_serve",
            P::NoPhaseIsDoneTwice => "no_phase_is_done_twice",
            P::NoTwoJobsDoTheSameWorkAtATime => "no_two_jobs_do_the_same_work_at_a_time",
            P::EachUndoHappensAtMostOnceAndInReverse => "each_undo_happens_at_most_once_and_in_reverse",
            P::NothingIsUndoneWhileItIsStillBeingDone => "nothing_is_undone_while_it_is_still_being_done",
            P::NothingIsUndoneUnderTraffic => "nothing_is_undone_under_traffic",
            P::NoEffectWithoutRecordedIntent => "no_effect_without_recorded_intent",
            P::AfterTheEndNothingMovesTraffic => "after_the_end_nothing_moves_traffic_by_our_hand",
            P::NoWayBackLandsAfterThePointOfNoReturn => "no_way_back_lands_after_the_point_of_no_return",
            P::AThirdValueIsNeverOverwritten => "a_third_value_is_never_overwritten",
            P::SomeoneElsesWayBackIsNeverFought => "someone_elses_way_back_is_never_fought",
            P::EvidenceIsNeverOverlooked => "evidence_is_never_overlooked",
            P::OurOwnWayBackIsNotBlamedOnSomeoneElse => "our_own_way_back_is_not_blamed_on_someone_else",
            P::RolledBackMeansBack => "rolled_back_means_back",
            P::SucceededMeansDone => "succeeded_means_done",
            P::EpochsNeverGoBack => "epochs_never_go_back",
            P::NothingMovesForwardOnceTrafficIsBack => "nothing_moves_forward_once_traffic_is_back",
            P::NothingBeginsOnceJobsAreStopped => "nothing_begins_once_jobs_are_stopped",
            P::NoJobIsStoppedThatIsWaitedFor => "no_job_is_stopped_that_is_waited_for",
            P::NoForwardStepWithoutPassingGuards => "no_forward_step_without_passing_guards",
            P::NoForwardStepWhileTheWayBackIsShut => "no_forward_step_while_the_way_back_is_shut",
            P::NothingContractsBeforeItIsCleanedUp => "nothing_contracts_before_it_is_cleaned_up",
            P::TrafficFollowsTheWrites => "traffic_follows_the_writes",
            P::StreamsGoOnlyOnceWritersAreServed => "streams_go_only_once_writers_are_served",
            P::ThereIsAlwaysAWayOnOrAReason => "there_is_always_a_way_on_or_a_reason",
            P::EveryRunCanComeToItsEnd => "every_run_can_come_to_its_end",
        }
    }
}

/// Which promises have been broken on the way here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Broken(pub u32);

impl Broken {
    pub fn note(&mut self, promise: Promise, broken: bool) {
        if broken {
            self.0 |= 1 << promise as u32;
        }
    }

    pub fn holds(self, promise: Promise) -> bool {
        self.0 & (1 << promise as u32) == 0
    }
}

impl State {
    /// Lets an effect land, and notes what it breaks.
    pub fn land(&mut self, sim: &Sim, order: &Order) -> Landed {
        let before = self.server.clone();
        let key = hash_of(&(&before, &order.effect));
        let (server, landed) = sim.landings.get(key, || {
            let mut server = before.clone();
            let mut cluster = server.cluster();
            let landed = sim.mutant.apply(&mut cluster, &order.effect);
            server.set_cluster(cluster);
            (server, landed)
        });
        self.server = server;
        if landed == Landed::Changed {
            self.look_at_landing(sim, &before, order);
        }
        sim.seen.landed(&order.effect, landed);
        landed
    }

    fn look_at_landing(&mut self, sim: &Sim, before: &crate::state::Server, order: &Order) {
        let status = &before.object.status;
        let mut ledger = (*self.ledger).clone();
        match &*order.effect {
            Effect::PatchService(patch) => {
                let was = &before.services[&patch.service];
                let is = &self.server.services[&patch.service];
                let moved_to =
                    [Side::From, Side::To].into_iter().find(|&side| is.points_at(side) && !was.points_at(side));
                let served = match moved_to {
                    Some(Side::From) => order.look.from_served,
                    Some(Side::To) => order.look.to_served,
                    None => true,
                };
                let broken = &mut self.broken;
                broken.note(P::TrafficIsNeverMovedToASideThatDoesNotServe, !served);
                let third = !was.points_at(Side::From) && !was.points_at(Side::To);
                broken.note(P::AThirdValueIsNeverOverwritten, third && was.selector != is.selector);
                let ended = matches!(status.state, Life::Succeeded | Life::RolledBack);
                let stale_attempt = patch.mark.attempt < status.attempt;
                broken.note(P::AfterTheEndNothingMovesTraffic, moved_to.is_some() && (ended || stale_attempt));
                let passed = no_return_is_passed(sim, before);
                let back = patch.mark.role == Role::Back && moved_to == Some(Side::From);
                broken.note(P::NoWayBackLandsAfterThePointOfNoReturn, back && passed);
                let forward = moved_to == Some(Side::To);
                broken.note(
                    P::SomeoneElsesWayBackIsNeverFought,
                    forward && ledger.taken_back_by_others.contains(&patch.service),
                );
                let announced = ledger.announced.contains(&hash_of(&patch.mark.epoch));
                broken.note(P::NoEffectWithoutRecordedIntent, patch.mark.role != Role::Back && !announced);
                let is_back = status.traffic.iter().any(|traffic| {
                    traffic.service == patch.service
                        && (traffic.back_at.is_some()
                            || (status.rollback.is_some() && traffic.step == TrafficStep::Released))
                });
                broken.note(P::NothingMovesForwardOnceTrafficIsBack, forward && is_back);
                let bound = sim.plan.phases().iter().any(|phase| {
                    phase.switch.as_ref().is_some_and(|switch| {
                        plan::is_bound(switch) && switch.service_names().contains(&patch.service.as_str())
                    })
                });
                // Writes that have moved are followed, whatever the guards say.
                broken.note(P::NoForwardStepWithoutPassingGuards, forward && !bound && !order.look.guards_passed);
                let apart = moved_to.is_some_and(|side| side != before.rest.stores.side());
                broken.note(P::TrafficFollowsTheWrites, bound && apart);
                ledger.went_back |= patch.mark.role == Role::Back;
                if forward {
                    ledger.moved.insert(patch.service.clone());
                }
            }
            Effect::CreateJob(job) => {
                let announced = ledger.announced.contains(&hash_of(&job.name));
                self.broken.note(P::NoEffectWithoutRecordedIntent, !announced);
                let undoes = job.role == JobRole::Undo && !job.tombstone;
                self.broken.note(P::NothingIsUndoneUnderTraffic, undoes && order.look.on_new_side);
                let works = job.role == JobRole::Do && !job.tombstone;
                // An agent that is followed by another takes no step.
                let conducts = job.phase == COPY && job.role == JobRole::Do;
                let steps = works && !conducts;
                self.broken.note(P::NoForwardStepWithoutPassingGuards, steps && !order.look.guards_passed);
                let stopped = status.rollback.as_ref().is_some_and(|rollback| rollback.jobs_stopped.is_some());
                // Writes can't come back without an agent.
                let begins = steps || (job.role == JobRole::CleanUp && !job.tombstone);
                self.broken
                    .note(P::NothingBeginsOnceJobsAreStopped, begins && (stopped || job.attempt < status.attempt));
                let contracts = works && sim.plan.phase(&job.phase).is_some_and(|phase| phase.point_of_no_return);
                let early = contracts && !is_cleaned_up(sim, &ledger, job.attempt);
                self.broken.note(P::NothingContractsBeforeItIsCleanedUp, early);
            }
            Effect::StopJob { name, .. } => {
                let jobs =
                    status.phases.iter().flat_map(|phase| [&phase.job, &phase.undo_job, &phase.cleanup_job]).flatten();
                let waited_for = jobs.filter(|job| !job.settled).any(|job| job.name == *name);
                let dismissed = status.replication.as_ref().is_some_and(|known| known.ended);
                let wanted = status.rollback.is_none() && waited_for && !dismissed && !sim.has_timeouts();
                self.broken.note(P::NoJobIsStoppedThatIsWaitedFor, wanted);
            }
            Effect::FreezePlan { .. }
            | Effect::AddFinalizer
            | Effect::RemoveFinalizer
            | Effect::SettleJob { .. }
            | Effect::Drain(_) => {}
            Effect::Order(order_given) => {
                let forward = matches!(order_given.goal, AgentGoal::CutOver { .. });
                self.broken.note(P::NoEffectWithoutRecordedIntent, forward && order_given.epoch > status.epoch);
                self.broken.note(P::NoForwardStepWithoutPassingGuards, forward && !order.look.guards_passed);
            }
        }
        self.ledger = Kept::new(ledger);
    }

    /// Notes what it breaks that the streams between two stores are taken away now.
    pub fn look_at_leaving(&mut self) {
        let stores = &self.server.rest.stores;
        let apart = self.server.services.values().any(|service| !service.points_at(stores.side()));
        self.broken.note(P::StreamsGoOnlyOnceWritersAreServed, stores.joined && (stores.shut || apart));
    }

    /// Notes what a status write that the API server has taken breaks, and what it announces.
    pub fn look_at_status(&mut self, sim: &Sim, was: &MigrationStatus, look: Look) {
        let status = self.server.object.status.clone();
        let mut ledger = (*self.ledger).clone();
        if status.attempt > was.attempt {
            ledger.went_back = false;
            ledger.moved.clear();
            ledger.taken_back_by_others.clear();
        }
        ledger.announced.extend(announced(&status));
        self.broken.note(P::EpochsNeverGoBack, status.epoch < was.epoch);
        let flipped = was.traffic.iter().any(|traffic| has_flipped(traffic.step));
        let baked = |status: &MigrationStatus| {
            status.phases.iter().any(|phase| phase.kind == "bake" && phase.state == PhaseState::Done)
        };
        let steps = status.begun > was.begun || (baked(&status) && !baked(was));
        let shut = flipped && !baked(was) && !look.from_served && status.rollback.is_none();
        self.broken.note(P::NoForwardStepWhileTheWayBackIsShut, steps && shut);
        let arrived = |life| status.state == life && was.state != life;
        if arrived(Life::Succeeded) {
            let done = sim.works().all(|(phase, _)| ledger.successes_of(status.attempt, phase, JobRole::Do) == 1);
            let moved = !sim.has_switch() || look.all_on_new_side || ledger.touched;
            let cleaned_up = is_cleaned_up(sim, &ledger, status.attempt);
            self.broken.note(P::SucceededMeansDone, !done || !moved || !cleaned_up);
            self.broken.note(P::EvidenceIsNeverOverlooked, ledger.went_back);
        }
        if arrived(Life::RolledBack) {
            let keeps = status.rollback.as_ref().is_some_and(|rollback| rollback.keeps_traffic);
            self.broken.note(P::RolledBackMeansBack, !keeps && look.moved_and_not_back);
            let undone = sim.works().all(|(phase, undo)| {
                let count = |role| ledger.successes_of(status.attempt, phase, role);
                !undo || count(JobRole::Do) == 0 || count(JobRole::Undo) == 1
            });
            self.broken.note(P::RolledBackMeansBack, !keeps && !undone);
        }
        let blamed = status.rollback.as_ref().is_some_and(|rollback| rollback.reason == RollbackReason::ForeignWayBack);
        self.broken.note(P::OurOwnWayBackIsNotBlamedOnSomeoneElse, blamed && !ledger.touched);
        self.ledger = Kept::new(ledger);
    }

    /// Notes what a Job breaks by succeeding.
    pub fn look_at_success(&mut self, sim: &Sim, attempt: u32, phase: usize, role: JobRole) {
        let mut ledger = (*self.ledger).clone();
        let before = ledger.successes_of(attempt, phase, role);
        match role {
            JobRole::Preflight => return,
            // Clearing away what is gone changes nothing.
            JobRole::CleanUp => {}
            JobRole::Do => self.broken.note(P::NoPhaseIsDoneTwice, before > 0),
            JobRole::Undo => {
                let later = sim.works().any(|(other, undo)| {
                    let count = |role| ledger.successes_of(attempt, other, role);
                    undo && other > phase && count(JobRole::Do) > 0 && count(JobRole::Undo) == 0
                });
                self.broken.note(P::EachUndoHappensAtMostOnceAndInReverse, before > 0 || later);
            }
        }
        ledger.add_success(attempt, phase, role);
        self.ledger = Kept::new(ledger);
    }

    /// What can be seen of a state alone.
    pub fn look_at_jobs(&mut self) {
        let active: Vec<_> = self.server.jobs.values().filter(|job| job.state == JobState::Active).collect();
        let pairs = || active.iter().enumerate().flat_map(|(at, one)| active[..at].iter().map(move |two| (*one, *two)));
        let same = pairs().any(|(one, two)| one.phase == two.phase && one.role == two.role);
        let both = pairs().any(|(one, two)| {
            one.phase == two.phase && one.role != two.role && [one.role, two.role].contains(&JobRole::Undo)
        });
        let preflight = |role| role == JobRole::Preflight;
        let only_questions = active.iter().all(|job| preflight(job.role));
        self.broken.note(P::NoTwoJobsDoTheSameWorkAtATime, same && !only_questions);
        self.broken.note(P::NothingIsUndoneWhileItIsStillBeingDone, both);
    }
}

/// Whether the work of the point of no return has been made.
fn no_return_is_passed(sim: &Sim, server: &crate::state::Server) -> bool {
    let Some(index) = sim.plan.point_of_no_return() else { return false };
    let name = &sim.plan.phases()[index].name;
    let attempt = server.object.status.attempt;
    server.jobs.values().any(|job| {
        job.phase == *name && job.role == JobRole::Do && job.attempt == attempt && job.state != JobState::Tombstone
    })
}

/// Whether everything that phases keep up for the way back has been cleared away.
fn is_cleaned_up(sim: &Sim, ledger: &Ledger, attempt: u32) -> bool {
    let mut kept_up = sim.plan.phases().iter().enumerate().filter(|(_, phase)| keeps_up(phase));
    kept_up.all(|(phase, _)| ledger.successes_of(attempt, phase, JobRole::CleanUp) > 0)
}

/// What a status announces: names of Jobs and numbers of writes to Services.
pub fn announced(status: &MigrationStatus) -> Vec<u64> {
    let writes = status.traffic.iter().filter(|traffic| traffic.step != TrafficStep::Unclaimed);
    status.jobs().map(|job| hash_of(&job.name)).chain(writes.map(|traffic| hash_of(&traffic.epoch))).collect()
}

impl Ledger {
    fn place(attempt: u32, phase: usize, role: JobRole) -> u32 {
        let role = match role {
            JobRole::Preflight | JobRole::Do => 0,
            JobRole::Undo => 1,
            JobRole::CleanUp => 2,
        };
        let phase = u32::try_from(phase).expect("a plan of the model has at most four phases");
        assert!(attempt <= 2 && phase < 4, "two attempts of four phases are counted");
        ((attempt.saturating_sub(1) * 4 + phase) * 4 + role) * 2
    }

    /// How often a Job has succeeded; three stands for more.
    pub fn successes_of(&self, attempt: u32, phase: usize, role: JobRole) -> u32 {
        u32::try_from((self.successes >> Self::place(attempt, phase, role)) & 3).expect("two bits")
    }

    fn add_success(&mut self, attempt: u32, phase: usize, role: JobRole) {
        if self.successes_of(attempt, phase, role) < 3 {
            self.successes += 1 << Self::place(attempt, phase, role);
        }
    }
}
