//! Leaders that freeze, die and hand over.

use alongside::api::{State, TrafficStep};

use crate::{
    home::Home,
    phases::{approval, cut_over, phases},
    story::{Story, stories},
    tally::nothing_is_left,
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![a_frozen_leaders_late_flip_is_refused_once_its_successor_has_rolled_back]
}

async fn a_frozen_leaders_late_flip_is_refused_once_its_successor_has_rolled_back(home: Home) {
    let app = home.app("web").await;
    let frozen = home.leader("a").await;
    frozen.is_to_stop_at("PatchService.Before", 1);
    let migration = home.migrates("to-v2", phases([cut_over("web"), approval()])).await;
    // The first write to the Service claims it, the second one flips it.
    frozen.comes_to_a_stop().await;
    frozen.is_to_stop_at("PatchService.Before", 2);
    migration.is("the flip is announced", |s| s.traffic.iter().any(|t| t.step == TrafficStep::FlipIntended)).await;
    frozen.comes_to_a_stop().await;
    frozen.freezes();
    migration.is_aborted().await;
    let successor = home.leader("b").await;
    migration.comes_to(State::RolledBack).await;
    migration.has_let_go().await;
    let before = app.service().await;

    frozen.may_go_on();
    frozen.thaws();
    frozen.says("Service web has changed since it was looked at; nothing was written").await;
    frozen.stands_by().await;
    assert_eq!(app.service().await, before);
    app.serves("v1").await;
    nothing_is_left(&home, &app).await;
    drop(successor);
}
