//! Bound switches: traffic between two stores moves only together with the writes, and the agent that moves them is there
//! for as long as traffic may have to go back.

use alongside::{
    api::{PhaseState, RollbackReason, State, TrafficStep},
    engine::{
        effect::{AgentGoal, Effect, JobRole},
        guard::Silence,
        mark::Role,
        world::{JobState, Lifecycle, Side},
    },
};

use crate::{
    fixture::{STOCK, database_move},
    scene::{Scene, given},
    stores::COPY,
};

fn orders(scene: &Scene) -> Vec<AgentGoal> {
    let order = |effect: &Effect| match effect {
        Effect::Order(order) => Some(order.goal.clone()),
        _ => None,
    };
    let mut orders: Vec<_> = scene.effects.iter().filter_map(order).collect();
    // Each is given until it is heard.
    orders.dedup();
    orders
}

fn moved(scene: &Scene) -> (Option<Side>, Side) {
    (scene.side(STOCK), scene.cluster.stores.side())
}

/// The cut-over has been ordered and the agent has not done it yet.
fn cutting_over() -> Scene {
    let mut scene = given(database_move());
    scene.run_until(|scene| !orders(scene).is_empty());
    assert_eq!((moved(&scene), scene.cluster.stores.term), ((Some(Side::From), Side::From), 0));
    scene
}

/// The agent has committed the cut-over, and nobody has seen it.
fn committed() -> Scene {
    let mut scene = cutting_over();
    scene.cluster.agent_acts();
    assert_eq!(moved(&scene), (Some(Side::From), Side::To));
    scene
}

fn baking() -> Scene {
    let mut scene = given(database_move());
    scene.run_to("bake").settle();
    assert_eq!(moved(&scene), (Some(Side::To), Side::To));
    scene
}

fn is_taken_back(scene: &mut Scene) {
    scene.run_to_state(State::RolledBack);
    assert_eq!(moved(scene), (Some(Side::From), Side::From), "{}", scene.why());
    let stores = &scene.cluster.stores;
    assert!(!stores.joined && !stores.shut && stores.agent.is_none(), "{stores:?}");
}

#[test]
fn traffic_follows_the_writes_and_the_streams_go_at_the_point_of_no_return() {
    let mut scene = given(database_move());
    scene.run_to("cut-over");
    assert_eq!(scene.phase(COPY), PhaseState::Done, "in step is done");
    assert!(scene.works(COPY, JobRole::Do), "and its agent goes on");
    scene.run_to_hold("Approval");
    assert_eq!(orders(&scene), [AgentGoal::CutOver { term: 1 }]);
    assert!(scene.works(COPY, JobRole::Do) && scene.cluster.stores.joined, "the way back needs it");
    assert_eq!(moved(&scene), (Some(Side::To), Side::To));
    scene.approve("retire").run_to_state(State::Succeeded);
    assert_eq!(scene.side(STOCK), Some(Side::To));
    assert_eq!(scene.jobs_of(COPY, JobRole::CleanUp), 1);
    assert!(!scene.cluster.stores.joined && scene.cluster.stores.agent.is_none());
    assert_eq!(scene.status.phases[0].state, PhaseState::Done);
}

#[test]
fn the_service_is_not_touched_until_the_agent_has_committed() {
    let mut scene = given(database_move());
    scene.cluster.stores.frozen = false;
    scene.run_until(|scene| !orders(scene).is_empty());
    scene.cluster.stores.frozen = true;
    scene.pass_time(40).settle();
    assert_eq!((scene.traffic_step(STOCK), scene.side(STOCK)), (Some(TrafficStep::FlipIntended), Some(Side::From)));
    assert_eq!((scene.hold(), scene.status.state), (Some("MovingWrites"), State::Running), "{}", scene.why());
    scene.cluster.stores.frozen = false;
    scene.run_to("bake");
    assert_eq!(moved(&scene), (Some(Side::To), Side::To));
}

