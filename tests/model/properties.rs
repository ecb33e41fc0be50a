//! The promises as properties of the model, and what it must be seen to reach.

use alongside::{
    api::{RollbackReason, State as Life, TrafficStep},
    engine::mark::Role,
};
use stateright::Property;

use crate::{promises::Promise, sim::Sim, state::State};

macro_rules! promised {
    ($($promise:ident),* $(,)?) => {
        vec![$(Property::<Sim>::always(Promise::$promise.name(), |sim, state| {
            sim.keeps(state, Promise::$promise)
        })),*]
    };
}

macro_rules! reached {
    ($($reached:ident),* $(,)?) => {
        vec![$(Property::<Sim>::sometimes(Reached::$reached.name(), |_, state| {
            Reached::$reached.is_reached(state)
        })),*]
    };
}

/// All promises, and all that a model may be asked to reach.
pub fn all() -> Vec<Property<Sim>> {
    let mut all = promised![
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
    ];
    all.extend(reached![
        Succeeded,
        SucceededInTheSecondAttempt,
        RolledBack,
        RolledBackByEvidence,
        RolledBackBySomeoneElse,
        LetGo,
        StayedBecauseTheOldSideWasGone,
        PassedThePointOfNoReturn,
        TookBackWhileCrossing,
        SawAThirdValue,
        MadeATombstone,
    ]);
    all
}

impl Sim {
    /// Whether a promise holds in a state.
    pub fn keeps(&self, state: &State, promise: Promise) -> bool {
        match promise {
            Promise::ThereIsAlwaysAWayOnOrAReason => self.goes_on_or_says_why(state),
            Promise::EveryRunCanComeToItsEnd => self.can_end(state),
            Promise::TrafficIsNeverMovedToASideThatDoesNotServe
            | Promise::NoPhaseIsDoneTwice
            | Promise::NoTwoJobsDoTheSameWorkAtATime
            | Promise::EachUndoHappensAtMostOnceAndInReverse
            | Promise::NothingIsUndoneWhileItIsStillBeingDone
            | Promise::NothingIsUndoneUnderTraffic
            | Promise::NoEffectWithoutRecordedIntent
            | Promise::AfterTheEndNothingMovesTraffic
            | Promise::NoWayBackLandsAfterThePointOfNoReturn
            | Promise::AThirdValueIsNeverOverwritten
            | Promise::SomeoneElsesWayBackIsNeverFought
            | Promise::EvidenceIsNeverOverlooked
            | Promise::OurOwnWayBackIsNotBlamedOnSomeoneElse
            | Promise::RolledBackMeansBack
            | Promise::SucceededMeansDone
            | Promise::NothingMovesForwardOnceTrafficIsBack
            | Promise::NothingBeginsOnceJobsAreStopped
            | Promise::NoJobIsStoppedThatIsWaitedFor
            | Promise::NoForwardStepWithoutPassingGuards
            | Promise::NoForwardStepWhileTheWayBackIsShut
            | Promise::NothingContractsBeforeItIsCleanedUp
            | Promise::TrafficFollowsTheWrites
            | Promise::StreamsGoOnlyOnceWritersAreServed
            | Promise::EpochsNeverGoBack => state.broken.holds(promise),
        }
    }

    /// A migration that hasn't ended does something, or waits for a reason that it states, and wakes again.
    fn goes_on_or_says_why(&self, state: &State) -> bool {
        let server = &state.server;
        let outcome = self.decide(server, &server.object, &server.services, &server.jobs);
        let ended = matches!(outcome.status.state, Life::Succeeded | Life::RolledBack);
        let gone = server.object.lifecycle != alongside::engine::world::Lifecycle::Alive && !server.object.finalizer;
        let acts = outcome.status != server.object.status || !outcome.at_once.is_empty() || !outcome.after.is_empty();
        ended || gone || (outcome.wakes && (acts || outcome.holds))
    }
}

/// What a model must be seen to reach, so that its promises aren't kept by doing nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reached {
    Succeeded,
    SucceededInTheSecondAttempt,
    RolledBack,
    RolledBackByEvidence,
    RolledBackBySomeoneElse,
    LetGo,
    StayedBecauseTheOldSideWasGone,
    PassedThePointOfNoReturn,
    TookBackWhileCrossing,
    SawAThirdValue,
    MadeATombstone,
}

impl Reached {
    pub fn name(self) -> &'static str {
        match self {
            Reached::Succeeded => "succeeded",
            Reached::SucceededInTheSecondAttempt => "succeeded_in_the_second_attempt",
            Reached::RolledBack => "rolled_back",
            Reached::RolledBackByEvidence => "rolled_back_by_evidence",
            Reached::RolledBackBySomeoneElse => "rolled_back_by_someone_else",
            Reached::LetGo => "let_go",
            Reached::StayedBecauseTheOldSideWasGone => "stayed_because_the_old_side_was_gone",
            Reached::PassedThePointOfNoReturn => "passed_the_point_of_no_return",
            Reached::TookBackWhileCrossing => "took_back_while_crossing",
            Reached::SawAThirdValue => "saw_a_third_value",
            Reached::MadeATombstone => "made_a_tombstone",
        }
    }

    /// Whether a state is such a one.
    pub fn is_reached(self, state: &State) -> bool {
        let server = &state.server;
        let status = &server.object.status;
        let held = |word: &str| status.hold.as_ref().is_some_and(|hold| hold.reason == word);
        let rolled_back = |reason| {
            status.state == Life::RolledBack && status.rollback.as_ref().is_some_and(|back| back.reason == reason)
        };
        match self {
            Reached::Succeeded => status.state == Life::Succeeded,
            Reached::SucceededInTheSecondAttempt => status.state == Life::Succeeded && status.attempt == 2,
            Reached::RolledBack => status.state == Life::RolledBack,
            Reached::RolledBackByEvidence => rolled_back(RollbackReason::Evidence),
            Reached::RolledBackBySomeoneElse => rolled_back(RollbackReason::ForeignWayBack),
            Reached::LetGo => status.rollback.as_ref().is_some_and(|back| back.keeps_traffic && back.done.is_some()),
            Reached::StayedBecauseTheOldSideWasGone => held("OldSideGone"),
            Reached::PassedThePointOfNoReturn => {
                status.phases.iter().any(|phase| phase.point_of_no_return && phase.job.is_some())
            }
            Reached::TookBackWhileCrossing => {
                let crossing = status.phases.iter().any(|phase| phase.point_of_no_return && phase.job.is_none());
                let back = status.traffic.iter().any(|traffic| traffic.step == TrafficStep::Back);
                crossing
                    && back
                    && server.services.values().all(|s| s.mark.as_ref().is_some_and(|mark| mark.role == Role::Back))
            }
            Reached::SawAThirdValue => held("ForeignSelector"),
            Reached::MadeATombstone => {
                server.jobs.values().any(|job| job.state == alongside::engine::world::JobState::Tombstone)
            }
        }
    }
}
