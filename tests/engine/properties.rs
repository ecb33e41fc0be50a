//! What holds of every decision, over worlds that random walks lead to.

use alongside::{
    api::{MAX_MESSAGE, MAX_STATUS, MigrationStatus, State},
    engine::{
        effect::JobRole,
        guard::Silence,
        is_lane_1,
        world::{JobState, Lifecycle, Side, Sight},
    },
};
use proptest::prelude::*;

use crate::{
    cluster::Job,
    fixture::{Migrating, ORDERS, STOCK, database_move, migration},
    scene::{Scene, given},
    stores::COPY,
};

/// Something that happens between two reconciles.
#[derive(Clone, Debug)]
enum Turn {
    Reconcile,
    Hours(u64),
    Seconds(u64),
    JobsSucceed,
    JobsFail(bool),
    JobsAreTornAway,
    AgentActs,
    AgentDies,
    Breach,
    Silence,
    GuardsPass,
    OldSide(u32),
    NewSide(u32),
    SlicesFollow(bool),
    SomeoneSets(&'static str),
    SomeoneStrips,
    ServiceGone,
    Abort,
    AskForRollback,
    Pause,
    Unpause,
    Approve,
    Retry,
    Delete,
    NamespaceGoes,
    JobsRefused(bool),
    PlanChanges,
    FinalizerTornOff,
    BlindReconcile,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        20 => Just(Turn::Reconcile),
        2 => (1..4_u64).prop_map(Turn::Hours),
        4 => (1..200_u64).prop_map(Turn::Seconds),
        8 => Just(Turn::JobsSucceed),
        2 => any::<bool>().prop_map(Turn::JobsFail),
        1 => Just(Turn::JobsAreTornAway),
        8 => Just(Turn::AgentActs),
        1 => Just(Turn::AgentDies),
        1 => Just(Turn::Breach),
        1 => Just(Turn::Silence),
        4 => Just(Turn::GuardsPass),
        1 => (0..4_u32).prop_map(Turn::OldSide),
        1 => (0..4_u32).prop_map(Turn::NewSide),
        2 => any::<bool>().prop_map(Turn::SlicesFollow),
        1 => prop_oneof![Just("v1"), Just("v2"), Just("v7")].prop_map(Turn::SomeoneSets),
        1 => Just(Turn::SomeoneStrips),
        1 => Just(Turn::ServiceGone),
        1 => Just(Turn::Abort),
        1 => Just(Turn::AskForRollback),
        1 => Just(Turn::Pause),
        2 => Just(Turn::Unpause),
        4 => Just(Turn::Approve),
        2 => Just(Turn::Retry),
        1 => Just(Turn::Delete),
        1 => Just(Turn::NamespaceGoes),
        1 => any::<bool>().prop_map(Turn::JobsRefused),
        1 => Just(Turn::PlanChanges),
        1 => Just(Turn::FinalizerTornOff),
        1 => Just(Turn::BlindReconcile),
    ]
}

fn plan() -> impl Strategy<Value = Migrating> {
    prop_oneof![
        Just(migration().job("expand").switch("cut-over", &[STOCK]).bake("bake", 600)),
        Just(
            migration()
                .sql("expand")
                .switch("cut-over", &[STOCK, ORDERS])
                .bake("bake", 600)
                .sql("contract")
                .no_return()
        ),
        Just(migration().switch("cut-over", &[STOCK]).job("tidy").approved().observe("compare", 60).timeout(7200)),
        Just(
            migration()
                .backfill("backfill")
                .verify("prove")
                .switch("cut-over", &[STOCK])
                .bake("bake", 600)
                .job("contract")
                .no_return()
        ),
        Just(database_move()),
        Just(migration().job("expand").timeout(300).one_way_job("contract").change(|p| p.point_of_no_return = true)),
    ]
}