#[test]
fn a_silent_guard_leaves_the_writes_where_they_are_until_it_speaks() {
    let mut scene = cutting_over();
    scene.silence(Silence::NoData).settle();
    assert_eq!(orders(&scene).last(), Some(&AgentGoal::Stay));
    scene.cluster.agent_acts();
    assert_eq!(scene.cluster.stores.term, 0, "the order was taken back before it was obeyed");
    scene.guards_pass().run_to("bake");
    assert_eq!(orders(&scene).last(), Some(&AgentGoal::CutOver { term: 1 }));
    assert_eq!(moved(&scene), (Some(Side::To), Side::To));
}

#[test]
fn after_the_commit_the_service_follows_whatever_the_guards_say() {
    let mut scene = committed();
    scene.silence(Silence::Unavailable);
    scene.service(STOCK).to_serving = 0;
    scene.settle();
    assert_eq!(moved(&scene), (Some(Side::To), Side::To), "{}", scene.why());
}

#[test]
fn a_breach_before_the_commit_calls_the_order_off_and_waits_until_that_is_heard() {
    let mut scene = cutting_over();
    scene.breach().settle();
    assert_eq!(orders(&scene).last(), Some(&AgentGoal::Stay));
    assert_eq!(scene.role(STOCK), Some(Role::Back), "no late flip finds the mark that it expects");
    assert_eq!(scene.status.state, State::RollingBack, "the agent may not have heard it");
    assert_eq!(scene.jobs_of(COPY, JobRole::Undo), 0);
    is_taken_back(&mut scene);
    assert_eq!(scene.cluster.stores.term, 0);
}

#[test]
fn an_order_that_was_sent_and_is_not_heard_yet_is_called_off_all_the_same() {
    let mut scene = given(database_move());
    scene.run_until(|scene| scene.phase(COPY) == PhaseState::Done && scene.phase("cut-over") == PhaseState::Pending);
    // Recorded by a leader that freezes with its order on the way.
    let decision = (0..40).find_map(|_| {
        let decision = scene.decide();
        let announces = decision.status.traffic.iter().any(|traffic| traffic.step == TrafficStep::FlipIntended);
        if announces {
            return Some(decision);
        }
        scene.reconcile();
        None
    });
    let late = decision.expect("the cut-over is announced");
    scene.status = late.status.clone();
    scene.abort().settle();
    scene.cluster.agent_acts();
    scene.settle();
    for effect in &late.after {
        scene.cluster.apply(effect);
    }
    is_taken_back(&mut scene);
    assert_eq!(scene.cluster.stores.term, 0, "the late order had a lower number than the one that was heard");
}

#[test]
fn a_breach_between_the_commit_and_the_flip_takes_the_writes_back_and_never_moves_the_service() {
    let mut scene = committed();
    scene.breach();
    is_taken_back(&mut scene);
    assert_eq!(
        orders(&scene).last(),
        Some(&AgentGoal::Back {
            term: 2,
            deadline: Some(alongside::api::Span::secs(3)),
            on_timeout: alongside::api::OnFenceTimeout::PreferData,
        })
    );
    assert_eq!(scene.traffic(STOCK).flipped_at, None);
}

#[test]
fn a_breach_in_the_bake_orders_the_writes_back_at_once_and_then_moves_traffic() {
    let mut scene = baking();
    scene.breach();
    let decision = scene.decide();
    let [Effect::Order(order)] = &decision.at_once[..] else { panic!("{:?}", decision.at_once) };
    assert!(matches!(order.goal, AgentGoal::Back { term: 2, .. }), "{order:?}");
    scene.settle();
    assert_eq!(moved(&scene), (Some(Side::To), Side::To), "the writes are still on the new side");
    scene.cluster.agent_acts();
    let decision = scene.decide();
    assert!(matches!(&decision.at_once[..], [Effect::PatchService(_)]), "{:?}", decision.at_once);
    is_taken_back(&mut scene);
    assert_eq!(scene.jobs_of(COPY, JobRole::Undo), 1);
}

