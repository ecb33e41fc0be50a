//! Rotated Secrets: our own sessions read the URI anew each time they connect, but a subscription keeps what it was made
//! with, in the server that applies. When a URI's file has changed, the subscriptions that read from that store are told.

use std::time::{Duration, Instant};

use super::{
    conductor::{Conductor, SILENCE},
    course::{Side, StreamState, World},
};
use crate::stores::postgres::replication;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(5);

impl Conductor {
    /// Tells subscriptions of credentials that have changed since they were told last. The first time, each is told: what
    /// happened while no agent was there isn't known. Never while clients wait.
    pub(super) async fn renew_credentials(&mut self, world: &World) {
        if self.held_since.is_some() || self.looked_at_credentials.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        self.looked_at_credentials = Some(Instant::now());
        for side in Side::ALL {
            let stream = side.feeds();
            let there = matches!(world.stream(stream), Some(StreamState::Ready | StreamState::Enabled));
            let Ok(fingerprint) = replication::fingerprint(self.source(side)).await else { continue };
            if !there || *self.credentials.of(side) == Some(fingerprint) {
                continue;
            }
            let Ok(target) = self.session(side.other()) else { continue };
            let telling = replication::reconnect(target, self.names(), stream, self.source(side));
            match tokio::time::timeout(SILENCE, telling).await {
                Ok(Ok(())) => *self.credentials.of_mut(side) = Some(fingerprint),
                Ok(Err(error)) => {
                    tracing::warn!(%error, side = side.as_str(), "the subscription keeps old credentials");
                }
                Err(_) => self.forget(side.other()),
            }
        }
    }
}