fn take(scene: &mut Scene, turn: &Turn) {
    let bound = scene.status.plan.is_some();
    match turn {
        Turn::Reconcile => {
            scene.reconcile();
        }
        Turn::Hours(hours) => {
            scene.pass_time(hours * 3600);
        }
        Turn::Seconds(seconds) => {
            scene.pass_time(*seconds);
        }
        Turn::JobsSucceed => end_jobs(scene, &JobState::Succeeded { message: "well".to_owned() }),
        Turn::JobsFail(terminal) => {
            end_jobs(scene, &JobState::Failed { message: "no".to_owned(), terminal: *terminal });
        }
        Turn::JobsAreTornAway => {
            scene.cluster.jobs.retain(|_, job| job.state != JobState::Active);
            scene.cluster.stores.lose_agent();
        }
        Turn::AgentActs => {
            scene.cluster.agent_acts();
        }
        Turn::AgentDies => scene.cluster.agent_dies(),
        Turn::Breach => {
            scene.breach();
        }
        Turn::Silence => {
            scene.silence(Silence::NoData);
        }
        Turn::GuardsPass => {
            scene.guards_pass();
        }
        Turn::OldSide(pods) => scene.cluster.services.values_mut().for_each(|service| service.from_serving = *pods),
        Turn::NewSide(pods) => scene.cluster.services.values_mut().for_each(|service| service.to_serving = *pods),
        Turn::SlicesFollow(follow) => {
            scene.cluster.services.values_mut().for_each(|service| service.slices_follow = *follow);
        }
        Turn::SomeoneSets(version) => {
            if scene.cluster.services.contains_key(STOCK) {
                scene.someone_sets(STOCK, version);
            }
        }
        Turn::SomeoneStrips => scene.cluster.services.values_mut().for_each(|service| service.mark = None),
        Turn::ServiceGone => {
            scene.cluster.services.remove(ORDERS);
        }
        Turn::Abort if bound => {
            scene.abort();
        }
        Turn::AskForRollback if bound => {
            scene.rollback();
        }
        Turn::Pause if bound => {
            scene.pause();
        }
        Turn::Unpause => scene.world.verbs.pause = None,
        Turn::Approve if bound => {
            let phase = scene.status.phase.clone().unwrap_or_default();
            scene.approve(&phase);
        }
        Turn::Retry if bound => {
            scene.retry();
        }
        Turn::Abort | Turn::AskForRollback | Turn::Pause | Turn::Approve | Turn::Retry => {}
        Turn::Delete => {
            scene.deleted();
        }
        Turn::NamespaceGoes => scene.world.lifecycle = Lifecycle::NamespaceTerminating,
        Turn::JobsRefused(refused) => scene.world.jobs_refused = refused.then(|| "quota".to_owned()),
        Turn::PlanChanges => {
            if scene.migration.plan().index_of("tidy-up").is_none() {
                scene.migration = scene.migration.clone().job("tidy-up");
            }
        }
        Turn::FinalizerTornOff => scene.cluster.finalizer = false,
        Turn::BlindReconcile => {
            let mut world = scene.seen();
            world.services.values_mut().for_each(|sight| *sight = Sight::Unseen);
            world.jobs_seen = false;
            world.jobs.clear();
            let decision = scene.decide_in(&world);
            scene.status = decision.status.clone();
            scene.perform(&decision);
        }
    }
}

fn end_jobs(scene: &mut Scene, state: &JobState) {
    let conducts = |job: &Job| job.phase == COPY && job.role == JobRole::Do;
    for job in scene.cluster.jobs.values_mut().filter(|job| job.state == JobState::Active && !conducts(job)) {
        job.state = state.clone();
        let leaves = job.phase == COPY && job.role != JobRole::Preflight;
        if leaves && matches!(state, JobState::Succeeded { .. }) {
            scene.cluster.stores.leave();
        }
    }
}

fn has_ended(scene: &Scene) -> bool {
    match scene.status.state {
        State::Succeeded | State::RolledBack => true,
        State::Pending | State::Preflight | State::Running | State::Waiting | State::RollingBack | State::Stalled => {
            false
        }
    }
}

/// Most decisions that an unchanged world can ask for, one after the other: each phase begins and ends.
const SOON: usize = 24;

