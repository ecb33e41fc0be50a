//! Every hold, as people read it: state, message and the next command, in `holds.txt`.

use std::fmt::Write as _;

use alongside::{
    api::{BaselineStatus, TrafficStep},
    engine::{
        effect::JobRole,
        guard::{BaselineView, ObservationView, Silence, Verdict},
        mark::{Mark, Role},
        world::{JobState, Weight},
    },
};

use crate::{
    fixture::{
        ERRORS, STOCK, backfilled, database_move, expand_contract, finding, guard, job_switch_bake, migration,
        switch_bake,
    },
    scene::{Scene, given, passing},
};

fn failed(message: &str, terminal: bool) -> JobState {
    JobState::Failed { message: message.to_owned(), terminal }
}

fn baking() -> Scene {
    let mut scene = given(job_switch_bake());
    scene.run_to("bake").settle();
    scene
}

/// A scene for each hold, at that hold.
#[expect(clippy::too_many_lines, reason = "there is a scene for each hold")]
pub fn scenes() -> Vec<(&'static str, Scene)> {
    let mut all = Vec::new();
    let mut add = |word: &'static str, mut scene: Scene| {
        scene.run_to_hold(word);
        all.push((word, scene));
    };

    let mut scene = given(job_switch_bake());
    scene.world.preflight.asked = false;
    add("Preflight", scene);
    let mut scene = given(job_switch_bake());
    let headless = "Service stock is headless, and a selector moves nobody there; name one with a cluster IP";
    scene.world.preflight.findings = vec![
        finding("spec.phases[1].switch.service", headless, Weight::Refuse),
        finding("spec.guards[0]", "provider metrics does not exist", Weight::Refuse),
    ];
    add("PreflightRefused", scene);
    let mut scene = given(job_switch_bake());
    scene.world.preflight.findings =
        vec![finding("spec.phases[1].switch.to", "no pod carries version=v2 yet", Weight::Wait)];
    add("PreflightWaits", scene);
    add("StoringPlan", given(job_switch_bake()));
    let mut scene = baking();
    scene.cluster.revisions.clear();
    scene.migration = job_switch_bake().job("tidy");
    add("PlanLost", scene);
    let mut scene = baking();
    scene.world.plan_foreign = true;
    add("PlanForeign", scene);
    let mut scene = baking();
    scene.status.phases.pop();
    add("StatusForeign", scene);
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle();
    scene.migration.spec.phases[0].retries = Some(9);
    scene.job_succeeds("expand");
    add("BegunPhaseEdited", scene);
    let mut scene = given(expand_contract()).slow("contract");
    scene.run_to("bake").settle();
    let old = scene.status.clone();
    scene.run_until(|scene| scene.works("contract", JobRole::Do));
    scene.status = old;
    scene.breach();
    add("StatusBehind", scene);
    let mut scene = given(migration().job("expand")).slow("expand");
    scene.run_to("expand");
    scene.cluster.jobs.clear();
    scene.status.phases[0].job =
        scene.status.phases[0].job.take().map(|job| alongside::api::JobRef { uid: None, ..job });
    scene.world.jobs_refused = Some("exceeded quota: count/jobs.batch=10".to_owned());
    add("JobRefused", scene);
    let mut scene = given(migration().job("expand")).slow("expand");
    scene.run_until(|scene| scene.works("expand", JobRole::Do));
    let job = scene.status.phases[0].job.as_ref().expect("it has a Job").name.clone();
    scene.world.stuck.insert(job, "image registry.example/migrate:2 can't be pulled".to_owned());
    add("JobStuck", scene);
    add("AskingStore", given(migration().sql("expand")));
    let mut scene = given(migration().sql("expand"));
    scene.slow.push(("expand".to_owned(), JobRole::Preflight));
    scene.run_until(|scene| scene.works("expand", JobRole::Preflight));
    scene.job_ends("expand", JobRole::Preflight, failed("permission denied for table item", true));
    add("StoreRefused", scene);
    add("Claiming", given(switch_bake()));
    let mut scene = given(switch_bake());
    scene.service(STOCK).mark = Some(Mark { uid: "77aa".to_owned(), attempt: 1, epoch: 4, role: Role::Claimed });
    add("ClaimedByOther", scene);
    let mut scene = given(job_switch_bake());
    scene.run_to("expand").pause();
    add("Paused", scene);
    add("Until", given(job_switch_bake().until("expand")));
    add("Approval", given(migration().job("expand").job("widen").approved()));
    let mut scene = given(job_switch_bake());
    scene.run_to("expand");
    let since = scene.now;
    let silent = |over_budget| Verdict::Silent { why: Silence::Unavailable, since, over_budget };
    scene.guard_says(ERRORS, silent(true));
    add("PausedByGuard", scene);
    let mut scene = given(job_switch_bake());
    scene.run_to("expand").guard_says(ERRORS, silent(false));
    add("GuardSilent", scene);
    let mut scene = given(job_switch_bake());
    scene.breach();
    add("PausedByBreach", scene);
    let mut latency = guard("latency");
    latency.max_increase = Some(alongside::api::Percent(5.0));
    let mut scene = given(switch_bake().guard(latency.clone()));
    scene.world.guards.push(passing("latency"));
    add("TakingBaseline", scene);
    let mut scene = given(switch_bake().guard(latency));
    scene.world.guards.push(passing("latency"));
    let why = "its spread of 0.02 is more than the limit allows".to_owned();
    scene.world.baselines = vec![
        BaselineView::Taken(BaselineStatus { guard: ERRORS.to_owned(), ..BaselineStatus::default() }),
        BaselineView::Refused { guard: "latency".to_owned(), why },
    ];
    add("BaselineRefused", scene);
    let mut scene = given(switch_bake());
    scene.cluster.services.remove(STOCK);
    add("ServiceAbsent", scene);
    let mut scene = baking();
    scene.someone_sets(STOCK, "v7");
    add("ForeignSelector", scene);
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle();
    scene.service(STOCK).mark = None;
    scene.job_succeeds("expand");
    add("ForeignMark", scene);
    let mut scene = given(switch_bake());
    scene.service(STOCK).to_serving = 1;
    add("NewSideNotServing", scene);
    let mut scene = baking();
    scene.service(STOCK).from_serving = 0;
    scene.breach();
    add("OldSideGone", scene);
    add("MovingTraffic", given(switch_bake()));
    let mut scene = given(switch_bake());
    scene.world.denied.insert(STOCK.to_owned(), "selectors are changed on Sundays only".to_owned());
    add("WriteDenied", scene);
    let mut scene = given(switch_bake());
    scene.service(STOCK).slices_follow = false;
    add("ConfirmingTraffic", scene);
    add("Draining", given(switch_bake().drain_wait(20)));
    add("JobRunning", given(migration().job("expand").timeout(900)));
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle().abort();
    add("StoppingJob", scene);
    let mut scene = given(job_switch_bake()).slow("expand");
    scene.run_to("expand").settle().job_fails("expand", "connection refused");
    add("RetryLater", scene);
    let mut scene = given(migration().one_way_job("contract").no_return()).slow("contract");
    scene.run_to("contract").settle().job_ends("contract", JobRole::Do, failed("disk full", true));
    add("FailedForGood", scene);
    let mut scene = given(migration().observe("compare", 120));
    scene.world.observation = Some(ObservationView::Fails { value: 3.0 });
    add("Observing", scene);
    add("Baking", given(switch_bake()));
    let mut scene = baking();
    scene.service(STOCK).from_serving = 1;
    add("RollbackNotReady", scene);
    let mut scene = given(job_switch_bake()).slow_undo("expand");
    scene.run_to("bake").abort().run_until(|scene| scene.works("expand", JobRole::Undo));
    scene.job_ends("expand", JobRole::Undo, failed("view depends on column sku", true));
    add("UndoFailed", scene);
    let mut scene = given(job_switch_bake()).slow_undo("expand");
    scene.run_to("bake").abort();
    add("Undoing", scene);
    let mut scene = given(backfilled());
    scene.slow.push(("backfill".to_owned(), JobRole::CleanUp));
    scene.run_to_hold("Approval").approve("contract");
    add("CleaningUp", scene);
    let mut scene = given(backfilled());
    scene.slow.push(("backfill".to_owned(), JobRole::CleanUp));
    scene.run_to_hold("Approval").approve("contract").run_to_hold("CleaningUp");
    scene.job_ends("backfill", JobRole::CleanUp, failed("no right to drop the trigger", true));
    add("CleanUpFailed", scene);
    let mut scene = given(expand_contract()).slow("contract");
    scene.run_to("contract").settle().abort();
    add("NoWayBack", scene);
    let mut scene = given(database_move());
    scene.run_to("bake").settle();
    scene.cluster.agent_dies();
    add("AgentUnseen", scene);
    let mut scene = given(database_move());
    scene.run_to("bake").settle();
    scene.cluster.stores.lose_agent();
    scene.job_ends("copy", JobRole::Do, failed("the store is another server", true));
    add("AgentGivenUp", scene);
    add("MovingWrites", given(database_move()));
    add("Releasing", given(switch_bake()));
    all
}

