//! A scene: one operator, its cluster and a clock that moves when nothing else does.

use std::collections::BTreeMap;

use alongside::{
    api::{MigrationStatus, OnBreach, PhaseState, Span, State, Time, TrafficStatus, TrafficStep},
    engine::{
        Decision, Note, Plan, Plans, decide,
        effect::{Effect, JobRole},
        guard::{GuardView, ObservationView, Silence, Verdict},
        mark::{Mark, Role},
        verb,
        world::{Finding, JobState, Lifecycle, Preflight, Side, World},
    },
};

use crate::{
    cluster::{Cluster, Service, labels},
    fixture::{ERRORS, Migrating, NAME, NAMESPACE, ORDERS, STOCK, UID},
    stores::COPY,
};

/// Most decisions of one run.
const MANY: usize = 400;

pub struct Scene {
    pub migration: Migrating,
    pub status: MigrationStatus,
    pub cluster: Cluster,
    /// What is seen besides the cluster's own objects.
    pub world: World,
    pub now: Time,
    pub candidate_fails: Option<Vec<Finding>>,
    /// These Jobs go on until the test says otherwise.
    pub slow: Vec<(String, JobRole)>,
    pub effects: Vec<Effect>,
    pub notes: Vec<Note>,
    pub last: Option<Decision>,
    plans: BTreeMap<String, Plan>,
}

pub fn passing(name: &str) -> GuardView {
    GuardView {
        name: name.to_owned(),
        on_breach: OnBreach::Rollback,
        dry_run: false,
        verdict: Verdict::Pass,
        value: Some(0.002),
        limit: "max 0.01".to_owned(),
        upper: Some(0.01),
        lower: None,
        sample_at: None,
    }
}

pub fn given(migration: Migrating) -> Scene {
    let start = Time(1_764_000_000_000);
    let service = |uid: &str| Service {
        uid: uid.to_owned(),
        selector: labels(&[("app", "warehouse"), ("version", "v1")]),
        mark: None,
        scribble: None,
        from: labels(&[("version", "v1")]),
        to: labels(&[("version", "v2")]),
        from_serving: 3,
        to_serving: 3,
        slices_follow: true,
    };
    let cluster = Cluster {
        services: [(STOCK.to_owned(), service("svc-1")), (ORDERS.to_owned(), service("svc-2"))].into(),
        ..Cluster::default()
    };
    let world = World {
        uid: UID.to_owned(),
        name: NAME.to_owned(),
        namespace: NAMESPACE.to_owned(),
        generation: 1,
        preflight: Preflight { asked: true, findings: vec![] },
        guards: migration.guards().map(passing).collect(),
        guarded_since: Some(start),
        observation: Some(ObservationView::HoldsSince(start)),
        ..World::default()
    };
    Scene {
        migration,
        status: MigrationStatus::default(),
        cluster,
        world,
        now: start,
        candidate_fails: None,
        slow: vec![],
        effects: vec![],
        notes: vec![],
        last: None,
        plans: BTreeMap::new(),
    }
}

impl Scene {
    pub fn seen(&self) -> World {
        let mut world = self.world.clone();
        self.cluster.show(&mut world);
        world.until.clone_from(&self.migration.spec.until);
        world.deletion_policy = self.migration.spec.deletion_policy;
        world.plan_stored = self.status.plan.as_ref().is_some_and(|plan| self.cluster.revisions.contains(&plan.hash));
        world
    }

    /// Decides and does nothing.
    pub fn decide(&self) -> Decision {
        self.decide_on(&self.status)
    }

    pub fn decide_on(&self, status: &MigrationStatus) -> Decision {
        self.decide_from(status, &self.seen())
    }

    pub fn decide_in(&self, world: &World) -> Decision {
        self.decide_from(&self.status, world)
    }

    fn decide_from(&self, status: &MigrationStatus, world: &World) -> Decision {
        let candidate = self.migration.plan();
        let frozen = status
            .plan
            .as_ref()
            .filter(|plan| self.cluster.revisions.contains(&plan.hash))
            .and_then(|plan| self.plans.get(&plan.hash).or(Some(&candidate).filter(|c| c.hash == plan.hash)));
        let candidate = match &self.candidate_fails {
            Some(findings) => Err(findings.as_slice()),
            None => Ok(&candidate),
        };
        let world = World { plan_stored: frozen.is_some(), ..world.clone() };
        decide(&Plans { frozen, candidate }, status, &world, self.now)
    }

