//! What an API server and its controllers would hold of one Migration's objects, as a value that can be compared.
//!
//! Effects land here as they would on a real cluster: each is refused or has no effect under the same conditions.

use std::collections::{BTreeMap, BTreeSet};

use alongside::engine::{
    effect::{DrainOrder, DrainWay, Effect, JobOrder, JobRole, ServicePatch},
    mark::Mark,
    world::{DrainView, JobState, JobView, ServiceView, Side, Sight, World},
};

use crate::stores::{COPY, Stores};

pub type Labels = BTreeMap<String, String>;

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cluster {
    pub finalizer: bool,
    /// Hashes of the plans that are written down.
    pub revisions: BTreeSet<String>,
    pub services: BTreeMap<String, Service>,
    pub jobs: BTreeMap<String, Job>,
    /// What a phase that replicates works on.
    pub stores: Stores,
    pub drains: BTreeMap<String, DrainOrder>,
    /// Two connections are never let go.
    pub drains_stick: bool,
    /// Jobs made so far: each has a UID of its own.
    pub jobs_made: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    pub uid: String,
    pub selector: Labels,
    pub mark: Option<Mark>,
    /// What somebody has written in the mark's place.
    pub scribble: Option<String>,
    pub from: Labels,
    pub to: Labels,
    pub from_serving: u32,
    pub to_serving: u32,
    /// Whether the EndpointSlices have caught up with the selector.
    pub slices_follow: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    pub uid: String,
    pub ours: bool,
    pub finalizer: bool,
    pub state: JobState,
    pub phase: String,
    pub role: JobRole,
    pub attempt: u32,
    pub tries: u32,
    pub orphan: bool,
}

/// What became of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Landed {
    /// It changed something.
    Changed,
    /// It was so already.
    Same,
    /// The compare-and-swap did not hold, or there was nothing to act on.
    Refused,
}

impl Service {
    pub fn points_at(&self, side: Side) -> bool {
        let labels = match side {
            Side::From => &self.from,
            Side::To => &self.to,
        };
        labels.iter().all(|(key, value)| self.selector.get(key) == Some(value))
    }

    pub fn view(&self) -> ServiceView {
        let serving = |side| match side {
            Side::From => self.from_serving,
            Side::To => self.to_serving,
        };
        let confirmed = [Side::From, Side::To]
            .into_iter()
            .find(|&side| self.slices_follow && self.points_at(side) && serving(side) > 0);
        ServiceView {
            uid: self.uid.clone(),
            selector: self.selector.clone(),
            mark: self.mark.clone(),
            scribble: self.scribble.clone(),
            from_serving: self.from_serving,
            to_serving: self.to_serving,
            confirmed,
        }
    }
}

impl Job {
    pub fn view(&self) -> JobView {
        JobView { uid: self.uid.clone(), ours: self.ours, finalizer: self.finalizer, state: self.state.clone() }
    }
}

impl Cluster {
    /// Lets one effect land.
    pub fn apply(&mut self, effect: &Effect) -> Landed {
        match effect {
            Effect::FreezePlan { hash, .. } => changed(self.revisions.insert(hash.clone())),
            Effect::AddFinalizer => changed(!std::mem::replace(&mut self.finalizer, true)),
            Effect::RemoveFinalizer => {
                for job in self.jobs.values_mut() {
                    job.finalizer = false;
                }
                changed(std::mem::replace(&mut self.finalizer, false))
            }
            Effect::CreateJob(order) => self.create_job(order),
            Effect::SettleJob { name } => match self.jobs.get_mut(name) {
                Some(job) => changed(std::mem::replace(&mut job.finalizer, false)),
                None => Landed::Refused,
            },
            Effect::StopJob { name, uid } => match self.jobs.get_mut(name).filter(|job| job.uid == *uid) {
                Some(job) if job.state == JobState::Active => {
                    job.state = JobState::Failed { message: "stopped".to_owned(), terminal: false };
                    if self.stores.agent.as_deref() == Some(uid) {
                        self.stores.lose_agent();
                    }
                    Landed::Changed
                }
                Some(_) => Landed::Same,
                None => Landed::Refused,
            },
            Effect::PatchService(patch) => self.patch(patch),
            Effect::Order(order) => {
                let uid = self.jobs.get(&order.job).map(|job| job.uid.clone());
                if uid.is_some() && self.stores.agent == uid { self.stores.hear(order) } else { Landed::Refused }
            }
            Effect::Drain(order) => {
                let known = self.drains.insert(order.service.clone(), order.clone());
                changed(known.as_ref() != Some(order))
            }
        }
    }

