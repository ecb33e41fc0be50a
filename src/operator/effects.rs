//! Performs effects. Each is idempotent; what came of it is seen by the next look.

use k8s_openapi::api::{apps::v1::ControllerRevision, batch::v1::Job, core::v1::ConfigMap};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
    runtime::reflector::ObjectRef,
};
use serde_json::json;

use super::{
    agents::OrderError,
    context::{Context, now},
    fault::{self, Moment},
    plans::{self, Frozen, PlanError},
    record::Recorded,
};
use crate::{
    actions::{self, At, switch},
    api::{CHILD_FINALIZER, FIELD_MANAGER, FINALIZER, Migration, UID_LABEL},
    engine::{
        effect::{AgentOrder, Effect, JobOrder, ServicePatch},
        order_back_in, way_back_in,
    },
};

/// How long a Job is kept once its outcome is in status, in seconds.
const TTL_SECONDS: i32 = 86_400;

/// Why an effect was not performed.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// A write to a Service.
    #[error(transparent)]
    Switch(#[from] switch::PatchError),
    /// A plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan that an effect needs isn't at hand.
    #[error("the plan of the effect is not at hand")]
    NoPlan,
    /// A Job under that name isn't ours.
    #[error("Job {name} exists and belongs to someone else")]
    ForeignJob {
        /// Name of the Job.
        name: String,
    },
    /// A ConfigMap under the name of a Job's task isn't ours. Whatever it holds would run with the store's credentials.
    #[error("ConfigMap {name} exists and is not the task of its Job; delete it and the Job is made")]
    ForeignTask {
        /// Name of the ConfigMap.
        name: String,
    },
    /// Any other request.
    #[error("could not {what}")]
    Api {
        /// What was tried.
        what: &'static str,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// An order to an agent.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// This replica doesn't lead any more.
    #[error("this replica does not lead any more")]
    NotLeader,
}

/// What effects are performed with.
#[derive(Clone, Copy)]
pub struct Performer<'a> {
    /// The Migration.
    pub migration: &'a Migration,
    /// The plan that Jobs are made from.
    pub frozen: Option<&'a Frozen>,
    /// What the spec would freeze to.
    pub candidate: Option<&'a Frozen>,
    /// What every reconcile shares.
    pub ctx: &'a Context,
}

