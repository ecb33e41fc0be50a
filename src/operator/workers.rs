//! Asks the workers at work how far they are, brings them what only the operator knows, and keeps the evidence that a
//! verification leaves. Runs beside the reconcile loop: what was heard is looked at, not waited for.
//!
//! Nothing is decided here. A worker that can't be asked works all the same, and its Job's outcome is what counts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::reflector::ObjectRef,
};
use reqwest::Method;
use tokio_util::task::AbortOnDropHandle;

use super::{
    caller::{Call, CallError, Callee, Caller},
    context::{Context, chain, cut, now},
    plans::Frozen,
};
use crate::{
    actions,
    api::{Migration, PHASE_LABEL, Phase, PhaseState, PhaseStatus, WorkStatus},
    engine::{guard::GuardView, plan},
    worker::{
        backfill::controls::{Controls, GuardReading},
        live::{self, Answer, Signals},
        progress::Figures,
    },
};

/// How often a worker is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest evidence that is kept, in bytes: the API server takes objects of up to 1.5 MiB, etcd's limit.
const MAX_EVIDENCE: usize = 1_000_000;

/// The workers that are being asked, by their Job's UID.
#[derive(Clone)]
pub struct Workers {
    caller: Caller,
    followed: Arc<Mutex<HashMap<String, Followed>>>,
}

struct Followed {
    migration: String,
    job: String,
    heard: Arc<Mutex<Heard>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Heard {
    figures: Option<Figures>,
    signals: Signals,
}

/// A worker to follow.
pub struct Worker<'a> {
    /// Its Migration.
    pub migration: &'a Migration,
    /// Name of the phase that it works for.
    pub phase: &'a str,
    /// Name of its Job.
    pub job: &'a str,
    /// UID of its Job.
    pub uid: &'a str,
}

/// Why a worker gave no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("its evidence could not be kept")]
    Keep(#[source] kube::Error),
    #[error("its evidence has {0} bytes, more than an object may have")]
    TooLarge(usize),
}

impl Workers {
    /// Speaks through `caller`.
    pub fn new(caller: Caller) -> Self {
        Self { caller, followed: Arc::default() }
    }

    /// Begins to ask a worker, unless it is being asked already, and brings it `signals` from now on. `notify` is called
    /// when it has said something new.
    pub fn follow(&self, worker: &Worker<'_>, signals: Signals, notify: impl Fn() + Send + Sync + 'static) {
        let mut followed = self.lock();
        if let Some(known) = followed.get(worker.uid) {
            known.heard.lock().unwrap_or_else(PoisonError::into_inner).signals = signals;
            return;
        }
        let heard = Arc::new(Mutex::new(Heard { figures: None, signals }));
        let asking = Asking {
            caller: self.caller.clone(),
            callee: Callee {
                migration: worker.migration.uid().unwrap_or_default(),
                namespace: worker.migration.namespace().unwrap_or_default(),
                job: worker.job.to_owned(),
                port: live::PORT,
            },
            evidence: evidence_of(worker),
            heard: heard.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(async move { asking.run(notify).await }));
        let migration = worker.migration.uid().unwrap_or_default();
        let job = worker.job.to_owned();
        followed.insert(worker.uid.to_owned(), Followed { migration, job, heard, _task: task });
    }

    /// What a Migration's workers said last, by Job.
    pub fn look(&self, migration: &str) -> BTreeMap<String, WorkStatus> {
        let followed = self.lock();
        let ours = followed.values().filter(|followed| followed.migration == migration);
        ours.filter_map(|followed| {
            let heard = followed.heard.lock().unwrap_or_else(PoisonError::into_inner);
            Some((followed.job.clone(), shown(heard.figures.as_ref()?)))
        })
        .collect()
    }

    /// Asks those of a Migration's workers no more whose Job isn't among `jobs`.
    pub fn keep_only(&self, migration: &str, jobs: &[&str]) {
        self.lock().retain(|_, followed| followed.migration != migration || jobs.contains(&followed.job.as_str()));
    }