    fn create_job(&mut self, order: &JobOrder) -> Landed {
        if let Some(known) = self.jobs.get(&order.name) {
            return if known.ours { Landed::Same } else { Landed::Refused };
        }
        self.jobs_made += 1;
        let job = Job {
            uid: format!("job-{}", self.jobs_made),
            ours: true,
            finalizer: true,
            state: if order.tombstone { JobState::Tombstone } else { JobState::Active },
            phase: order.phase.clone(),
            role: order.role,
            attempt: order.attempt,
            tries: order.tries,
            orphan: order.orphan,
        };
        self.jobs.insert(order.name.clone(), job);
        Landed::Changed
    }

    fn patch(&mut self, patch: &ServicePatch) -> Landed {
        let Some(service) = self.services.get_mut(&patch.service) else { return Landed::Refused };
        let as_expected = service.scribble.is_none()
            && service.mark == patch.expect_mark
            && patch.expect_selector.iter().all(|(key, value)| service.selector.get(key) == Some(value));
        if !as_expected {
            return Landed::Refused;
        }
        let before = service.clone();
        service.selector.extend(patch.selector.clone());
        service.mark = Some(patch.mark.clone());
        changed(*service != before)
    }

    /// One turn of the agent that a Job of the replicating phase runs. True if anything has changed.
    pub fn agent_acts(&mut self) -> bool {
        let works = |job: &&Job| job.phase == COPY && job.role == JobRole::Do && job.state == JobState::Active;
        let uid = self.jobs.values().find(works).map(|job| job.uid.clone());
        match uid {
            None => false,
            Some(uid) if self.stores.agent.as_ref() != Some(&uid) => {
                self.stores.begin(&uid);
                true
            }
            Some(_) => {
                let service = self.services.get(crate::fixture::STOCK);
                let leads_to = service
                    .and_then(|service| [Side::From, Side::To].into_iter().find(|side| service.points_at(*side)));
                self.stores.act(leads_to)
            }
        }
    }

    /// The Job's agent dies, and the Job with it.
    pub fn agent_dies(&mut self) {
        let uid = self.stores.agent.take();
        for job in self.jobs.values_mut().filter(|job| Some(&job.uid) == uid.as_ref()) {
            job.state = JobState::Failed { message: "OOMKilled".to_owned(), terminal: false };
        }
    }

    /// Puts what can be seen of the cluster into a world.
    pub fn show(&self, world: &mut World) {
        world.finalizer = self.finalizer;
        for name in [crate::fixture::STOCK, crate::fixture::ORDERS] {
            let sight = self.services.get(name).map_or(Sight::Absent, |service| Sight::Seen(service.view()));
            world.services.insert(name.to_owned(), sight);
        }
        world.jobs_seen = true;
        world.jobs = self.jobs.iter().map(|(name, job)| (name.clone(), job.view())).collect();
        let agents = self.jobs.iter().filter(|(_, job)| job.state == JobState::Active);
        world.agents = agents.filter_map(|(name, job)| Some((name.clone(), self.stores.view(&job.uid)?))).collect();
        world.drains = self.drains.iter().map(|(name, order)| (name.clone(), self.drained(order))).collect();
    }

    /// A drain by hook or restart is over as soon as it was asked for; one that waits has nothing to report.
    fn drained(&self, order: &DrainOrder) -> DrainView {
        let (finished, remaining) = match order.way {
            DrainWay::Hook(_) if self.drains_stick => (false, Some(2)),
            DrainWay::Hook(_) => (true, Some(0)),
            DrainWay::RestartPods => (!self.drains_stick, None),
            DrainWay::Wait(_) => (false, None),
        };
        DrainView { side: order.side, finished, remaining }
    }
}

fn changed(yes: bool) -> Landed {
    if yes { Landed::Changed } else { Landed::Same }
}
