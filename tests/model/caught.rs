//! Each mutant, and the promise that it breaks.

use crate::{
    explore::catch,
    mutants::Mutant,
    promises::Promise,
    runs::{
        bound, cleanup, deposed, from_nothing, jobs, letting_go, no_return, schema, sides, silence, strangers, undo,
    },
};

macro_rules! caught {
    ($($name:ident: $mutant:ident in $run:ident breaks $promise:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            catch($run(), Mutant::$mutant, Promise::$promise);
        })*
    };
}

caught! {
    without_intent_before_effect: EffectsBeforeIntent in from_nothing breaks NoEffectWithoutRecordedIntent,
    without_a_fresh_status: TrustsWhatItRead in undo breaks NoJobIsStoppedThatIsWaitedFor,
    without_compare_and_swap: PatchesBlindly in deposed breaks NothingMovesForwardOnceTrafficIsBack,
    without_compare_and_swap_a_third_value_is_lost: PatchesBlindly in strangers breaks AThirdValueIsNeverOverwritten,
    without_the_fence: NoFence in deposed breaks NothingMovesForwardOnceTrafficIsBack,
    without_evidence: EvidenceIgnored in deposed breaks OurOwnWayBackIsNotBlamedOnSomeoneElse,
    without_adopting_a_foreign_way_back: ForeignWayBackFought in strangers breaks SomeoneElsesWayBackIsNeverFought,
    without_tombstones: NoTombstones in jobs breaks NothingBeginsOnceJobsAreStopped,
    without_giving_up_marks: MarksKeptAtNoReturn in no_return breaks NoWayBackLandsAfterThePointOfNoReturn,
    without_announcing_while_crossing: AtOnceWhileCrossing in no_return breaks NoWayBackLandsAfterThePointOfNoReturn,
    without_numbers_on_releases: AnyReleaseCounts in letting_go breaks AfterTheEndNothingMovesTraffic,
    without_heeding_newer_marks: NewerMarksTrusted in no_return breaks NoWayBackLandsAfterThePointOfNoReturn,
    without_adopting_jobs: JobsMadeAgain in jobs breaks NoTwoJobsDoTheSameWorkAtATime,
    without_telling_an_old_cache_from_a_lost_job: CacheTakenForTruth in jobs breaks NoTwoJobsDoTheSameWorkAtATime,
    without_lane_2: JobsNotStopped in jobs breaks NothingIsUndoneWhileItIsStillBeingDone,
    without_an_attempts_own_jobs: AttemptsShareJobs in undo breaks SucceededMeansDone,
    without_lane_order: SchemaBeforeTraffic in schema breaks NothingIsUndoneUnderTraffic,
    without_an_uncached_look: OldLookOfANewLeader in sides breaks TrafficIsNeverMovedToASideThatDoesNotServe,
    without_asking_the_old_side: OldSideNotAsked in sides breaks TrafficIsNeverMovedToASideThatDoesNotServe,
    without_asking_the_new_side_again: SentAgainBlindly in sides breaks TrafficIsNeverMovedToASideThatDoesNotServe,
    without_guards_that_must_speak: SilencePasses in silence breaks NoForwardStepWithoutPassingGuards,
    without_waiting_for_the_clean_up: CleanUpTakenForDone in cleanup breaks NothingContractsBeforeItIsCleanedUp,
    without_watching_the_way_back: WayBackNotWatched in silence breaks NoForwardStepWhileTheWayBackIsShut,
    without_numbers_on_orders: LateOrdersObeyed in bound breaks StreamsGoOnlyOnceWritersAreServed,
    without_hearing_that_an_order_was_heard: UnheardOrdersTrusted in bound breaks StreamsGoOnlyOnceWritersAreServed,
    without_waiting_for_the_commit: CommitNotAwaited in bound breaks TrafficFollowsTheWrites,
    without_waiting_for_writers: WritersNotAwaited in bound breaks StreamsGoOnlyOnceWritersAreServed,
}