    /// Asks a Migration's workers no more.
    pub fn forget(&self, migration: &str) {
        self.keep_only(migration, &[]);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(figures: &Figures) -> WorkStatus {
    let Figures { stage, done, total, rate, eta, lag, throttled } = figures.clone();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is no negative number")]
    let rate = rate.round() as u64;
    WorkStatus { stage, done, total, rate, eta, lag, throttled: throttled.as_deref().map(cut), at: now() }
}

/// Asks the workers at work how far they are, and brings them what they go by.
pub fn attend(migration: &Migration, frozen: Option<&Frozen>, ctx: &Context) {
    let uid = migration.uid().unwrap_or_default();
    let status = migration.status.clone().unwrap_or_default();
    let mut attended = Vec::new();
    for known in status.phases.iter().filter(|phase| phase.state == PhaseState::Running) {
        let planned = frozen.and_then(|frozen| frozen.plan.phase(&known.name));
        let Some(job) = known.job.as_ref().filter(|job| !job.settled) else { continue };
        let (Some(job_uid), true) = (&job.uid, planned.is_some_and(actions::can_be_asked)) else { continue };
        let live = migration.spec.phases.iter().find(|phase| phase.name == known.name);
        let signals = live.map(|phase| signals(phase, known, &uid, ctx)).unwrap_or_default();
        let (wake, object) = (ctx.wake.clone(), ObjectRef::from_obj(migration));
        let worker = Worker { migration, phase: &known.name, job: &job.name, uid: job_uid };
        ctx.workers.follow(&worker, signals, move || drop(wake.send(object.clone())));
        attended.push(job.name.as_str());
    }
    ctx.workers.keep_only(&uid, &attended);
}

/// What a phase's worker goes by: the pace that the spec has by now, the guard that it follows, and whether to pause.
fn signals(phase: &Phase, known: &PhaseStatus, uid: &str, ctx: &Context) -> Signals {
    let plan::Action::Backfill(backfill) = plan::action(phase) else { return Signals::default() };
    let throttle = backfill.throttle.clone().unwrap_or_default();
    let followed = throttle.guard.as_ref();
    let view =
        followed.and_then(|name| ctx.board.look(uid, now()).guards.into_iter().find(|guard| guard.name == *name));
    // What is absent means what the worker began with, so what the spec no longer limits is said to be without limit.
    let controls = Controls {
        pause: known.paused.clone(),
        rate: Some(backfill.rate.unwrap_or(u32::MAX)),
        workers: Some(backfill.workers.unwrap_or(1)),
        throttle: Some(throttle),
        guard: view.and_then(reading),
    };
    Signals { controls: Some(controls), evidence_kept: false }
}

/// A guard's last value beside its limit; absent where there is no value or no limit yet, which pauses who follows it.
fn reading(view: GuardView) -> Option<GuardReading> {
    let (limit, is_lowest) = match (view.upper, view.lower) {
        (Some(upper), _) => (upper, false),
        (None, Some(lower)) => (lower, true),
        (None, None) => return None,
    };
    Some(GuardReading {
        name: view.name,
        value: view.value?,
        limit,
        is_lowest,
        sample: view.sample_at?.to_string(),
        max_age: None,
    })
}

/// The object that a verification's evidence is kept in, without the evidence.
fn evidence_of(worker: &Worker<'_>) -> ConfigMap {
    let mut labels = actions::labels(worker.migration);
    labels.insert(PHASE_LABEL.to_owned(), worker.phase.to_owned());
    let owner = kube::Resource::controller_owner_ref(worker.migration, &());
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(format!("{}-evidence", worker.job)),
            labels: Some(labels),
            owner_references: Some(owner.into_iter().collect()),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

struct Asking {
    caller: Caller,
    callee: Callee,
    evidence: ConfigMap,
    heard: Arc<Mutex<Heard>>,
}

impl Asking {
    /// Goes on until it is dropped: with the Job's end, the Migration's, or this replica's leadership.
    async fn run(&self, notify: impl Fn() + Send + Sync) {
        let mut address: Option<String> = None;
        let mut silent = false;
        let mut kept = false;
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            let asked = match &address {
                Some(address) => self.ask(address, &mut kept, &notify).await,
                None => match self.caller.find(&self.callee).await {
                    Ok(found) => {
                        address = found;
                        continue;
                    }
                    Err(error) => Err(error.into()),
                },
            };
            if let Err(error) = &asked {
                address = None;
                if !silent {
                    let (job, error) = (&self.callee.job, chain(error));
                    tracing::info!(job, error, "a worker was not heard from; its Job goes on");
                }
            }
            silent = asked.is_err();
        }
    }

    async fn ask(&self, address: &str, kept: &mut bool, notify: &impl Fn()) -> Result<(), AskError> {
        let signals = {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            Signals { evidence_kept: *kept, ..heard.signals.clone() }
        };
        let body = serde_json::to_vec(&signals).expect("signals are plain data");
        let answer = self.request(Method::POST, address, live::EXCHANGE, body).await?;
        let answer: Answer = answer.json().await.map_err(CallError::Reach)?;
        let news = {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let news = heard.figures.as_ref() != Some(&answer.figures);
            heard.figures = Some(answer.figures);
            news
        };
        if news {
            notify();
        }
        if answer.evidence && !*kept {
            let text = self.request(Method::GET, address, live::EVIDENCE, Vec::new()).await?;
            self.keep(text.text().await.map_err(CallError::Reach)?).await?;
            *kept = true;
        }
        Ok(())
    }

    async fn request(
        &self,
        method: Method,
        address: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<reqwest::Response, AskError> {
        Ok(self.caller.ask(&self.callee, address, Call { method, path, body, timeout: TIMEOUT }).await?)
    }

    async fn keep(&self, text: String) -> Result<(), AskError> {
        if text.len() > MAX_EVIDENCE {
            return Err(AskError::TooLarge(text.len()));
        }
        let maps: Api<ConfigMap> = Api::namespaced(self.caller.client().clone(), &self.callee.namespace);
        let data = Some(BTreeMap::from([("evidence.json".to_owned(), text)]));
        match maps.create(&PostParams::default(), &ConfigMap { data, ..self.evidence.clone() }).await {
            Ok(_) => Ok(()),
            // Kept before, by a leader that didn't come to say so.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(AskError::Keep(error)),
        }
    }
}