    /// One reconcile: decides, writes status, performs. True if anything has changed.
    pub fn reconcile(&mut self) -> bool {
        let decision = self.decide();
        let changed = decision.status != self.status;
        self.status = decision.status.clone();
        let landed = self.perform(&decision);
        self.notes.extend(decision.notes.clone());
        self.last = Some(decision);
        changed || landed
    }

    pub fn perform(&mut self, decision: &Decision) -> bool {
        let mut changed = false;
        for effect in decision.at_once.iter().chain(&decision.after) {
            if let Effect::FreezePlan { hash, .. } = effect {
                self.plans.insert(hash.clone(), self.migration.plan());
            }
            changed |= self.cluster.apply(effect) == crate::cluster::Landed::Changed;
            self.traffic_is_with_the_writes(effect);
            self.effects.push(effect.clone());
        }
        changed
    }

    /// A write to the Service of two stores has followed the writes to them.
    fn traffic_is_with_the_writes(&self, effect: &Effect) {
        let Effect::PatchService(patch) = effect else { return };
        let Some(service) = self.cluster.services.get(&patch.service) else { return };
        let moved = !patch.selector.is_empty() && patch.selector != patch.expect_selector;
        if moved && self.status.traffic.iter().any(|traffic| traffic.service == patch.service && traffic.bound) {
            assert!(service.points_at(self.cluster.stores.side()), "{patch:?} in {:?}", self.cluster.stores);
        }
    }

    /// Reconciles until nothing changes any more, without time passing.
    pub fn settle(&mut self) -> &mut Self {
        for _ in 0..MANY {
            if !self.reconcile() {
                return self;
            }
        }
        panic!("it never comes to rest: {}", self.why());
    }

    /// Reconciles, with Jobs that succeed and time that passes, until `there` holds.
    pub fn run_until(&mut self, there: impl Fn(&Self) -> bool) -> &mut Self {
        for _ in 0..MANY {
            if there(self) {
                return self;
            }
            if self.reconcile() || self.cluster.agent_acts() || self.finish_jobs() {
                continue;
            }
            let wake = self.last.as_ref().and_then(|last| last.wake).unwrap_or(Span::secs(30));
            self.now = self.now.after(wake.max(Span::millis(1)));
        }
        panic!("it never comes that far: {}", self.why());
    }

    /// Runs until it has ended, with a person who follows each advice to try again and approves what asks for it.
    pub fn run_to_end(&mut self) -> &mut Self {
        self.run_until(|scene| {
            matches!(scene.status.state, State::Succeeded | State::RolledBack | State::Stalled)
                || scene.hold() == Some("Approval")
        });
        for _ in 0..20 {
            match (self.status.state, self.hold()) {
                (State::Succeeded | State::RolledBack, _) => return self,
                (_, Some("Approval")) => {
                    let phase = self.status.phase.clone().unwrap_or_default();
                    self.approve(&phase);
                }
                (State::Stalled, _) if self.status.next.as_ref().is_some_and(|next| next.contains("/retry=")) => {
                    self.follow_advice("retry");
                }
                (State::Stalled, _) => {
                    self.world.verbs.abort = None;
                    self.world.verbs.rollback = None;
                }
                _ => {}
            }
            self.reconcile();
            self.run_until(|scene| {
                matches!(scene.status.state, State::Succeeded | State::RolledBack | State::Stalled)
                    || scene.hold() == Some("Approval")
            });
        }
        panic!("it never ends: {}", self.why());
    }

    pub fn run_to(&mut self, phase: &str) -> &mut Self {
        self.run_until(|scene| scene.phase(phase) != PhaseState::Pending)
    }

    pub fn run_to_state(&mut self, state: State) -> &mut Self {
        self.run_until(|scene| scene.status.state == state)
    }

