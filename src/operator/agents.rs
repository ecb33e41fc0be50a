//! Listens to the agents that keep stores in step, and tells them where writes are to go. Runs beside the reconcile loop: an
//! agent's news wakes it, and what it decides goes out as an order.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use reqwest::Method;
use tokio_util::task::AbortOnDropHandle;

use super::{
    caller::{Call, CallError, Callee, Caller},
    context::{Context, chain, cut, now},
    plans::Frozen,
};
use crate::{
    actions::replicate::PORT,
    api::{Migration, PhaseState, Span, WorkStatus},
    engine::{
        effect::{AgentGoal, AgentOrder},
        plan,
        world::AgentView,
    },
    worker::agent::{
        course::{Clients, Side, StreamState},
        state::{AttemptOutcome, Command, Stage, State},
    },
};

/// How long the answer to an order may take; an order is given again.
const ORDER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long news may stay away. The agent holds a question open for 20 s at most.
const NEWS_TIMEOUT: Duration = Duration::from_secs(25);
/// Between two tries to reach an agent.
const RETRY: Duration = Duration::from_millis(200);
/// Between two tries, once it has been away for a while.
const LATER: Duration = Duration::from_secs(1);
/// How soon figures are asked for while a first copy is under way, which isn't news of itself.
const COPY_EVERY: Duration = Duration::from_secs(1);

/// The agents that are being listened to, by their Job's UID.
#[derive(Clone)]
pub struct Agents {
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
    address: Option<String>,
    state: Option<State>,
}

/// Why an order didn't get through.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Nobody listens to that agent, or its pod doesn't run.
    #[error("the agent of Job {job} is not there to be told")]
    Away {
        /// Its Job.
        job: String,
    },
    /// It gave no answer, or refused.
    #[error("the agent of Job {job} did not take an order")]
    Call {
        /// Its Job.
        job: String,
        /// Why.
        #[source]
        source: CallError,
    },
}

impl Agents {
    /// Speaks through `caller`.
    pub fn new(caller: Caller) -> Self {
        Self { caller, followed: Arc::default() }
    }

    /// Begins to listen to the agent of a Job, unless it is listened to already. `notify` is called when it has said
    /// something that a decision looks at.
    fn follow(&self, migration: &Migration, job: &str, uid: &str, notify: impl Fn() + Send + Sync + 'static) {
        let mut followed = self.lock();
        if followed.contains_key(uid) {
            return;
        }
        let heard = Arc::new(Mutex::new(Heard::default()));
        let callee = Callee {
            migration: migration.uid().unwrap_or_default(),
            namespace: migration.namespace().unwrap_or_default(),
            job: job.to_owned(),
            port: PORT,
        };
        let listening = Listening { caller: self.caller.clone(), callee, heard: heard.clone() };
        let task = AbortOnDropHandle::new(tokio::spawn(async move { listening.run(notify).await }));
        let migration = migration.uid().unwrap_or_default();
        followed.insert(uid.to_owned(), Followed { migration, job: job.to_owned(), heard, _task: task });
    }

    /// What a Migration's agents said last, by Job; without those that aren't heard from.
    pub fn look(&self, migration: &str) -> BTreeMap<String, AgentView> {
        self.each(migration, view)
    }

    /// How far their first copies are, by Job.
    pub fn work(&self, migration: &str) -> BTreeMap<String, WorkStatus> {
        self.each(migration, work)
    }

    fn each<T>(&self, migration: &str, read: fn(&State) -> T) -> BTreeMap<String, T> {
        let followed = self.lock();
        let ours = followed.values().filter(|followed| followed.migration == migration);
        ours.filter_map(|followed| {
            let heard = followed.heard.lock().unwrap_or_else(PoisonError::into_inner);
            Some((followed.job.clone(), read(heard.state.as_ref()?)))
        })
        .collect()
    }

    /// Tells an agent where writes are to go.
    ///
    /// # Errors
    /// It may have heard it all the same: what it says next tells.
    pub async fn tell(&self, migration: &str, order: &AgentOrder) -> Result<(), OrderError> {
        let job = order.job.clone();
        let found = {
            let followed = self.lock();
            let mut ours = followed.values().filter(|followed| followed.migration == migration);
            ours.find(|followed| followed.job == job).map(|followed| followed.heard.clone())
        };
        let address = found.and_then(|heard| heard.lock().unwrap_or_else(PoisonError::into_inner).address.clone());
        let Some(address) = address else { return Err(OrderError::Away { job }) };
        let (path, command) = command(migration, order);
        let body = serde_json::to_vec(&command).expect("a command is plain data");
        let namespace = String::new();
        let callee = Callee { migration: migration.to_owned(), namespace, job: job.clone(), port: PORT };
        let call = Call { method: Method::POST, path, body, timeout: ORDER_TIMEOUT };
        match self.caller.ask(&callee, &address, call).await {
            Ok(_) => Ok(()),
            Err(source) => Err(OrderError::Call { job, source }),
        }
    }

    /// Listens to those of a Migration's agents no more whose Job isn't among `jobs`.
    fn keep_only(&self, migration: &str, jobs: &[&str]) {
        self.lock().retain(|_, followed| followed.migration != migration || jobs.contains(&followed.job.as_str()));
    }