#[test]
fn every_hold_reads_as_written_down() {
    let mut text = String::new();
    let mut entry = |word: &str, state: &str, message: &str, next: Option<&str>| {
        let _ = write!(text, "{word} ({state})\n  {message}\n");
        if let Some(next) = next {
            let _ = writeln!(text, "  $ {next}");
        }
    };
    for (word, scene) in scenes() {
        let status = &scene.status;
        entry(word, &format!("{:?}", status.state), &status.message, status.next.as_deref());
    }
    // These two can be seen in a decision only: the world that leads to them is no cluster's.
    let mut scene = baking();
    let mut blind = scene.seen();
    blind.services.clear();
    scene.breach();
    blind.guards.clone_from(&scene.world.guards);
    let status = scene.decide_in(&blind).status;
    entry("ServiceUnseen", &format!("{:?}", status.state), &status.message, status.next.as_deref());
    scene.status.format_version = 9;
    let decision = scene.decide();
    assert_eq!(decision.status, scene.status, "a newer operator's status is left alone");
    entry("NewerFormat", "as it was", &decision.notes[0].why, None);
    assert_eq!(text, include_str!("holds.txt"), "\n----- it reads now -----\n{text}");
}

#[test]
fn no_hold_is_left_out() {
    let source = include_str!("../../src/engine/hold.rs");
    let (_, words) = source.split_once("pub fn word(&self)").expect("holds have words");
    let (words, _) = words.split_once("\n    }\n").expect("the function ends");
    let words =
        words.lines().filter_map(|line| line.split_once("=> \"")).filter_map(|(_, rest)| rest.split('"').next());
    let told = include_str!("holds.txt");
    let mut seen = 0;
    for word in words {
        seen += 1;
        assert!(told.lines().any(|line| line.starts_with(&format!("{word} ("))), "{word} has no scene");
    }
    assert!(seen >= 40, "only {seen} words were found");
}

