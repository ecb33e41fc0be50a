//! Leader election by a Lease.
//!
//! The rules are client-go's: a candidate takes a lease over only after it has itself watched it stand still for its
//! whole duration, on its own monotonic clock, so that clocks which disagree can't make two leaders. A leader that has
//! not renewed for [`RENEW_DEADLINE`] stops by itself, before anybody may follow. That alone does not fence effects of
//! a frozen leader: every one of those is a compare-and-swap (design section 4).

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a lease that stands still is respected. With [`RETRY`] it bounds the time without a leader: at most 5 s
/// after the last renewal plus one retry, inside the 8 s of design section 11.
pub const LEASE_DURATION: Duration = Duration::from_secs(5);
/// How long a leader goes on without a renewal. Less than the duration by more than a renewal's own time-out.
pub const RENEW_DEADLINE: Duration = Duration::from_millis(3500);
/// How often the lease is renewed or looked at.
pub const RETRY: Duration = Duration::from_secs(1);
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1500);

/// What this replica is at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Someone else leads.
    Standby,
    /// This one leads, in its nth term.
    Leader {
        /// Counts the times that this process became leader.
        term: u64,
        /// Effects are allowed until then unless it is renewed.
        until: Instant,
    },
}

/// A handle to ask who leads.
#[derive(Clone)]
pub struct Leadership {
    standing: watch::Receiver<Standing>,
}

impl Leadership {
    /// The term, if this replica leads right now by its own clock.
    pub fn term(&self) -> Option<u64> {
        match *self.standing.borrow() {
            Standing::Leader { term, until } if Instant::now() < until => Some(term),
            Standing::Leader { .. } | Standing::Standby => None,
        }
    }

    /// A receiver that changes whenever this replica's standing does.
    pub fn changes(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

/// Runs the election until `stop`; gives the lease up then, so that a standby follows within a second.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    standing: watch::Sender<Standing>,
    observed: Option<Observed>,
    term: u64,
}

/// The lease as it was last seen to change.
struct Observed {
    holder: String,
    version: String,
    at: Instant,
}

impl Election {
    /// Prepares an election.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> (Self, Leadership) {
        let (standing, receiver) = watch::channel(Standing::Standby);
        let election = Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            standing,
            observed: None,
            term: 0,
        };
        (election, Leadership { standing: receiver })
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(RETRY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = tick.tick() => {}
            }
            let asked = Instant::now();
            match tokio::time::timeout(REQUEST_TIMEOUT, self.try_once()).await {
                Ok(Ok(true)) => self.leads_since(asked),
                Ok(Ok(false)) => self.stands_by(),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the leader's lease could not be read or written");
                    self.stop_if_overdue();
                }
                Err(_) => {
                    tracing::warn!("the leader's lease was not answered in time");
                    self.stop_if_overdue();
                }
            }
        }
        self.give_up().await;
    }

    fn leads_since(&mut self, asked: Instant) {
        let until = asked + RENEW_DEADLINE;
        // 1. A leader freezes; 2. its successor leads and hands over; 3. the first one thaws and takes the lease, which
        // is empty. It hasn't led all along, and what it knows is as old as its term.
        let leads = matches!(*self.standing.borrow(), Standing::Leader { until, .. } if Instant::now() < until);
        if !leads {
            self.term += 1;
            tracing::info!(term = self.term, "leads from now on");
        }
        let term = self.term;
        // Renewals in time wake nobody. One that comes late does: whoever was reconciled meanwhile was told that nobody
        // leads, and waits for the word.
        self.standing.send_if_modified(|standing| {
            let led_all_along = match *standing {
                Standing::Leader { until, .. } => Instant::now() < until,
                Standing::Standby => false,
            };
            *standing = Standing::Leader { term, until };
            !led_all_along
        });
    }

    fn stands_by(&mut self) {
        self.standing.send_if_modified(|standing| {
            let changed = *standing != Standing::Standby;
            *standing = Standing::Standby;
            changed
        });
    }

    fn stop_if_overdue(&mut self) {
        let overdue = matches!(*self.standing.borrow(), Standing::Leader { until, .. } if Instant::now() >= until);
        if overdue {
            tracing::warn!("stops leading: the lease could not be renewed in time");
            self.stands_by();
        }
    }

    /// Renews or takes the lease. True if it is ours now.
    async fn try_once(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return self.create().await;
        };
        let version = lease.resource_version().unwrap_or_default();
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        if holder != self.identity && !holder.is_empty() {
            let observed = self.observed.as_ref().filter(|o| o.version == version && o.holder == holder);
            match observed {
                None => {
                    self.observed = Some(Observed { holder, version, at: Instant::now() });
                    return Ok(false);
                }
                Some(observed) if observed.at.elapsed() < LEASE_DURATION => return Ok(false),
                Some(_) => {}
            }
        }
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        let now = MicroTime(jiff::Timestamp::now());
        if holder != self.identity {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.renew_time = Some(now);
        spec.lease_duration_seconds = Some(i32::try_from(LEASE_DURATION.as_secs()).unwrap_or(i32::MAX));
        match self.api.replace(&self.name, &PostParams::default(), &lease).await {
            Ok(_) => Ok(true),
            // Somebody was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create(&self) -> Result<bool, kube::Error> {
        let now = MicroTime(jiff::Timestamp::now());
        let lease = Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_duration_seconds: Some(i32::try_from(LEASE_DURATION.as_secs()).unwrap_or(i32::MAX)),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        };
        match self.api.create(&PostParams::default(), &lease).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Empties the lease, so that a standby need not wait for it to run out.
    async fn give_up(&mut self) {
        let leads = matches!(*self.standing.borrow(), Standing::Leader { .. });
        self.stands_by();
        if !leads {
            return;
        }
        let release = async {
            let mut lease = self.api.get(&self.name).await?;
            if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
            {
                spec.holder_identity = None;
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, release).await {
            Ok(Ok(())) => tracing::info!("gave the lease up"),
            Ok(Err(error)) => tracing::warn!(%error, "could not give the lease up"),
            Err(_) => tracing::warn!("could not give the lease up in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leader_that_was_frozen_past_its_deadline_begins_a_new_term() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let config = kube::Config::new("http://127.0.0.1:1".parse().expect("a URL"));
        let client = Client::try_from(config).expect("a client");
        let (mut election, leadership) = Election::new(client, "home", "lease", "a");
        election.leads_since(Instant::now());
        election.leads_since(Instant::now());
        assert_eq!(leadership.term(), Some(1), "a renewal in time goes on with the term");
        election.standing.send_replace(Standing::Leader { term: 1, until: Instant::now() });
        election.leads_since(Instant::now());
        assert_eq!(leadership.term(), Some(2));
    }
}
