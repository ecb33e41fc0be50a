//! The steps of the model: operators read, decide, write and perform; the world goes its own way beside them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use alongside::{
    api::{MigrationStatus, OnBreach, State as Life, Time, TrafficStep},
    engine::{
        Decision, Plan, Plans, decide,
        effect::Effect,
        guard::{GuardView, Silence, Verdict},
        mark::Role,
        plan,
        world::{Lifecycle, Preflight, Side, Verbs, World},
    },
};
use stateright::{Model, Property};

use crate::{
    cluster::{Cluster, Job, Landed, Service, labels},
    fixture::{ERRORS, Migrating, NAME, NAMESPACE, UID},
    kept::{Kept, hash_of},
    mutants::Mutant,
    people::Event,
    promises::{Broken, Promise},
    state::{Budget, Ledger, Look, Mood, Object, Operator, Order, Pending, Put, Rest, Server, State},
};

const BEGINNING: Time = Time(1_764_000_000_000);
const HOUR: i64 = 3_600_000;

/// What one decision came to, as the model keeps it.
#[derive(Debug)]
pub struct Outcome {
    pub status: Kept<MigrationStatus>,
    pub at_once: Vec<Kept<Effect>>,
    pub after: Vec<Kept<Effect>>,
    pub wakes: bool,
    pub holds: bool,
}

/// What has been seen at least once, over all runs of a model: the proof that it reaches what matters.
#[derive(Debug, Default)]
pub struct Seen {
    pub late_writes_refused: AtomicU64,
    pub lane_1_before_status: AtomicU64,
    pub status_conflicts: AtomicU64,
    pub late_jobs_refused: AtomicU64,
    pub decisions: AtomicU64,
}

impl Seen {
    pub fn landed(&self, effect: &Effect, landed: Landed) {
        match (effect, landed) {
            (Effect::PatchService(_), Landed::Refused) => self.late_writes_refused.fetch_add(1, Relaxed),
            (Effect::CreateJob(job), Landed::Same) if job.tombstone => self.late_jobs_refused.fetch_add(1, Relaxed),
            _ => 0,
        };
    }
}

