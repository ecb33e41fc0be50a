//! The API server goes away for a while. Nobody else can be on the stage meanwhile.

use alongside::api::{PhaseState, State, TrafficStep};

use crate::{
    home::Home,
    phases::{bake, contract, cut_over, guard, guarded, long, prepare},
    story::Story,
    tally::nothing_is_left,
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    let sentence = stringify!(an_api_server_that_restarts_in_mid_flight_costs_nothing_but_time);
    vec![Story::new(sentence, an_api_server_that_restarts_in_mid_flight_costs_nothing_but_time).alone()]
}

async fn an_api_server_that_restarts_in_mid_flight_costs_nothing_but_time(home: Home) {
    let app = home.app("web").await;
    let operator = home.leader("a").await;
    let _standby = home.operator("b");
    home.figure_is("trouble", 0.1).await;
    let phases = [prepare(&home), cut_over("web"), long(&home), bake("1s"), contract(&home)];
    let visitor = app.is_visited().await;
    operator.is_to_stop_at("PatchService.Before", 1);
    let migration = home.migrates("to-v2", guarded([guard(&home, "trouble")], phases)).await;
    operator.comes_to_a_stop().await;
    operator.is_to_stop_at("PatchService.Before", 2);
    migration.is("the flip is announced", |s| s.traffic.iter().any(|t| t.step == TrafficStep::FlipIntended)).await;
    operator.comes_to_a_stop().await;
    // Between intent and effect, and again while a Job runs.
    home.stage().restarts_the_api_server();
    operator.may_go_on();
    migration.has("long", PhaseState::Running).await;
    app.serves("v2").await;
    home.stage().restarts_the_api_server();
    home.opens("long");
    migration.comes_to(State::Succeeded).await;
    visitor.was_always_served().await;
    assert_eq!((home.times("prepare"), home.times("long"), home.times("contract")), (1, 1, 1));
    migration.has_let_go().await;
    nothing_is_left(&home, &app).await;
}
