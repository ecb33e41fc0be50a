//! Rest: what a Migration that waits for a person need not look at.

use alongside::{
    api::State,
    engine::{rests, world::Lifecycle},
};

use crate::{
    fixture::{ERRORS, Migrating, STOCK, guard, migration},
    scene::{Scene, given},
};

fn does_rest(scene: &Scene) -> bool {
    rests(&scene.status, scene.world.generation, scene.world.lifecycle, &scene.world.verbs)
}

fn asks_first() -> Migrating {
    migration().unguarded().approval("ask").job("expand").switch("cut-over", &[STOCK])
}

/// Comes to a wait from which nothing moves.
fn waiting(plan: Migrating, hold: &str) -> Scene {
    let mut scene = given(plan);
    scene.run_to_hold(hold).settle();
    assert_eq!((scene.hold(), scene.status.state), (Some(hold), State::Waiting), "{}", scene.why());
    scene
}

#[test]
fn whoever_waits_for_a_person_rests_and_would_decide_nothing_else() {
    let mut paused = given(migration().unguarded().job("expand").switch("cut-over", &[STOCK]));
    paused.run_to("expand").settle().pause().run_to_hold("Paused").settle();
    let scenes = [waiting(asks_first(), "Approval"), waiting(asks_first().until("ask"), "Approval"), paused];
    for scene in scenes {
        assert!(does_rest(&scene), "{}", scene.why());
        let decision = scene.decide();
        assert_eq!(decision.status, scene.status);
        assert!(decision.at_once.is_empty() && decision.after.is_empty(), "{decision:?}");
    }
}

#[test]
fn whatever_a_person_asks_for_ends_the_rest() {
    let mut approved = waiting(asks_first(), "Approval");
    approved.approve("ask");
    let mut aborted = waiting(asks_first(), "Approval");
    aborted.abort();
    let mut paused = waiting(asks_first(), "Approval");
    paused.pause();
    let mut deleted = waiting(asks_first(), "Approval");
    deleted.world.lifecycle = Lifecycle::Deleting;
    let mut edited = waiting(asks_first(), "Approval");
    edited.world.generation += 1;
    for scene in [approved, aborted, paused, deleted, edited] {
        assert!(!does_rest(&scene), "{}", scene.why());
    }
}

#[test]
fn nobody_rests_under_a_guard_or_with_traffic_on_the_new_side() {
    let guarded = waiting(asks_first().guard(guard(ERRORS)), "Approval");
    let moved = waiting(migration().unguarded().switch("cut-over", &[STOCK]).approval("ask"), "Approval");
    for scene in [guarded, moved] {
        assert!(!does_rest(&scene), "{}", scene.why());
    }
}