    /// Listens to a Migration's agents no more.
    pub fn forget(&self, migration: &str) {
        self.keep_only(migration, &[]);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens to the agents that a Migration has by now.
pub fn attend(migration: &Migration, frozen: Option<&Frozen>, ctx: &Context) {
    let uid = migration.uid().unwrap_or_default();
    let mut attended = Vec::new();
    for known in migration.status.iter().flat_map(|status| &status.phases) {
        let planned = frozen.and_then(|frozen| frozen.plan.phase(&known.name));
        let works = [PhaseState::Running, PhaseState::Done].contains(&known.state);
        if !works || !planned.is_some_and(plan::conducts) {
            continue;
        }
        let Some(job) = known.job.as_ref().filter(|job| !job.settled) else { continue };
        let Some(job_uid) = &job.uid else { continue };
        let (wake, object) = (ctx.wake.clone(), ObjectRef::from_obj(migration));
        ctx.agents.follow(migration, &job.name, job_uid, move || drop(wake.send(object.clone())));
        attended.push(job.name.as_str());
    }
    ctx.agents.keep_only(&uid, &attended);
}

fn command(migration: &str, order: &AgentOrder) -> (&'static str, Command) {
    let plain = Command {
        uid: migration.to_owned(),
        epoch: order.epoch,
        term: None,
        only_try: false,
        deadline: None,
        on_fence_timeout: None,
    };
    match order.goal {
        AgentGoal::Stay => ("/lift", plain),
        AgentGoal::CutOver { term } => ("/cut-over", Command { term: Some(term), ..plain }),
        AgentGoal::Back { term, deadline, on_timeout } => {
            ("/back", Command { term: Some(term), deadline, on_fence_timeout: Some(on_timeout), ..plain })
        }
    }
}

/// What a decision looks at of what an agent says.
fn view(state: &State) -> AgentView {
    let flows = matches!(state.clients, Some(Clients::Flowing | Clients::NoProxy | Clients::Unreachable));
    let moved = state.last_attempt.as_ref().filter(|attempt| attempt.outcome == AttemptOutcome::Moved);
    let applies = [&state.forward, &state.reverse].iter().any(|stream| stream.state == Some(StreamState::Enabled));
    AgentView {
        in_step: state.stage == Stage::Conducting && state.copy.done && applies,
        term: state.term,
        asked: state.asked,
        epoch: state.epoch,
        serves: flows && state.open.is_some_and(|open| state.term.is_some_and(|term| Side::serving(term) == open)),
        settled: state.settled,
        trouble: state.waits_for.as_deref().or(state.trouble.as_deref()).map(cut),
        held: moved.map(|attempt| Span::millis(attempt.held_millis)),
        left_behind: state.left_behind.as_ref().and_then(|left| left.bytes),
    }
}

/// How far a first copy is, in rows; afterwards how far the other store is behind.
fn work(state: &State) -> WorkStatus {
    let word = match state.stage {
        Stage::Beginning => "beginning",
        Stage::Copying => "copying",
        Stage::Conducting => "in step",
        Stage::Leaving => "leaving",
    };
    let lag = state.lag_millis.and_then(|millis| u64::try_from(millis).ok()).map(Span::millis);
    let throttled = state.trouble.as_deref().map(cut);
    WorkStatus { stage: word.to_owned(), done: state.copy.rows, lag, throttled, at: now(), ..WorkStatus::default() }
}

struct Listening {
    caller: Caller,
    callee: Callee,
    heard: Arc<Mutex<Heard>>,
}

impl Listening {
    /// Goes on until it is dropped: with the Job's end, the Migration's, or this replica's leadership.
    async fn run(&self, notify: impl Fn() + Send + Sync) {
        let mut failures = 0_u32;
        loop {
            let heard = self.once(&notify).await;
            if let Err(error) = heard {
                failures = failures.saturating_add(1);
                if failures == 1 {
                    let (job, error) = (&self.callee.job, chain(&error));
                    tracing::info!(job, error, "an agent is not heard from");
                }
                let known = {
                    let mut heard = self.lock();
                    heard.address = None;
                    heard.state.take().is_some()
                };
                if known {
                    notify();
                }
            } else {
                failures = 0;
            }
            if failures > 0 {
                tokio::time::sleep(if failures > 25 { LATER } else { RETRY }).await;
            }
        }
    }

    /// Waits for the agent's next news.
    async fn once(&self, notify: &impl Fn()) -> Result<(), CallError> {
        let (address, known) = {
            let heard = self.lock();
            let version = heard.state.as_ref().map(|state| (state.version, state.stage));
            (heard.address.clone(), version)
        };
        let Some(address) = address else {
            let found = self.caller.find(&self.callee).await?;
            if found.is_none() {
                tokio::time::sleep(RETRY).await;
            }
            self.lock().address = found;
            return Ok(());
        };
        let path = match known {
            Some((version, Stage::Conducting)) => format!("/state?after={version}"),
            Some((_, Stage::Beginning | Stage::Copying | Stage::Leaving)) => {
                tokio::time::sleep(COPY_EVERY).await;
                "/state".to_owned()
            }
            None => "/state".to_owned(),
        };
        let call = Call { method: Method::GET, path: &path, body: Vec::new(), timeout: NEWS_TIMEOUT };
        let answer = self.caller.ask(&self.callee, &address, call).await?;
        let state: State = answer.json().await.map_err(CallError::Reach)?;
        let is_news = {
            let mut heard = self.lock();
            let before = heard.state.replace(state.clone());
            let copies = state.stage != Stage::Conducting;
            before.is_none_or(|before| view(&before) != view(&state) || (copies && before.copy != state.copy))
        };
        if is_news {
            notify();
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