/// What has been worked out before.
#[derive(Debug)]
pub struct Memo<T>(RwLock<HashMap<u64, T>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T: Clone> Memo<T> {
    pub fn get(&self, key: u64, work_out: impl FnOnce() -> T) -> T {
        if let Some(known) = self.0.read().expect("no thread has panicked").get(&key) {
            return known.clone();
        }
        let found = work_out();
        self.0.write().expect("no thread has panicked").insert(key, found.clone());
        found
    }
}

/// One model: a plan, what may happen to it, and possibly a rule switched off.
pub struct Sim {
    pub name: &'static str,
    pub plan: Plan,
    pub budget: Budget,
    /// Where the run begins.
    pub start: State,
    pub mutant: Mutant,
    pub seen: Seen,
    decided: Memo<Arc<Outcome>>,
    pub landings: Memo<(Server, Landed)>,
    pub healed: RwLock<HashSet<u64>>,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// An operator reads and decides.
    Decide { operator: usize, old_status: bool, old_jobs: bool },
    /// Its status write reaches the API server, which takes or refuses it.
    PutLands { operator: usize, answer_lost: bool },
    /// One of its writes that wait for nothing lands.
    AtOnceLands { operator: usize, which: usize, twice: bool },
    /// The next of its other effects lands.
    EffectLands { operator: usize, answer_lost: bool, twice: bool },
    /// The leader freezes, and the other one leads.
    Freeze,
    /// The leader dies and starts again.
    Crash,
    /// Something happens to the cluster.
    Happens(Event),
}

impl Sim {
    pub fn new(name: &'static str, migration: &Migrating, budget: Budget) -> Self {
        let plan = migration.plan();
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
        let names = plan.phases().iter().filter_map(|phase| phase.switch.as_ref());
        let services: BTreeMap<String, Service> = names
            .flat_map(|switch| switch.service_names())
            .map(|name| (name.to_owned(), service(&format!("uid-of-{name}"))))
            .collect();
        let object = Object {
            status: Kept::status(MigrationStatus::default()),
            verbs: Kept::new(Verbs::default()),
            lifecycle: Lifecycle::Alive,
            finalizer: false,
        };
        let server = Server {
            object,
            services: Kept::new(services),
            jobs: Kept::new(BTreeMap::new()),
            rest: Kept::new(Rest::default()),
            mood: Mood::Pass,
            clock: 0,
        };
        let operators = [Operator { leads: true, ..Operator::default() }, Operator::default()];
        let start =
            State { server, operators, budget, ledger: Kept::new(Ledger::default()), broken: Broken::default() };
        Self {
            name,
            plan,
            budget,
            start,
            mutant: Mutant::None,
            seen: Seen::default(),
            decided: Memo::default(),
            landings: Memo::default(),
            healed: RwLock::default(),
        }
    }

    /// The same model with a rule switched off.
    pub fn without(mut self, mutant: Mutant) -> Self {
        self.mutant = mutant;
        self
    }

    /// Begins where the first phase is about to: the plan is frozen and the Services are claimed.
    #[expect(clippy::wrong_self_convention, reason = "it reads as a sentence")]
    pub fn from_claimed(self) -> Self {
        self.from(|status| {
            let claimed = |traffic: &alongside::api::TrafficStatus| traffic.step == TrafficStep::ClaimIntended;
            !status.traffic.is_empty() && status.traffic.iter().all(claimed)
        })
    }

    /// Begins where a run without faults first fulfils a condition, at rest.
    pub fn from(mut self, there: impl Fn(&MigrationStatus) -> bool) -> Self {
        let mut state = self.start.clone();
        for _ in 0..200 {
            if there(&state.server.object.status) {
                for operator in &mut state.operators {
                    *operator = Operator { leads: operator.leads, ..Operator::default() };
                }
                state.budget = self.budget;
                self.start = state;
                return self;
            }
            state = self.smoothly(&state).expect("a run without faults goes on until it ends");
        }
        panic!("a run without faults never gets there");
    }

    /// Positions of the phases that are done by a Job, and whether it can be undone.
    pub fn works(&self) -> impl Iterator<Item = (usize, bool)> + '_ {
        self.plan.phases().iter().enumerate().filter_map(|(index, phase)| match plan::action(phase) {
            plan::Action::Sql(_) | plan::Action::Job(_) | plan::Action::Backfill(_) | plan::Action::Verify(_) => {
                Some((index, plan::undo(phase) == plan::Undo::Job))
            }
            plan::Action::Replicate(_)
            | plan::Action::Switch(_)
            | plan::Action::Observe(_)
            | plan::Action::Bake(_)
            | plan::Action::Approval => None,
        })
    }

    pub fn has_switch(&self) -> bool {
        self.plan.phases().iter().any(|phase| phase.switch.is_some())
    }

    pub fn has_timeouts(&self) -> bool {
        self.plan.phases().iter().any(|phase| phase.timeout.is_some())
    }

    pub fn now(server: &Server) -> Time {
        Time(BEGINNING.0 + i64::from(server.clock) * HOUR)
    }

    pub fn world(
        &self,
        server: &Server,
        object: &Object,
        services: &BTreeMap<String, Service>,
        jobs: &BTreeMap<String, Job>,
    ) -> World {
        let cluster = Cluster { services: services.clone(), jobs: jobs.clone(), ..server.cluster() };
        let verdict = match server.mood {
            Mood::Pass => Verdict::Pass,
            Mood::Breach => Verdict::Breach { sample_at: None, seen_at: BEGINNING },
            Mood::Silent => Verdict::Silent { why: Silence::NoData, since: BEGINNING, over_budget: false },
        };
        let mut world = World {
            uid: UID.to_owned(),
            name: NAME.to_owned(),
            namespace: NAMESPACE.to_owned(),
            generation: 1,
            lifecycle: object.lifecycle,
            verbs: (*object.verbs).clone(),
            preflight: Preflight { asked: true, findings: vec![] },
            plan_stored: server.rest.revisions.contains(&self.plan.hash),
            guards: vec![GuardView {
                name: ERRORS.to_owned(),
                on_breach: OnBreach::Rollback,
                dry_run: false,
                verdict,
                value: None,
                limit: String::new(),
                upper: None,
                lower: None,
                sample_at: None,
            }],
            guarded_since: (server.mood == Mood::Pass).then_some(BEGINNING),
            ..World::default()
        };
        cluster.show(&mut world);
        world.finalizer = object.finalizer;
        world
    }

    /// Decides, as an operator would that sees this much.
    pub fn decide(
        &self,
        server: &Server,
        object: &Object,
        services: &Kept<BTreeMap<String, Service>>,
        jobs: &Kept<BTreeMap<String, Job>>,
    ) -> Arc<Outcome> {
        let key = hash_of(&(object, services, jobs, &server.rest, server.mood, server.clock));
        self.decided.get(key, || Arc::new(self.decide_anew(server, object, services, jobs)))
    }

    fn decide_anew(
        &self,
        server: &Server,
        object: &Object,
        services: &Kept<BTreeMap<String, Service>>,
        jobs: &Kept<BTreeMap<String, Job>>,
    ) -> Outcome {
        let mut world = self.world(server, object, services, jobs);
        let lies = self.mutant.distort(&object.status, &mut world);
        let frozen = (world.plan_stored && object.status.plan.is_some()).then_some(&self.plan);
        let plans = Plans { frozen, candidate: Ok(&self.plan) };
        let mut decision = decide(&plans, &object.status, &world, Self::now(server));
        self.mutant.meddle(self, &object.status, &world, &lies, &mut decision);
        self.seen.decisions.fetch_add(1, Relaxed);
        let Decision { status, at_once, after, wake, notes: _ } = decision;
        let holds = status.hold.is_some();
        Outcome {
            status: Kept::status(status),
            at_once: at_once.into_iter().map(Kept::new).collect(),
            after: after.into_iter().map(Kept::new).collect(),
            wakes: wake.is_some(),
            holds,
        }
    }

    /// What is true now of the Services, for those who look now.
    pub fn look(server: &Server, ledger: &Ledger) -> Look {
        let all = |serves: fn(&Service) -> u32| server.services.values().all(|service| serves(service) > 0);
        Look {
            from_served: all(|service| service.from_serving),
            to_served: all(|service| service.to_serving),
            on_new_side: server.is_on_new_side(),
            moved_and_not_back: server
                .services
                .iter()
                .any(|(name, service)| service.points_at(Side::To) && ledger.moved.contains(name)),
            all_on_new_side: server.services.values().all(|service| service.points_at(Side::To)),
            guards_passed: crate::mutants::passes(server.mood),
        }
    }

    /// An operator reads and decides; what it wants is on its way then. `None` if it wants nothing.
    fn begin(&self, state: &State, operator: usize, old_status: bool, old_jobs: bool) -> Option<State> {
        let mut next = state.clone();
        let me = &mut next.operators[operator];
        let object = if old_status { me.object.clone()? } else { state.server.object.clone() };
        let jobs = if old_jobs {
            me.jobs.clone().unwrap_or_else(|| Kept::new(BTreeMap::new()))
        } else {
            state.server.jobs.clone()
        };
        // What the predecessor saw, for one decision: only a mutant decides by it.
        let services = me.services.take().filter(|_| operator == 1).unwrap_or_else(|| state.server.services.clone());
        let outcome = self.decide(&state.server, &object, &services, &jobs);
        let look = Self::look(&state.server, &state.ledger);
        let ended = matches!(outcome.status.state, Life::Succeeded | Life::RolledBack);
        if !old_status {
            let evidence = services.values().any(|service| {
                service.mark.as_ref().is_some_and(|mark| {
                    mark.uid == UID && mark.attempt == object.status.attempt && mark.role == Role::Back
                })
            });
            let follows = outcome.status.rollback.is_some() || ended;
            next.broken.note(Promise::EvidenceIsNeverOverlooked, evidence && !follows);
        }
        let order = |effect: &Kept<Effect>| Order { effect: effect.clone(), look };
        let changed = outcome.status != object.status;
        let mut pending = Pending {
            put: Some(Put { status: outcome.status.clone(), version: object.version(), look }),
            at_once: outcome.at_once.iter().map(order).collect(),
            after: outcome.after.iter().map(order).collect(),
        };
        if !changed && (pending.after.is_empty() || self.mutant.trusts_what_it_read()) {
            pending.put = None;
        }
        let me = &mut next.operators[operator];
        let idle = pending.put.is_none() && pending.at_once.is_empty() && pending.after.is_empty();
        me.pending = (!idle).then_some(pending);
        if !old_status {
            me.object = Some(object);
        }
        if !old_jobs {
            me.jobs = Some(jobs);
        }
        if self.mutant.looks_at_old_services() && operator == 0 {
            me.services = Some(services);
        }
        if state.operators[operator].leads {
            next.budget.old_status -= u8::from(old_status);
            next.budget.old_jobs -= u8::from(old_jobs);
        } else {
            next.budget.deposed -= 1;
        }
        Some(next)
    }

    /// The API server takes a status write, or refuses it.
    fn put(&self, state: &State, operator: usize, answer_lost: bool) -> Option<State> {
        let mut next = state.clone();
        let pending = next.operators[operator].pending.as_mut()?;
        let put = pending.put.take()?;
        if put.version == state.server.object.version() {
            if answer_lost {
                pending.after.clear();
            }
            let was = state.server.object.status.clone();
            next.server.object.status = put.status;
            next.look_at_status(self, &was, put.look);
        } else {
            self.seen.status_conflicts.fetch_add(1, Relaxed);
            pending.after.clear();
        }
        next.budget.lost -= u8::from(answer_lost);
        Some(next)
    }

    fn at_once(&self, state: &State, operator: usize, which: usize, twice: bool) -> Option<State> {
        let mut next = state.clone();
        let pending = next.operators[operator].pending.as_mut()?;
        if pending.put.is_some() {
            self.seen.lane_1_before_status.fetch_add(1, Relaxed);
        }
        let order = if twice { pending.at_once[which].clone() } else { pending.at_once.remove(which) };
        next.land(self, &order);
        next.budget.twice -= u8::from(twice);
        Some(next)
    }

    fn effect(&self, state: &State, operator: usize, answer_lost: bool, twice: bool) -> Option<State> {
        let mut next = state.clone();
        let pending = next.operators[operator].pending.as_mut()?;
        let order = if twice { pending.after.first()?.clone() } else { pending.after.remove(0) };
        if answer_lost {
            pending.after.clear();
        }
        next.land(self, &order);
        next.budget.lost -= u8::from(answer_lost);
        next.budget.twice -= u8::from(twice);
        Some(next)
    }

    /// Forgets what can make no difference any more, so that states that are alike are the same.
    fn tidy(state: &mut State) {
        let budget = state.budget;
        for operator in &mut state.operators {
            if operator.pending.as_ref().is_some_and(|p| p.put.is_none() && p.at_once.is_empty() && p.after.is_empty())
            {
                operator.pending = None;
            }
            let may_be_deposed = budget.deposed > 0 && (!operator.leads || budget.freeze > 0);
            if budget.old_status == 0 && !may_be_deposed {
                operator.object = None;
            }
            if budget.old_jobs == 0 && !may_be_deposed {
                operator.jobs = None;
            }
        }
        state.look_at_jobs();
    }

    /// The leader decides, writes and performs, and nothing comes between.
    pub fn turn(&self, state: &State) -> Option<State> {
        let leader = state.operators.iter().position(|operator| operator.leads)?;
        let mut next = state.clone();
        next.budget = Budget::default();
        let mut next = self.begin(&next, leader, false, false)?;
        while let Some(pending) = &next.operators[leader].pending {
            next = if pending.put.is_some() {
                self.put(&next, leader, false)?
            } else if !pending.at_once.is_empty() {
                self.at_once(&next, leader, 0, false)?
            } else if !pending.after.is_empty() {
                self.effect(&next, leader, false, false)?
            } else {
                next.operators[leader].pending = None;
                next
            };
        }
        Some(next)
    }

    /// A run without faults: the leader does what it wants at once; Jobs succeed and time passes when it wants nothing.
    pub fn smoothly(&self, state: &State) -> Option<State> {
        let mut next = self.turn(state)?;
        if next.server == state.server {
            if next.server.cluster().agent_acts() {
                crate::people::agent_acts(&mut next);
                return Some(next);
            }
            let at_work = crate::people::jobs_at_work(&next);
            if at_work.is_empty() {
                next.server.clock += 1;
            }
            for name in at_work {
                crate::people::succeed(self, &mut next, &name);
            }
        }
        Some(next)
    }
}

