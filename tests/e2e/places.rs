//! Places where a migration can be when something befalls it.

use alongside::api::PhaseState;
use serde_json::{Value, json};

use crate::{
    app::App,
    home::Home,
    journey::Journey,
    phases::{approval, bake, cut_over, figure_query, job, long, phases, prepare},
};

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing has been moved yet, and a Job works.
    AJobRuns,
    /// Traffic has moved, and open connections are awaited.
    ConnectionsDrain,
    /// Traffic has moved, and a person is awaited.
    AnApprovalIsAwaited,
    /// The same, and somebody has paused it.
    ItIsPaused,
    /// Traffic has moved, and `until` says to go no further.
    UntilHolds,
    /// Traffic has moved, and the old side is kept.
    ItBakes,
    /// Traffic has moved, a Job has failed, and its next try is awaited.
    ARetryIsAwaited,
    /// Traffic has moved, and a query's bound doesn't hold yet.
    AnObservationIsAwaited,
}

/// All places.
pub const ALL: [Place; 8] = [
    Place::AJobRuns,
    Place::ConnectionsDrain,
    Place::AnApprovalIsAwaited,
    Place::ItIsPaused,
    Place::UntilHolds,
    Place::ItBakes,
    Place::ARetryIsAwaited,
    Place::AnObservationIsAwaited,
];

impl Place {
    /// The place in the words of a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Place::AJobRuns => "while_a_job_runs",
            Place::ConnectionsDrain => "while_connections_drain",
            Place::AnApprovalIsAwaited => "while_an_approval_is_awaited",
            Place::ItIsPaused => "while_it_is_paused",
            Place::UntilHolds => "while_until_holds_it",
            Place::ItBakes => "while_it_bakes",
            Place::ARetryIsAwaited => "while_a_retry_is_awaited",
            Place::AnObservationIsAwaited => "while_an_observation_is_awaited",
        }
    }

    /// Whether traffic is on v2 there.
    pub fn has_moved(self) -> bool {
        self != Place::AJobRuns
    }

    fn spec(self, home: &Home) -> Value {
        let prepare = prepare(home);
        match self {
            Place::AJobRuns => phases([prepare, long(home), cut_over("web")]),
            Place::ConnectionsDrain => {
                // v1 never lets go, v2 does.
                let mut slow = cut_over("web");
                slow["switch"]["drain"] =
                    json!({ "hook": { "path": "/cgi-bin/hold-v1", "port": 8080 }, "deadline": "10m" });
                phases([prepare, slow])
            }
            Place::AnApprovalIsAwaited | Place::ItIsPaused => phases([prepare, cut_over("web"), approval()]),
            Place::UntilHolds => {
                let mut spec = phases([prepare, cut_over("web"), bake("1h")]);
                spec["until"] = json!("cut-over");
                spec
            }
            Place::ItBakes => phases([prepare, cut_over("web"), bake("1h")]),
            Place::ARetryIsAwaited => {
                let fails =
                    json!({ "name": "fails", "retries": 9, "job": { "template": job(home, "fails", "exit 1") } });
                phases([prepare, cut_over("web"), fails])
            }
            Place::AnObservationIsAwaited => {
                let observe = json!({ "query": figure_query(home, "backlog"), "max": 0, "for": "1s" });
                phases([prepare, cut_over("web"), json!({ "name": "backlog-is-empty", "observe": observe })])
            }
        }
    }

    /// Begins a migration and brings it here. An operator must lead.
    pub async fn is_reached(self, home: &Home, app: &App) -> Journey {
        if self == Place::AnObservationIsAwaited {
            home.figure_is("backlog", 7.0).await;
        }
        let migration = home.migrates("to-v2", self.spec(home)).await;
        match self {
            Place::AJobRuns => migration.has("long", PhaseState::Running).await,
            Place::ConnectionsDrain => migration.holds_for("Draining").await,
            Place::AnApprovalIsAwaited => migration.holds_for("Approval").await,
            Place::ItIsPaused => {
                migration.holds_for("Approval").await;
                migration.is_paused().await;
                migration.holds_for("Paused").await
            }
            Place::UntilHolds => migration.holds_for("Until").await,
            Place::ItBakes => migration.holds_for("Baking").await,
            Place::ARetryIsAwaited => migration.holds_for("RetryLater").await,
            Place::AnObservationIsAwaited => migration.holds_for("Observing").await,
        };
        app.serves(if self.has_moved() { "v2" } else { "v1" }).await;
        migration
    }
}