/// What must hold of a decision wherever it is taken.
fn check(scene: &Scene) {
    let decision = scene.decide();
    // Deciding again on an unchanged world comes to rest, and then changes nothing and tells nobody anything.
    let mut status = scene.status.clone();
    let rest = (0..SOON).find_map(|_| {
        let again = scene.decide_on(&status);
        let rests = again.status == status;
        status = again.status.clone();
        rests.then_some(again)
    });
    let rest = rest.unwrap_or_else(|| panic!("it never comes to rest: {}", scene.why()));
    assert!(rest.notes.is_empty(), "it goes on telling {:?}", rest.notes);
    assert!(decision.at_once.iter().all(is_lane_1), "{:?} goes out before its intent", decision.at_once);
    assert!(decision.wake.is_some() || has_ended_in(&decision.status), "nothing ever wakes it: {}", scene.why());
    let waits = rest.at_once.is_empty() && rest.after.is_empty() && !has_ended_in(&rest.status);
    let leaves = scene.world.lifecycle != Lifecycle::Alive;
    assert!(!waits || leaves || rest.status.hold.is_some(), "it waits for no reason: {}", scene.why());
    let size = serde_json::to_vec(&decision.status).expect("plain data").len();
    assert!(size <= MAX_STATUS, "{size} bytes");
    assert!(decision.status.message.len() <= MAX_MESSAGE && !decision.status.message.is_empty());
    // What is read back from the API server leads to the same decision.
    let text = serde_json::to_string(&scene.status).expect("plain data");
    let read: MigrationStatus = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(read, scene.status);
}

fn has_ended_in(status: &MigrationStatus) -> bool {
    matches!(status.state, State::Succeeded | State::RolledBack)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn deciding_again_changes_nothing_and_every_decision_is_sound(
        plan in plan(),
        turns in prop::collection::vec(turn(), 1..160),
    ) {
        let mut scene = given(plan);
        for turn in &turns {
            take(&mut scene, turn);
            check(&scene);
        }
    }

    #[test]
    fn jobs_never_outnumber_their_tries(plan in plan(), turns in prop::collection::vec(turn(), 1..160)) {
        let mut scene = given(plan);
        for turn in turns.iter().filter(|turn| !matches!(turn, Turn::JobsAreTornAway)) {
            take(&mut scene, turn);
            for phase in &scene.status.phases {
                let made = |role| {
                    let of = |job: &&Job| job.phase == phase.name && job.role == role;
                    scene.cluster.jobs.values().filter(of).filter(|job| job.attempt == scene.status.attempt).count()
                };
                prop_assert!(made(JobRole::Do) <= phase.tries as usize, "{}", scene.why());
                prop_assert!(made(JobRole::Undo) <= phase.undo_tries as usize, "{}", scene.why());
                prop_assert!(made(JobRole::CleanUp) <= phase.cleanup_tries as usize, "{}", scene.why());
            }
        }
        prop_assert!(!has_ended(&scene) || scene.status.hold.is_none());
    }

    /// Whatever has happened to operator, agent, guards and Service: once all is well again, a database's move that is
    /// called off ends with traffic and writes on one side and nothing left in either store.
    #[test]
    fn traffic_and_writes_end_on_one_side_and_nothing_stays_behind(
        turns in prop::collection::vec(turn(), 1..200),
    ) {
        let mut scene = given(database_move());
        for turn in turns.iter().filter(|turn| mends(turn)) {
            take(&mut scene, turn);
        }
        take(&mut scene, &Turn::OldSide(3));
        take(&mut scene, &Turn::NewSide(3));
        take(&mut scene, &Turn::SlicesFollow(true));
        take(&mut scene, &Turn::JobsRefused(false));
        take(&mut scene, &Turn::Unpause);
        scene.guards_pass();
        if scene.status.plan.is_none() {
            return Ok(());
        }
        let started_over = scene.status.state == State::RolledBack && scene.world.verbs.retry.is_some();
        scene.world.verbs.retry = None;
        let past = |scene: &Scene| scene.status.replication.as_ref().is_some_and(|known| known.ended);
        if !past(&scene) && !started_over {
            scene.abort();
        }
        scene.run_to_end();
        let writes = scene.cluster.stores.clone();
        prop_assert!(!writes.joined && writes.agent.is_none(), "{writes:?} {}", scene.why());
        prop_assert!(scene.side(STOCK).is_some(), "{}", scene.why());
        if scene.status.state == State::RolledBack {
            prop_assert_eq!(scene.side(STOCK), Some(Side::From), "{}", scene.why());
        }
    }
}

/// Whether what a turn breaks can be mended without a person who knows what they do. A Job that is torn away in spite of its
/// finalizer, before anybody has seen it, leaves no word of what it did.
fn mends(turn: &Turn) -> bool {
    !matches!(
        turn,
        Turn::JobsAreTornAway
            | Turn::SomeoneStrips
            | Turn::SomeoneSets(_)
            | Turn::ServiceGone
            | Turn::Delete
            | Turn::NamespaceGoes
            | Turn::FinalizerTornOff
    )
}