#[test]
fn the_streams_stay_until_clients_are_served_by_the_old_store() {
    let mut scene = baking();
    scene.breach().settle();
    scene.cluster.agent_acts();
    scene.cluster.stores.frozen = true;
    scene.settle();
    assert_eq!(scene.side(STOCK), Some(Side::From));
    scene.pass_time(120).settle();
    assert_eq!(scene.jobs_of(COPY, JobRole::Undo), 0, "the old store lets nobody write yet: {}", scene.why());
    assert!(scene.works(COPY, JobRole::Do));
    scene.cluster.stores.frozen = false;
    is_taken_back(&mut scene);
}

#[test]
fn an_agent_that_dies_is_followed_by_another_and_the_way_back_is_not_open_meanwhile() {
    let mut scene = baking();
    scene.cluster.agent_dies();
    scene.settle();
    assert_eq!(scene.condition("RollbackReady"), Some(("Unknown", "AgentUnseen")), "{}", scene.why());
    assert_eq!(scene.told("AgentEnded"), 1);
    scene.run_until(|scene| scene.cluster.stores.agent.is_some());
    scene.settle();
    assert_eq!(scene.condition("RollbackReady"), Some(("True", "Ready")), "{}", scene.why());
    assert_eq!((scene.phase(COPY), scene.status.phases[0].tries), (PhaseState::Done, 2));
    scene.breach();
    is_taken_back(&mut scene);
}

#[test]
fn an_agent_that_dies_with_the_fence_shut_is_followed_by_one_that_is_told_again() {
    let mut scene = cutting_over();
    scene.cluster.agent_dies();
    scene.run_to("bake");
    assert_eq!(moved(&scene), (Some(Side::To), Side::To));
    let told =
        |effect: &&Effect| matches!(effect, Effect::Order(order) if order.goal == AgentGoal::CutOver { term: 1 });
    assert!(scene.effects.iter().filter(told).count() >= 2, "the first agent can't have passed it on");
}

#[test]
fn a_breach_while_no_agent_is_there_waits_for_the_next_one() {
    let mut scene = baking();
    scene.cluster.agent_dies();
    scene.breach().settle();
    assert_eq!(moved(&scene), (Some(Side::To), Side::To));
    assert_eq!(scene.status.state, State::RollingBack, "{}", scene.why());
    is_taken_back(&mut scene);
}

#[test]
fn an_agent_that_gives_up_asks_for_a_person() {
    let mut scene = baking();
    let refused = JobState::Failed { message: "the store is another server".to_owned(), terminal: true };
    scene.cluster.stores.lose_agent();
    scene.job_ends(COPY, JobRole::Do, refused).settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("AgentGivenUp"), State::Stalled), "{}", scene.why());
    assert!(scene.status.message.contains("another server"), "{}", scene.status.message);
    scene.follow_advice("retry").run_to_hold("Baking");
    assert!(scene.cluster.stores.agent.is_some());
}

#[test]
fn a_way_back_that_only_the_agent_knows_of_is_gone_on_with() {
    let mut scene = baking();
    scene.breach();
    // Lane 1 has told the agent, and its record was lost; with traffic about to move the guards are green again.
    let lost = scene.decide();
    for effect in &lost.at_once {
        scene.cluster.apply(effect);
    }
    scene.guards_pass();
    scene.cluster.agent_acts();
    is_taken_back(&mut scene);
    assert_eq!(scene.status.rollback.as_ref().map(|rollback| rollback.reason), Some(RollbackReason::Evidence));
}