    /// Runs until the hold has this word.
    pub fn run_to_hold(&mut self, word: &str) -> &mut Self {
        self.run_until(|scene| scene.hold() == Some(word))
    }

    fn finish_jobs(&mut self) -> bool {
        let slow = self.slow.clone();
        let mut any = false;
        for job in self.cluster.jobs.values_mut() {
            let conducts = job.phase == COPY && job.role == JobRole::Do;
            if job.state == JobState::Active && !conducts && !slow.contains(&(job.phase.clone(), job.role)) {
                job.state = JobState::Succeeded { message: "done".to_owned() };
                any = true;
                if job.phase == COPY && job.role != JobRole::Preflight {
                    self.cluster.stores.leave();
                }
            }
        }
        any
    }

    pub fn pass_time(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now.after(Span::secs(seconds));
        self
    }

    // What happens to it.

    /// The Job of a phase goes on until the test says otherwise.
    pub fn slow(mut self, phase: &str) -> Self {
        self.slow.push((phase.to_owned(), JobRole::Do));
        self
    }

    /// The Job that takes a phase back goes on until the test says otherwise.
    pub fn slow_undo(mut self, phase: &str) -> Self {
        self.slow.push((phase.to_owned(), JobRole::Undo));
        self
    }

    pub fn guard_says(&mut self, name: &str, verdict: Verdict) -> &mut Self {
        let guard = self.world.guards.iter_mut().find(|guard| guard.name == name).expect("the guard is there");
        guard.verdict = verdict;
        guard.value = match verdict {
            Verdict::Pass => Some(0.002),
            Verdict::Breach { .. } => Some(0.25),
            Verdict::Silent { .. } => None,
        };
        let all = self.world.guards.iter().all(|guard| guard.verdict == Verdict::Pass);
        self.world.guarded_since = match (all, self.world.guarded_since) {
            (false, _) => None,
            (true, Some(since)) => Some(since),
            (true, None) => Some(self.now),
        };
        self
    }

    pub fn breach(&mut self) -> &mut Self {
        let sample_at = Some(Time(self.now.0 - 700));
        let seen_at = Time(self.now.0 - 20);
        self.guard_says(ERRORS, Verdict::Breach { sample_at, seen_at })
    }

    pub fn silence(&mut self, why: Silence) -> &mut Self {
        let since = self.now;
        self.guard_says(ERRORS, Verdict::Silent { why, since, over_budget: false })
    }

    pub fn guards_pass(&mut self) -> &mut Self {
        self.guard_says(ERRORS, Verdict::Pass)
    }

    pub fn job_ends(&mut self, phase: &str, role: JobRole, state: JobState) -> &mut Self {
        let job = self
            .cluster
            .jobs
            .values_mut()
            .find(|job| job.phase == phase && job.role == role && job.state == JobState::Active)
            .unwrap_or_else(|| panic!("no Job of {phase} works"));
        job.state = state;
        self
    }

    pub fn job_fails(&mut self, phase: &str, message: &str) -> &mut Self {
        self.job_ends(phase, JobRole::Do, JobState::Failed { message: message.to_owned(), terminal: false })
    }

    pub fn job_succeeds(&mut self, phase: &str) -> &mut Self {
        self.job_ends(phase, JobRole::Do, JobState::Succeeded { message: String::new() })
    }

    pub fn service(&mut self, name: &str) -> &mut Service {
        self.cluster.services.get_mut(name).expect("the Service is there")
    }

    /// Somebody edits a Service's selector by hand.
    pub fn someone_sets(&mut self, service: &str, version: &str) -> &mut Self {
        self.service(service).selector.insert("version".to_owned(), version.to_owned());
        self
    }

    pub fn deleted(&mut self) -> &mut Self {
        self.world.lifecycle = Lifecycle::Deleting;
        self
    }

    pub fn bound(&self, phase: &str) -> String {
        let plan = self.status.plan.as_ref().expect("verbs are bound to a plan");
        verb::binding(phase, &plan.hash, self.status.attempt)
    }

    pub fn abort(&mut self) -> &mut Self {
        self.world.verbs.abort = Some(self.bound("*"));
        self
    }

