//! What waits writes nothing.

use std::time::Duration;

use alongside::api::PhaseState;

use crate::{
    home::Home,
    phases::{approval, bake, cut_over, guard, guarded, phases, prepare},
    story::{Story, stories},
    support::wait::within,
};

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![a_migration_that_waits_causes_no_writes_however_often_it_is_looked_at]
}

async fn a_migration_that_waits_causes_no_writes_however_often_it_is_looked_at(home: Home) {
    let app = home.app("web").await;
    let operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let asks = home.migrates("asks", phases([prepare(&home), approval()])).await;
    asks.holds_for("Approval").await;
    let bakes = home.migrates("bakes", guarded([guard(&home, "trouble")], [cut_over("web"), bake("1h")])).await;
    bakes.holds_for("Baking").await;
    bakes.has("bake", PhaseState::Running).await;
    let before = (asks.object().await, bakes.object().await, app.service().await);
    let count = async |metric: &str| operator.metric(metric).await.expect("the operator has this metric");
    let writes = count("alongside_status_writes_total").await;

    // Something of no account happens to the pods, again and again, and each time it is looked at.
    for round in 1..=3 {
        let looks = count("alongside_reconcile_seconds_count").await;
        app.is_annotated("v1", &format!("round-{round}")).await;
        within(Duration::from_secs(30), "the operator looks", async || {
            match operator.metric("alongside_reconcile_seconds_count").await {
                Ok(now) if now > looks => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    assert_eq!((asks.object().await, bakes.object().await, app.service().await), before);
    let after = count("alongside_status_writes_total").await;
    assert!((after - writes).abs() < 0.5, "{writes} writes became {after}");
}