impl Model for Sim {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start.clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let budget = &state.budget;
        for (operator, me) in state.operators.iter().enumerate() {
            let Some(pending) = &me.pending else {
                let deposed = !me.leads && budget.deposed > 0 && me.object.is_some();
                if me.leads {
                    actions.push(Action::Decide { operator, old_status: false, old_jobs: false });
                }
                let old_status = deposed || (me.leads && budget.old_status > 0 && me.object.is_some());
                let old_jobs = me.leads && budget.old_jobs > 0;
                if old_status {
                    actions.push(Action::Decide { operator, old_status: true, old_jobs: false });
                }
                if old_jobs {
                    actions.push(Action::Decide { operator, old_status: false, old_jobs: true });
                }
                if old_status && (old_jobs || deposed) {
                    actions.push(Action::Decide { operator, old_status: true, old_jobs: true });
                }
                continue;
            };
            let lost = [false, true].into_iter().filter(|lost| !lost || budget.lost > 0);
            let twice = [false, true].into_iter().filter(|twice| !twice || budget.twice > 0);
            if pending.put.is_some() {
                actions.extend(lost.clone().map(|answer_lost| Action::PutLands { operator, answer_lost }));
            }
            for which in 0..pending.at_once.len() {
                actions.extend(twice.clone().map(|twice| Action::AtOnceLands { operator, which, twice }));
            }
            if !pending.after.is_empty() && (pending.put.is_none() || self.mutant.performs_before_it_is_written()) {
                for answer_lost in lost {
                    actions.extend(twice.clone().map(|twice| Action::EffectLands { operator, answer_lost, twice }));
                }
            }
        }
        let leader = &state.operators[0];
        if budget.freeze > 0 && leader.leads && (leader.pending.is_some() || budget.deposed > 0) {
            actions.push(Action::Freeze);
        }
        if budget.crash > 0 && state.operators.iter().any(|operator| operator.leads && operator.pending.is_some()) {
            actions.push(Action::Crash);
        }
        actions.extend(crate::people::events(self, state).into_iter().map(Action::Happens));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = match action {
            Action::Decide { operator, old_status, old_jobs } => self.begin(state, operator, old_status, old_jobs)?,
            Action::PutLands { operator, answer_lost } => self.put(state, operator, answer_lost)?,
            Action::AtOnceLands { operator, which, twice } => self.at_once(state, operator, which, twice)?,
            Action::EffectLands { operator, answer_lost, twice } => self.effect(state, operator, answer_lost, twice)?,
            Action::Freeze => {
                let mut next = state.clone();
                next.operators[0].leads = false;
                next.operators[1].leads = true;
                next.operators[1].services = next.operators[0].services.take();
                next.budget.freeze -= 1;
                next
            }
            Action::Crash => {
                let mut next = state.clone();
                next.budget.crash -= 1;
                for operator in next.operators.iter_mut().filter(|operator| operator.leads) {
                    operator.pending = None;
                }
                next
            }
            Action::Happens(event) => crate::people::happens(self, state, event)?,
        };
        Self::tidy(&mut next);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::properties::all()
    }
}