#[test]
fn a_mark_is_read_as_it_is_written_and_nothing_else_is_one() {
    let mark = Mark { uid: "0f00-ba12".to_owned(), attempt: 2, epoch: 17, role: Role::Back };
    assert_eq!(mark.to_string(), "0f00-ba12/2/17/back");
    assert_eq!("0f00-ba12/2/17/back".parse(), Ok(mark));
    for other in ["", "/1/1/back", "u/1/1", "u/1/1/back/x", "u/one/1/back", "u/1/-1/back", "u/1/1/Back"] {
        assert!(other.parse::<Mark>().is_err(), "{other:?} was taken for a mark");
    }
}

#[test]
fn the_steps_at_which_traffic_may_be_on_the_new_side_are_these() {
    use alongside::engine::{has_flipped, in_effect};
    let all = [
        (TrafficStep::Unclaimed, false, false),
        (TrafficStep::ClaimIntended, false, false),
        (TrafficStep::Claimed, false, false),
        (TrafficStep::FlipIntended, true, false),
        (TrafficStep::Flipped, true, true),
        (TrafficStep::Confirmed, true, true),
        (TrafficStep::Drained, true, true),
        (TrafficStep::BackIntended, false, false),
        (TrafficStep::Back, false, false),
        (TrafficStep::BackDrained, false, false),
        (TrafficStep::ReleaseIntended, false, false),
        (TrafficStep::Released, false, false),
    ];
    for (step, may_be, has) in all {
        assert_eq!((in_effect(step), has_flipped(step)), (may_be, has), "{step:?}");
    }
}