#[test]
fn traffic_that_someone_else_took_back_is_followed_by_the_writes() {
    let mut scene = baking();
    scene.someone_sets(STOCK, "v1");
    is_taken_back(&mut scene);
    assert_eq!(scene.status.rollback.as_ref().map(|rollback| rollback.reason), Some(RollbackReason::ForeignWayBack));
}

#[test]
fn writes_do_not_go_back_to_an_old_side_that_serves_nobody() {
    let mut scene = baking();
    scene.service(STOCK).from_serving = 0;
    scene.breach().settle();
    assert_eq!((scene.hold(), scene.status.state), (Some("OldSideGone"), State::Stalled), "{}", scene.why());
    assert_eq!(moved(&scene), (Some(Side::To), Side::To));
    scene.service(STOCK).from_serving = 1;
    is_taken_back(&mut scene);
}

#[test]
fn once_the_streams_are_being_taken_away_a_breach_asks_for_a_person() {
    let mut scene = given(database_move());
    scene.slow.push((COPY.to_owned(), JobRole::CleanUp));
    scene.run_to_hold("Approval").approve("retire").run_to_hold("CleaningUp");
    scene.breach().settle();
    assert_eq!((scene.hold(), moved(&scene)), (Some("NoWayBack"), (Some(Side::To), Side::To)), "{}", scene.why());
    scene.guards_pass();
    scene.slow.clear();
    scene.run_to_state(State::Succeeded);
}

#[test]
fn a_copy_that_fails_is_taken_back_without_touching_the_service() {
    let mut scene = given(database_move().change(|_| {}));
    scene.cluster.stores.frozen = true;
    scene.run_until(|scene| scene.works(COPY, JobRole::Do));
    let refused = JobState::Failed { message: "wal_level is replica".to_owned(), terminal: true };
    scene.job_ends(COPY, JobRole::Do, refused).run_to_state(State::RolledBack);
    assert_eq!((scene.jobs_of(COPY, JobRole::Undo), scene.side(STOCK)), (1, Some(Side::From)));
    assert!(orders(&scene).is_empty());
}

#[test]
fn deleted_in_the_bake_it_takes_the_writes_back_and_leaves_nothing() {
    let mut scene = baking();
    scene.deleted();
    is_taken_back(&mut scene);
}

#[test]
fn deleted_and_orphaned_it_leaves_traffic_and_writes_and_takes_the_streams_away() {
    let mut scene = given(database_move().orphan());
    scene.run_to("bake").settle().deleted().run_to_state(State::RolledBack);
    assert_eq!(moved(&scene).0, Some(Side::To));
    assert!(!scene.cluster.stores.joined && scene.cluster.stores.agent.is_none());
}

#[test]
fn in_a_namespace_that_goes_away_without_an_agent_it_lets_go() {
    let mut scene = baking();
    scene.cluster.agent_dies();
    scene.world.lifecycle = Lifecycle::NamespaceTerminating;
    scene.run_to_state(State::RolledBack);
    assert_eq!(scene.side(STOCK), Some(Side::To));
    assert!(!scene.cluster.finalizer);
}

#[test]
fn a_new_attempt_begins_with_stores_that_know_nothing_of_the_last() {
    let mut scene = baking();
    scene.breach();
    is_taken_back(&mut scene);
    scene.guards_pass().follow_advice("retry").run_until(|scene| scene.status.attempt == 2).run_to("bake");
    assert_eq!(moved(&scene), (Some(Side::To), Side::To));
}

#[test]
fn an_order_of_lane_1_whose_record_was_lost_is_followed_up() {
    let mut scene = cutting_over();
    scene.breach();
    let lost = scene.decide();
    scene.cluster.agent_acts();
    for effect in lost.at_once.iter().filter(|effect| matches!(effect, Effect::Order(_))) {
        scene.cluster.apply(effect);
    }
    scene.guards_pass();
    is_taken_back(&mut scene);
    assert_eq!(scene.status.rollback.as_ref().map(|rollback| rollback.reason), Some(RollbackReason::Evidence));
}
