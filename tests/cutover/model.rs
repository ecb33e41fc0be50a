//! The course of a move under random schedules: two stores, two streams, clients that write wherever they like, agents that
//! die, freeze and come back, stores that crash, deadlines that pass. Nothing here touches a database; what the databases
//! do in the cases that matter, the other tests of this folder show.

mod sim;

use alongside::worker::agent::course::{Goal, Next, Plan, Side, Step, Wait, World, next};
use proptest::{
    prelude::*,
    test_runner::{TestError, TestRunner},
};

use self::sim::{Model, Mutant};

fn run(mutant: Mutant, schedule: &[u8]) -> Result<Model, String> {
    let mut model = Model::new(mutant);
    for choice in schedule {
        model.event(*choice);
        model.check()?;
    }
    model.settle()?;
    Ok(model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn whatever_the_schedule_each_acknowledged_write_is_once_on_either_side(
        schedule in proptest::collection::vec(any::<u8>(), 0..250),
    ) {
        if let Err(why) = run(Mutant::Sound, &schedule) {
            prop_assert!(false, "{why}");
        }
    }
}

#[test]
fn schedules_do_reach_moves_there_and_back() {
    let mut runner = TestRunner::deterministic();
    let mut moves = [0; 4];
    for _ in 0..500 {
        let tree = proptest::collection::vec(any::<u8>(), 250).new_tree(&mut runner).expect("it makes schedules");
        let schedule = proptest::strategy::ValueTree::current(&tree);
        let mut model = Model::new(Mutant::Sound);
        for choice in &schedule {
            model.event(*choice);
        }
        moves[usize::try_from(model.moves).expect("few").min(3)] += 1;
    }
    assert!(moves.iter().all(|count| *count > 20), "schedules by moves made: {moves:?}");
}

#[test]
fn the_model_misses_each_rule_that_is_left_out() {
    let mutants = [
        Mutant::SlotAlone,
        Mutant::CommitUnfenced,
        Mutant::NoCatchUp,
        Mutant::OpenEarly,
        Mutant::EnableFirst,
        Mutant::SequenceAlone,
        Mutant::TurnsBackOpened,
    ];
    for mutant in mutants {
        let config = ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = TestRunner::new(config);
        let schedules = proptest::collection::vec(any::<u8>(), 0..250);
        let found = runner.run(&schedules, |schedule| match run(mutant, &schedule) {
            Ok(_) => Ok(()),
            Err(why) => Err(TestCaseError::fail(why)),
        });
        assert!(matches!(found, Err(TestError::Fail(..))), "{mutant:?} goes unnoticed");
    }
}

#[test]
fn the_commit_point_is_the_only_arbiter() {
    // Whatever an agent remembers or forgets: from the same rows, a successor takes the same way.
    for term in 0..4_u32 {
        let serving = Side::serving(term);
        let mut model = Model::new(Mutant::Sound);
        for (side, open, of) in [(serving, true, term), (serving.other(), false, term)] {
            let store = model.stores.of_mut(side);
            (store.open, store.lets_in, store.term, store.guarded) = (open, open, of, true);
        }
        // The other side's commit of this term, and this side not opened yet.
        if term > 0 {
            model.stores.of_mut(serving).open = false;
            model.stores.of_mut(serving).lets_in = false;
            model.stores.of_mut(serving).term = term - 1;
        }
        let world = model.observe(&model.agent);
        let before = Step::Resume;
        for goal in [Goal::Stay, Goal::Move(term), Goal::Try(term + 1), Goal::Move(term + 1)] {
            let step = next(goal, Plan { way_back: true }, &World { leads_to: Some(serving), ..world });
            if term > 0 && goal == Goal::Move(term + 1) {
                // Nobody has written on the other side yet, so the move back needs no fence, and no Service.
                assert_eq!(step, Next::Do(Step::Open(term + 1)));
            } else if term > 0 {
                assert_eq!(step, Next::Do(Step::Open(term)), "{goal:?}");
                let elsewhere = World { leads_to: Some(serving.other()), ..world };
                let waits = next(goal, Plan { way_back: true }, &elsewhere);
                assert_eq!(waits, Next::Wait(Wait::Flip(serving)), "{goal:?}");
            } else if matches!(goal, Goal::Stay) {
                assert_eq!(step, Next::Do(before));
            }
        }
    }
}