    pub fn rollback(&mut self) -> &mut Self {
        self.world.verbs.rollback = Some(self.bound("*"));
        self
    }

    pub fn pause(&mut self) -> &mut Self {
        self.world.verbs.pause = Some(self.bound("*"));
        self
    }

    pub fn retry(&mut self) -> &mut Self {
        self.world.verbs.retry = Some(self.bound("*"));
        self
    }

    /// Does what `status.next` says, if it is about this verb.
    pub fn follow_advice(&mut self, verb: &str) -> &mut Self {
        let next = self.status.next.clone().unwrap_or_else(|| panic!("nothing is advised: {}", self.why()));
        let start = format!("alongside.dev/{verb}='");
        let (_, rest) = next.split_once(&start).unwrap_or_else(|| panic!("{next} is not about {verb}"));
        let value = rest.trim_end_matches('\'').to_owned();
        let verbs = &mut self.world.verbs;
        match verb {
            "retry" => verbs.retry = Some(value),
            "abort" => verbs.abort = Some(value),
            "rollback" => verbs.rollback = Some(value),
            "approve" => verbs.approve = Some(value),
            other => panic!("there is no verb {other}"),
        }
        self
    }

    pub fn approve(&mut self, phase: &str) -> &mut Self {
        self.world.verbs.approve = Some(self.bound(phase));
        self.world.verbs.approved_by = Some("mei@shop.example".to_owned());
        self
    }

    // What is seen of it.

    pub fn phase(&self, name: &str) -> PhaseState {
        self.status.phases.iter().find(|phase| phase.name == name).map_or(PhaseState::Pending, |phase| phase.state)
    }

    pub fn traffic(&self, service: &str) -> &TrafficStatus {
        self.status.traffic.iter().find(|traffic| traffic.service == service).expect("the Service is in status")
    }

    pub fn traffic_step(&self, service: &str) -> Option<TrafficStep> {
        self.status.traffic.iter().find(|traffic| traffic.service == service).map(|traffic| traffic.step)
    }

    pub fn works(&self, phase: &str, role: JobRole) -> bool {
        self.cluster.jobs.values().any(|job| job.phase == phase && job.role == role && job.state == JobState::Active)
    }

    /// The side that a Service's selector points at.
    pub fn side(&self, service: &str) -> Option<Side> {
        let service = &self.cluster.services[service];
        [Side::From, Side::To].into_iter().find(|&side| service.points_at(side))
    }

    pub fn hold(&self) -> Option<&str> {
        self.status.hold.as_ref().map(|hold| hold.reason.as_str())
    }

    pub fn role(&self, service: &str) -> Option<Role> {
        self.cluster.services[service].mark.as_ref().map(|mark| mark.role)
    }

    pub fn mark(&self, service: &str) -> Mark {
        self.cluster.services[service].mark.clone().expect("the Service is marked")
    }

    pub fn condition(&self, type_: &str) -> Option<(&str, &str)> {
        let condition = self.status.conditions.iter().find(|condition| condition.type_ == type_)?;
        Some((condition.status.as_str(), condition.reason.as_str()))
    }

    /// What has been told, as words.
    pub fn told(&self, what: &str) -> usize {
        self.notes.iter().filter(|note| note.what == what).count()
    }

    /// Jobs ever made for a phase, suspended ones left out.
    pub fn jobs_of(&self, phase: &str, role: JobRole) -> usize {
        let works = |state: &JobState| match state {
            JobState::Tombstone => false,
            JobState::Active | JobState::Succeeded { .. } | JobState::Failed { .. } => true,
        };
        self.cluster.jobs.values().filter(|job| job.phase == phase && job.role == role && works(&job.state)).count()
    }

    /// The sentence that a failing test prints.
    pub fn why(&self) -> String {
        format!(
            "{:?} {:?}: {} (hold {:?}, phases {:?}, traffic {:?})",
            self.status.state,
            self.status.phase,
            self.status.message,
            self.hold(),
            self.status.phases.iter().map(|phase| phase.state).collect::<Vec<_>>(),
            self.status.traffic.iter().map(|traffic| traffic.step).collect::<Vec<_>>(),
        )
    }
}