impl Performer<'_> {
    /// Performs recorded effects in order. Stops at the first that fails: the next look decides anew.
    pub async fn perform(&self, recorded: Recorded) -> Result<(), EffectError> {
        for effect in recorded.effects() {
            if self.ctx.leadership.term().is_none() {
                return Err(EffectError::NotLeader);
            }
            let name = effect.name();
            fault::point(name, Moment::Before).await;
            self.one(effect).await?;
            fault::point(name, Moment::After).await;
        }
        Ok(())
    }

    /// Lane 1's door: the way back of traffic, without waiting for its record. All Services at once.
    pub async fn perform_now(&self, effects: &[Effect]) -> Result<(), EffectError> {
        let patches = effects.iter().filter_map(way_back_in).map(|patch| self.way_back(patch));
        let orders = effects.iter().filter_map(order_back_in).map(|order| self.order_back(order));
        let (moved, told) = tokio::join!(futures::future::join_all(patches), futures::future::join_all(orders));
        moved.into_iter().chain(told).collect()
    }

    async fn way_back(&self, patch: &ServicePatch) -> Result<(), EffectError> {
        fault::point(fault::WAY_BACK, Moment::Before).await;
        self.write(&self.ctx.lane_1, patch).await?;
        fault::point(fault::WAY_BACK, Moment::After).await;
        self.ctx.metrics.ways_back.inc();
        Ok(())
    }

    async fn order_back(&self, order: &AgentOrder) -> Result<(), EffectError> {
        fault::point(fault::ORDER_BACK, Moment::Before).await;
        self.order(order).await?;
        fault::point(fault::ORDER_BACK, Moment::After).await;
        Ok(())
    }

    /// Tells an agent where writes are to go. One that isn't there is told once it is.
    async fn order(&self, order: &AgentOrder) -> Result<(), EffectError> {
        match self.ctx.agents.tell(&self.migration.uid().unwrap_or_default(), order).await {
            Ok(()) => Ok(()),
            Err(away @ OrderError::Away { .. }) => {
                tracing::info!(migration = self.migration.name_any(), "{away}");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes to a Service, and remembers why if nobody may.
    async fn write(&self, client: &Client, patch: &ServicePatch) -> Result<(), switch::PatchError> {
        let written = switch::write(client, &self.namespace(), patch).await;
        self.ctx.memories.with(&self.migration.uid().unwrap_or_default(), |memory| match &written {
            Err(switch::PatchError::Denied { service, why }) => {
                memory.denied.insert(service.clone(), why.clone());
            }
            Ok(()) | Err(switch::PatchError::Refused { .. } | switch::PatchError::Gone { .. }) => {
                memory.denied.remove(&patch.service);
            }
            Err(switch::PatchError::Api { .. }) => {}
        });
        written
    }

    async fn one(&self, effect: Effect) -> Result<(), EffectError> {
        match effect {
            Effect::FreezePlan { revision, hash } => {
                let plan = [self.candidate, self.frozen].into_iter().flatten().find(|frozen| frozen.plan.hash == hash);
                plans::store(self.migration, &revision, plan.ok_or(EffectError::NoPlan)?, &self.ctx.client).await?;
                Ok(())
            }
            Effect::AddFinalizer => self.add_finalizer().await,
            Effect::RemoveFinalizer => self.remove_finalizers().await,
            Effect::CreateJob(order) => {
                let made = self.create_job(&order).await;
                let uid = self.migration.uid().unwrap_or_default();
                self.ctx.memories.job_was_asked_for(&uid, &order.name, made.as_ref().err());
                made
            }
            Effect::SettleJob { name } => self.settle_job(&name).await,
            Effect::StopJob { name, uid } => self.stop_job(&name, uid).await,
            Effect::PatchService(patch) => {
                self.write(&self.ctx.client, &patch).await?;
                Ok(())
            }
            Effect::Order(order) => self.order(&order).await,
            Effect::Drain(order) => {
                let wake = self.ctx.wake.clone();
                let migration = ObjectRef::from_obj(self.migration);
                let uid = self.migration.uid().unwrap_or_default();
                let notify = move || drop(wake.send(migration.clone()));
                let leadership = self.ctx.leadership.clone();
                let term = leadership.term();
                let leads = move || term.is_some() && leadership.term() == term;
                self.ctx.drains.begin(&uid, &self.namespace(), order, now(), leads, notify);
                Ok(())
            }
        }
    }

    fn namespace(&self) -> String {
        self.migration.namespace().unwrap_or_default()
    }

    fn params() -> PatchParams {
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
    }

    async fn add_finalizer(&self) -> Result<(), EffectError> {
        let mut finalizers = self.migration.finalizers().to_vec();
        if finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(());
        }
        finalizers.push(FINALIZER.to_owned());
        self.write_finalizers(finalizers, "put the finalizer on the Migration").await
    }

    /// Lets go of everything: children first, for without the Migration nobody would.
    async fn remove_finalizers(&self) -> Result<(), EffectError> {
        let uid = self.migration.uid().unwrap_or_default();
        let ours = ListParams::default().labels(&format!("{UID_LABEL}={uid}"));
        let revisions: Api<ControllerRevision> = Api::namespaced(self.ctx.client.clone(), &self.namespace());
        let list = revisions.list(&ours).await.map_err(api("list the plans"))?;
        for revision in list.items.iter().filter(|revision| has_child_finalizer(*revision)) {
            free(&revisions, &revision.name_any()).await?;
        }
        let jobs: Api<Job> = Api::namespaced(self.ctx.client.clone(), &self.namespace());
        let list = jobs.list(&ours).await.map_err(api("list the Jobs"))?;
        for job in list.items.iter().filter(|job| has_child_finalizer(*job)) {
            free(&jobs, &job.name_any()).await?;
        }
        let going = self.migration.metadata.deletion_timestamp.is_some();
        for job in list.items.iter().filter(|job| going && job.owner_references().is_empty()) {
            // Made while the Migration was going away, and so without an owner that would take it along.
            self.delete_job(&job.name_any(), None, PropagationPolicy::Background).await?;
            self.delete_task(&job.name_any()).await?;
        }
        let kept = self.migration.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
        self.write_finalizers(kept, "take the finalizer off the Migration").await
    }

    async fn write_finalizers(&self, finalizers: Vec<String>, what: &'static str) -> Result<(), EffectError> {
        let api_: Api<Migration> = Api::namespaced(self.ctx.client.clone(), &self.namespace());
        // The list is replaced as a whole, so nobody else's change to it may have been missed: the UID alone tells that
        // it is the same object, the finalizers that were read stand in for its version.
        let read = self.migration.finalizers();
        let mut operations = vec![json!({ "op": "test", "path": "/metadata/uid", "value": self.migration.uid() })];
        if read.is_empty() {
            operations.push(json!({ "op": "add", "path": "/metadata/finalizers", "value": finalizers }));
        } else {
            operations.push(json!({ "op": "test", "path": "/metadata/finalizers", "value": read }));
            operations.push(json!({ "op": "replace", "path": "/metadata/finalizers", "value": finalizers }));
        }
        let patch: json_patch::Patch =
            serde_json::from_value(json!(operations)).expect("the operations are well-formed");
        let name = self.migration.name_any();
        match api_.patch_metadata(&name, &Self::params(), &Patch::Json::<()>(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(EffectError::Api { what, source: Box::new(source) }),
        }
    }

    async fn create_job(&self, order: &JobOrder) -> Result<(), EffectError> {
        let frozen = self.frozen.ok_or(EffectError::NoPlan)?;
        let index = frozen.plan.index_of(&order.phase).ok_or(EffectError::NoPlan)?;
        let at = At { migration: self.migration, spec: &frozen.plan.spec, index, phase: &frozen.plan.phases()[index] };
        let job = actions::job_of(at, order, &self.ctx.config.image).ok_or(EffectError::NoPlan)?;
        let scripts = frozen.scripts.get(&order.phase).map(Vec::as_slice);
        if let Some(task) =
            actions::task_of(at, order, scripts, self.ctx.caller.public_key()).filter(|_| !order.tombstone)
        {
            self.create_task(task).await?;
        }
        let jobs: Api<Job> = Api::namespaced(self.ctx.client.clone(), &self.namespace());
        match jobs.create(&PostParams::default(), &job).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                let live = jobs.get(&order.name).await.map_err(api("read a Job"))?;
                let ours = live.labels().get(UID_LABEL) == self.migration.uid().as_ref();
                if ours { Ok(()) } else { Err(EffectError::ForeignJob { name: order.name.clone() }) }
            }
            Err(source) => Err(EffectError::Api { what: "make a Job", source: Box::new(source) }),
        }
    }

    /// The task of a Job of ours, as an immutable ConfigMap of the same name.
    async fn create_task(&self, mut task: ConfigMap) -> Result<(), EffectError> {
        task.metadata.labels = Some(actions::labels(self.migration));
        // Without an owner while the Migration goes away, like its Job; it is deleted once the Job is settled.
        let going = self.migration.metadata.deletion_timestamp.is_some();
        let owner = self.migration.controller_owner_ref(&()).filter(|_| !going);
        task.metadata.owner_references = Some(owner.into_iter().collect());
        let maps: Api<ConfigMap> = Api::namespaced(self.ctx.client.clone(), &self.namespace());
        match maps.create(&PostParams::default(), &task).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                // Who may make ConfigMaps may not read the store's Secret: what is there runs only if it is what we said.
                let live = maps.get(&task.name_any()).await.map_err(api("read the ConfigMap of a Job's task"))?;
                let ours = live.labels().get(UID_LABEL) == self.migration.uid().as_ref()
                    && live.immutable == Some(true)
                    && (&live.data, &live.binary_data) == (&task.data, &None);
                if ours { Ok(()) } else { Err(EffectError::ForeignTask { name: task.name_any() }) }
            }
            Err(source) => {
                Err(EffectError::Api { what: "make the ConfigMap of a Job's task", source: Box::new(source) })
            }
        }
    }

    /// Deletes the task of a Job, if it has one.
    async fn delete_task(&self, job: &str) -> Result<(), EffectError> {
        let what = "delete the ConfigMap of a Job's task";
        let maps: Api<ConfigMap> = Api::namespaced(self.ctx.client.clone(), &self.namespace());
        let Some(live) = maps.get_metadata_opt(job).await.map_err(api(what))? else { return Ok(()) };
        if live.labels().get(UID_LABEL) != self.migration.uid().as_ref() {
            return Ok(());
        }
        let preconditions = Some(Preconditions { uid: live.uid(), resource_version: None });
        match maps.delete(job, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(source) => Err(EffectError::Api { what, source: Box::new(source) }),
        }
    }

    async fn settle_job(&self, name: &str) -> Result<(), EffectError> {
        let jobs: Api<Job> = Api::namespaced(self.ctx.client.clone(), &self.namespace());
        let ttl = json!({ "spec": { "ttlSecondsAfterFinished": TTL_SECONDS } });
        match jobs.patch(name, &Self::params(), &Patch::Merge(ttl)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(source) => return Err(EffectError::Api { what: "settle a Job", source: Box::new(source) }),
        }
        if self.migration.metadata.deletion_timestamp.is_some() {
            self.delete_task(name).await?;
        }
        free(&jobs, name).await
    }

    /// Stops a Job by suspending it: the Job controller ends its pods, and the name stays taken, so that a late create of
    /// a frozen leader finds it. A Job that is being deleted isn't looked after by its controller any more, and our own
    /// finalizer keeps the garbage collector from its pods; in the foreground they go first.
    async fn stop_job(&self, name: &str, uid: String) -> Result<(), EffectError> {
        let jobs: Api<Job> = Api::namespaced(self.ctx.client.clone(), &self.namespace());
        let operations = json!([
            { "op": "test", "path": "/metadata/uid", "value": uid },
            { "op": "add", "path": "/spec/suspend", "value": true },
        ]);
        let operations = serde_json::from_value(operations).expect("the operations are well-formed");
        match jobs.patch(name, &Self::params(), &Patch::Json::<()>(operations)).await {
            Ok(job) if job.metadata.deletion_timestamp.is_some() => {
                self.delete_job(name, Some(uid), PropagationPolicy::Foreground).await
            }
            Ok(_) => Ok(()),
            // It is gone, or another one is there under its name.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 422 => Ok(()),
            Err(source) => Err(EffectError::Api { what: "stop a Job", source: Box::new(source) }),
        }
    }

    async fn delete_job(&self, name: &str, uid: Option<String>, policy: PropagationPolicy) -> Result<(), EffectError> {
        let jobs: Api<Job> = Api::namespaced(self.ctx.client.clone(), &self.namespace());
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: uid.map(|uid| Preconditions { uid: Some(uid), resource_version: None }),
            ..DeleteParams::default()
        };
        match jobs.delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(source) => Err(EffectError::Api { what: "delete a Job", source: Box::new(source) }),
        }
    }
}

fn api(what: &'static str) -> impl Fn(kube::Error) -> EffectError {
    move |source| EffectError::Api { what, source: Box::new(source) }
}

fn has_child_finalizer(object: &impl ResourceExt) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == CHILD_FINALIZER)
}

/// Takes our finalizer off a child. Nobody else puts any on what only we make, but it is left alone if somebody did.
async fn free<K>(api_: &Api<K>, name: &str) -> Result<(), EffectError>
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let Some(live) = api_.get_metadata_opt(name).await.map_err(api("read a child"))? else { return Ok(()) };
    let Some(position) = live.finalizers().iter().position(|finalizer| finalizer == CHILD_FINALIZER) else {
        return Ok(());
    };
    let path = format!("/metadata/finalizers/{position}");
    let operations = json!([
        { "op": "test", "path": path, "value": CHILD_FINALIZER },
        { "op": "remove", "path": path },
    ]);
    let operations = serde_json::from_value(operations).expect("the operations are well-formed");
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api_.patch_metadata(name, &params, &Patch::Json::<()>(operations)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(EffectError::Api { what: "take our finalizer off a child", source: Box::new(source) }),
    }
}
